//! Serves HTTP/2 on accepted connections, with limits for the resources of a connection.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::server::Connected as _;
use tower::{Service, ServiceExt as _};
use tracing::debug;

use super::tls::{Age, Connection, jittered};

/// Interval of keepalive pings, which detect dead peers.
const PING: Duration = Duration::from_secs(30);
/// Deadline of the response to a ping.
const PONG: Duration = Duration::from_secs(20);
/// Concurrent streams of one connection. Clients know the number and wait.
const STREAMS: u32 = 1000;
/// Calls that were cancelled before the server accepted them, at one time. A normal client, which has at most [`STREAMS`]
/// open, may cancel all of them several times within one read; a rapid-reset attack exceeds the limit.
const CANCELLED: usize = 8 * STREAMS as usize;
/// Frames for streams that are closed already, over the lifetime of a connection. A client whose call was rejected while it
/// was still sending has some in flight, so many are allowed; each may leave a few bytes in the queue to the client.
const LATE_FRAMES: usize = 65_536;
/// Bytes of all headers of a request.
const HEADERS: u32 = 16 * 1024;
/// Flow-control window of a stream in bytes.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Flow-control window of a connection in bytes.
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Bytes of a response that wait for a slow client, in addition to one message.
const SEND_BUFFER: usize = 64 * 1024;

/// Serves until `shutdown`, then waits for calls in flight. A connection also ends with its [`Lifetime`](super::tls::Lifetime):
/// the server sends GOAWAY, and closes it after the grace period. Dropping the future closes all connections at once.
pub async fn serve<S>(
    connections: impl Stream<Item = Result<Connection, Infallible>>,
    service: S,
    age: Age,
    shutdown: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut serving = JoinSet::new();
    {
        // Dropped before calls in flight end, which closes the listener.
        let mut connections = pin!(connections);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = serving.join_next() => {}
                next = connections.next() => match next {
                    Some(Ok(connection)) => {
                        serving.spawn(serve_connection(connection, service.clone(), age, shutdown.clone()));
                    }
                    None => break,
                },
            }
        }
    }
    while serving.join_next().await.is_some() {}
}

async fn serve_connection<S>(connection: Connection, service: S, age: Age, shutdown: CancellationToken)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let info = connection.connect_info();
    let (remote_addr, lifetime) = (info.remote_addr, info.lifetime.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(info.clone());
        service.clone().oneshot(request)
    });
    let mut serving = pin!(builder().serve_connection(TokioIo::new(connection), service));
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = lifetime.run(jittered(age.most)) => {
            debug!(?remote_addr, end = ?lifetime.end(), "connection ends");
            // Tells the client to send new calls elsewhere; calls in flight have the grace period.
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(age.grace, serving).await.unwrap_or(Ok(()))
        }
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        debug!(?remote_addr, %error, "connection failed");
    }
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(CANCELLED)
        .max_local_error_reset_streams(LATE_FRAMES)
        .max_header_list_size(HEADERS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    builder
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio_util::task::AbortOnDropHandle;
    use tonic::transport::Endpoint;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    use super::*;
    use crate::connections::{Caps, ConnectionMeters};
    use crate::tls::incoming;

    const AGE: Age = Age { most: Duration::from_hours(1), grace: Duration::from_secs(1) };

    /// A server that answers `Watch` with the sent messages, and counts all other calls, which hang.
    async fn server(
        hung: Arc<AtomicUsize>,
    ) -> (std::net::SocketAddr, mpsc::UnboundedSender<Bytes>, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let caps = Caps { total: 10, per_address: 10 };
        let connections = incoming(listener, None, caps, ConnectionMeters::new().unwrap());
        let (sender, receiver) = mpsc::unbounded_channel::<Bytes>();
        let receiver = Arc::new(parking_lot::Mutex::new(Some(receiver)));
        let service = tower::service_fn(move |request: Request<Body>| {
            let watched = request.uri().path().ends_with("Watch").then(|| receiver.lock().take()).flatten();
            let hung = Arc::clone(&hung);
            async move {
                let Some(receiver) = watched else {
                    hung.fetch_add(1, Ordering::Relaxed);
                    return std::future::pending().await;
                };
                let frames = futures::stream::unfold(receiver, |mut receiver| async {
                    let message = receiver.recv().await?;
                    Some((Ok::<_, tonic::Status>(Frame::data(message)), receiver))
                });
                let answer = Response::builder().header("content-type", "application/grpc");
                Ok(answer.body(Body::new(StreamBody::new(frames))).unwrap_or_default())
            }
        });
        let serving = serve(connections, service, AGE, CancellationToken::new());
        (address, sender, AbortOnDropHandle::new(tokio::spawn(serving)))
    }

    #[tokio::test]
    async fn a_thousand_calls_cancelled_at_once_end_no_stream_of_their_connection() {
        let hung = Arc::new(AtomicUsize::new(0));
        let (address, sender, _serving) = server(Arc::clone(&hung)).await;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let client = HealthClient::new(endpoint.connect().await.unwrap());
        // An empty message.
        let message = Bytes::from_static(&[0, 0, 0, 0, 0]);
        sender.send(message.clone()).unwrap();
        let watch = client.clone().watch(HealthCheckRequest::default()).await.unwrap();
        let mut watch = watch.into_inner();
        assert!(watch.message().await.unwrap().is_some());
        for round in 0..3 {
            let calls: Vec<_> = (0..1000)
                .map(|_| {
                    let mut client = client.clone();
                    tokio::spawn(async move { client.check(HealthCheckRequest::default()).await })
                })
                .collect();
            if round > 0 {
                // Some calls have arrived by now; in the first round none had the time.
                while hung.load(Ordering::Relaxed) < 100 * round {
                    tokio::task::yield_now().await;
                }
            }
            for call in calls {
                call.abort();
            }
        }
        sender.send(message).unwrap();
        let next = tokio::time::timeout(Duration::from_secs(10), watch.message()).await.unwrap();
        assert!(next.unwrap().is_some(), "the stream goes on");
    }

    /// Frames of HTTP/2: a call with only pseudo-headers of the static table, and its cancellation.
    fn cancelled_call(stream: u32) -> Vec<u8> {
        // POST, http, /, and the end of the headers and of the stream.
        let mut frames = vec![0, 0, 3, 1, 5];
        frames.extend(stream.to_be_bytes());
        frames.extend([0x83, 0x86, 0x84]);
        frames.extend([0, 0, 4, 3, 0]);
        frames.extend(stream.to_be_bytes());
        frames.extend([0, 0, 0, 8]);
        frames
    }

    #[tokio::test]
    async fn a_rapid_reset_ends_its_own_connection_and_no_other() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let hung = Arc::new(AtomicUsize::new(0));
        let (address, sender, _serving) = server(Arc::clone(&hung)).await;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let mut client = HealthClient::new(endpoint.connect().await.unwrap());
        let message = Bytes::from_static(&[0, 0, 0, 0, 0]);
        sender.send(message.clone()).unwrap();
        let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert!(watch.message().await.unwrap().is_some());

        let mut attack = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        bytes.extend((0..200_000).flat_map(|call| cancelled_call(2 * call + 1)));
        let attacking = async {
            // The connection may be closed before all of it was sent.
            let _ = attack.write_all(&bytes).await;
            let mut rest = Vec::new();
            let _ = tokio::time::timeout(Duration::from_secs(5), attack.read_to_end(&mut rest)).await;
        };
        attacking.await;
        sender.send(message).unwrap();
        let next = tokio::time::timeout(Duration::from_secs(10), watch.message()).await.unwrap();
        assert!(next.unwrap().is_some(), "another connection goes on");
    }
}
