//! Ends the calls of a connection that ends: streams get a status from which clients resume, and a client whose
//! certificate is not valid any more gets nothing more. Unary calls in progress may finish until the connection is
//! closed.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::{Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::body::Body;
use tower::{Layer, Service};

use super::audit::Note;
use super::error;
use runtime::tls::{ConnectInfo, End, Lifetime};

/// Layer that ends calls with their connection.
#[derive(Debug, Clone, Copy)]
pub struct Endings;

impl<S> Layer<S> for Endings {
    type Service = Ending<S>;

    fn layer(&self, inner: S) -> Ending<S> {
        Ending { inner }
    }
}

#[derive(Debug, Clone)]
pub struct Ending<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for Ending<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let lifetime = request.extensions().get::<ConnectInfo>().map(|info| info.lifetime.clone());
        if let Some(end) = lifetime.as_ref().and_then(Lifetime::end).filter(|end| end.is_for_cause()) {
            if let Some(note) = request.extensions().get::<Note>() {
                note.deny("the client certificate is not valid any more");
            }
            // Nothing was done, so the client may repeat the call on a new connection.
            let refused = error::not_served(end.reason()).into_http();
            return Box::pin(async move { Ok(refused) });
        }
        let answering = self.inner.call(request);
        Box::pin(async move {
            let response = answering.await?;
            let Some(lifetime) = lifetime else { return Ok(response) };
            Ok(response.map(|body| {
                let ending = Box::pin(lifetime.ending().cancelled_owned());
                Body::new(EndingBody { body, lifetime, ending, is_over: false })
            }))
        })
    }
}

/// A body that ends once its connection begins to end and no frame is ready.
struct EndingBody {
    body: Body,
    lifetime: Lifetime,
    ending: Pin<Box<WaitForCancellationFutureOwned>>,
    is_over: bool,
}

impl hyper::body::Body for EndingBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if self.ending.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.is_over = true;
        let status = error::unavailable(self.lifetime.end().unwrap_or(End::Age).reason());
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::sync::mpsc;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    type Frames = mpsc::UnboundedSender<Result<Frame<Bytes>, tonic::Status>>;

    async fn answered(lifetime: &Lifetime) -> (Frames, Response<Body>) {
        let (frames, receiver) = mpsc::unbounded_channel();
        let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
        let response = parking_lot::Mutex::new(Some(Response::new(Body::new(StreamBody::new(stream)))));
        let inner = service_fn(move |_: Request<Body>| {
            let response = response.lock().take().unwrap_or_default();
            async move { Ok::<_, Infallible>(response) }
        });
        let mut request = Request::new(Body::empty());
        let lifetime = lifetime.clone();
        request.extensions_mut().insert(ConnectInfo {
            remote_addr: None,
            encrypted: true,
            peer: None,
            lifetime,
        });
        (frames, Endings.layer(inner).oneshot(request).await.unwrap())
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_connection_and_says_that_it_can_be_resumed() {
        let lifetime = Lifetime::default();
        let (frames, response) = answered(&lifetime).await;
        let mut body = response.into_body();
        frames.send(Ok(Frame::data(Bytes::from_static(b"one")))).unwrap();
        lifetime.finish(End::Age);
        let first = body.frame().await.unwrap().unwrap();
        assert_eq!(first.data_ref().unwrap(), "one", "what was ready comes first");
        let last = body.frame().await.unwrap().unwrap();
        assert_eq!(last.trailers_ref().unwrap()["grpc-status"], "14");
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn an_old_connection_serves_and_one_with_an_invalid_certificate_does_not() {
        let lifetime = Lifetime::default();
        lifetime.finish(End::Age);
        let (_frames, response) = answered(&lifetime).await;
        assert!(!response.headers().contains_key("grpc-status"));
        for end in [End::Expired, End::Distrusted] {
            let lifetime = Lifetime::default();
            lifetime.finish(end);
            let (_frames, response) = answered(&lifetime).await;
            assert_eq!(response.headers()["grpc-status"], "14");
        }
    }
}
