//! From a listener to ready connections.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt as _, future, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::{ConnectInfo, PeerIdentity, ServerTls};

const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Handshakes at a time. More clients wait in the kernel's queue.
const MAX_HANDSHAKES: usize = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection whose handshake, if it needs one, is done.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    info: ConnectInfo,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Accepts connections and does their handshakes, up to 256 at a time, each in its own task and within 10 seconds.
///
/// One slow client delays nobody; a failed handshake is logged and forgotten. The stream never ends and never fails.
pub fn incoming(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
) -> impl Stream<Item = Result<Connection, Infallible>> + Send {
    stream::unfold(listener, |listener| async move { Some((accept(&listener).await, listener)) })
        .map(move |(stream, remote_addr)| {
            // A task of its own: signing must not hold up the loop that accepts.
            AbortOnDropHandle::new(tokio::spawn(handshake(stream, remote_addr, tls.clone())))
        })
        .buffer_unordered(MAX_HANDSHAKES)
        .filter_map(|done| future::ready(done.ok().flatten().map(Ok)))
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                warn!(%error, "failed to accept a connection");
                // Out of file descriptors, as a rule: trying at once would only spin.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn handshake(
    stream: TcpStream,
    remote_addr: SocketAddr,
    tls: Option<Arc<ServerTls>>,
) -> Option<Connection> {
    // Answers are small and awaited: Nagle's algorithm would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%remote_addr, %error, "the connection is gone already");
        return None;
    }
    let Some(tls) = tls else {
        let info = ConnectInfo { remote_addr: Some(remote_addr), encrypted: false, peer: None };
        return Some(Connection { io: Io::Plain(stream), info });
    };
    let accepting = TlsAcceptor::from(tls.current()).accept(stream);
    let stream = match tokio::time::timeout(HANDSHAKE_DEADLINE, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            debug!(%remote_addr, %error, "TLS handshake failed");
            return None;
        }
        Err(_) => {
            debug!(%remote_addr, "TLS handshake took too long");
            return None;
        }
    };
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = leaf.and_then(|certificate| PeerIdentity::from_certificate(certificate));
    let info = ConnectInfo { remote_addr: Some(remote_addr), encrypted: true, peer };
    Some(Connection { io: Io::Tls(Box::new(stream)), info })
}

impl Connected for Connection {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
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
