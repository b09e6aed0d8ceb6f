//! Accepts connections and completes their handshakes.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt as _, future, stream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::lifetime::Registered;
use super::server::Proof;
use super::{ConnectInfo, ServerTls};
use crate::connections::{Caps, Closed, ConnectionMeters, Open, Origin, ServerKind, Slot, Slots, Yields};

/// For TLS and the first bytes of HTTP/2.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Concurrent handshakes. A new connection displaces the oldest one of the busiest address.
const HANDSHAKES: Caps = Caps { total: 512, per_address: 128 };
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// First bytes of every HTTP/2 client.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose handshake is done and whose client speaks HTTP/2.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    info: ConnectInfo,
    /// The rest of the preface, which was already read, for the HTTP/2 server.
    preface: &'static [u8],
    displaced: Pin<Box<WaitForCancellationFutureOwned>>,
    _slot: Slot,
    _open: Open,
    /// Ends the connection when its client is no longer trusted.
    _registered: Option<Registered>,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Limits and counts the connections of a listener.
#[derive(Debug, Clone)]
struct Door {
    tls: Option<Arc<ServerTls>>,
    handshakes: Slots,
    connections: Slots,
    meters: ConnectionMeters,
}

/// Accepts connections and completes their handshakes up to the HTTP/2 preface, each in its own task and within 10 seconds.
///
/// A failed handshake is logged and counted. A connection beyond `caps` is closed at once. The stream never ends and never
/// fails.
pub fn incoming(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    caps: Caps,
    meters: ConnectionMeters,
) -> impl Stream<Item = Result<Connection, Infallible>> + Send {
    let door = Door {
        tls,
        handshakes: Slots::new(HANDSHAKES, Yields::Oldest),
        connections: Slots::new(caps, Yields::Newest),
        meters,
    };
    stream::unfold(listener, |listener| async move { Some((accept(&listener).await, listener)) })
        .map(move |(stream, remote_addr)| {
            // A separate task: signing must not delay the accept loop.
            AbortOnDropHandle::new(tokio::spawn(door.clone().admit(stream, remote_addr)))
        })
        // Slots bound the handshakes; twice as many permits, so that displaced ones that are ending do not delay new ones.
        .buffer_unordered(HANDSHAKES.total * 2)
        .filter_map(|done| future::ready(done.ok().flatten().map(Ok)))
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                warn!(%error, "failed to accept a connection");
                // Usually out of file descriptors: an immediate retry would spin.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Door {
    /// Completes the handshake; `None` if the connection was closed.
    async fn admit(self, stream: TcpStream, remote_addr: SocketAddr) -> Option<Connection> {
        let origin = Origin::from(remote_addr);
        let admitted = async {
            let handshake = self.handshakes.take(origin)?;
            let (io, info, registered) = tokio::select! {
                done = tokio::time::timeout(HANDSHAKE_DEADLINE, handshaken(stream, remote_addr, self.tls)) => {
                    done.map_err(|_| Closed::HandshakeTimeout)?
                        .inspect_err(|error| debug!(%remote_addr, %error, "handshake failed"))
                        .map_err(|_| Closed::HandshakeFailed)?
                }
                () = handshake.displaced().cancelled() => return Err(Closed::Displaced),
            };
            let slot = self.connections.take(origin)?;
            Ok(Connection {
                io,
                info,
                preface: PREFACE,
                displaced: Box::pin(slot.displaced().clone().cancelled_owned()),
                _registered: registered,
                _slot: slot,
                _open: self.meters.opened(ServerKind::Grpc),
            })
        };
        let admitted: Result<Connection, Closed> = admitted.await;
        admitted
            .inspect_err(|why| {
                debug!(%remote_addr, ?why, "connection closed");
                self.meters.closed(ServerKind::Grpc, *why);
            })
            .ok()
    }
}

/// TLS if configured, then the HTTP/2 preface.
async fn handshaken(
    stream: TcpStream,
    remote_addr: SocketAddr,
    tls: Option<Arc<ServerTls>>,
) -> io::Result<(Io, ConnectInfo, Option<Registered>)> {
    // Responses are small: Nagle's algorithm would only delay them.
    stream.set_nodelay(true)?;
    let encrypted = tls.is_some();
    let (mut io, Proof { peer, lifetime, registered }) = match tls {
        None => (Io::Plain(stream), Proof::none()),
        Some(tls) => {
            let (stream, proof) = tls.accept(stream).await?;
            (Io::Tls(Box::new(stream)), proof)
        }
    };
    let mut preface = [0; PREFACE.len()];
    match &mut io {
        Io::Plain(stream) => stream.read_exact(&mut preface).await?,
        Io::Tls(stream) => stream.read_exact(&mut preface).await?,
    };
    if preface != *PREFACE {
        return Err(io::Error::other("the client does not speak HTTP/2"));
    }
    Ok((io, ConnectInfo { remote_addr: Some(remote_addr), encrypted, peer, lifetime }, registered))
}

impl Connected for Connection {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.displaced.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::other("another client address needs the connection's slot")));
        }
        if !this.preface.is_empty() && buf.remaining() > 0 {
            let (now, later) = this.preface.split_at(this.preface.len().min(buf.remaining()));
            buf.put_slice(now);
            this.preface = later;
            return Poll::Ready(Ok(()));
        }
        match &mut this.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
