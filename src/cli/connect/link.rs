//! One connection: TCP, TLS, and the first bytes of the server. Implemented here because tonic reports TLS errors only
//! as text, and because only the first bytes show that the server accepts this client.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::diagnosis::{Failure, Sides, Stage, of_first_bytes, of_tcp, unknown_host};
use super::race::{DELAY, first_success};

/// Maximum size of a TLS record.
const RECORD: usize = 16 << 10;

/// Connects to one server, and reconnects after failures.
#[derive(Clone)]
pub struct Dialer {
    /// Host for TCP.
    pub host: String,
    /// Port for TCP.
    pub port: u16,
    /// `None` is plaintext.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Names for messages.
    pub sides: Arc<Sides>,
    /// Stage of the newest connection.
    pub stage: Arc<watch::Sender<Stage>>,
    /// Timeout of TCP and TLS.
    pub limit: Duration,
}

impl Dialer {
    pub async fn dial(self) -> Result<TokioIo<Watched>, Failure> {
        let connected = match timeout(self.limit, self.connect()).await {
            Ok(connected) => connected.map_err(|error| self.sides.explain(&error, &self.stage.borrow())),
            Err(_) => Err(self.stage.borrow().late(self.limit)),
        };
        let (io, encrypted) = connected.inspect_err(|failure| {
            self.stage.send_replace(Stage::Failed(failure.clone()));
        })?;
        self.stage.send_replace(Stage::Silent);
        Ok(TokioIo::new(Watched { io, encrypted, failed: None, sides: self.sides, stage: self.stage }))
    }

    async fn connect(&self) -> io::Result<(Box<dyn Io>, bool)> {
        self.stage.send_replace(Stage::Connecting);
        let (host, port) = (self.host.as_str(), self.port);
        let addresses = lookup_host((host, port)).await.map_err(|error| unknown_host(&error, host))?;
        let attempts = addresses.map(|address| async move {
            let stream = TcpStream::connect(address).await;
            let stream = stream.map_err(|error| (Reached::Nothing, of_tcp(error, host, port)))?;
            self.secure(stream).await.map_err(|error| (Reached::Server, error))
        });
        let failed = match first_success(attempts, DELAY).await {
            Ok(connected) => return Ok(connected),
            // A server that was reached says more than an address where nothing listens.
            Err(failures) => failures.into_iter().max_by_key(|(reached, _)| *reached),
        };
        Err(failed
            .map_or_else(|| unknown_host(&io::Error::other("it has no address"), host), |(_, error)| error))
    }

    /// Adds TLS to a connection, unless it is plaintext.
    async fn secure(&self, stream: TcpStream) -> io::Result<(Box<dyn Io>, bool)> {
        stream.set_nodelay(true)?;
        let Some((config, name)) = &self.tls else { return Ok((Box::new(stream), false)) };
        self.stage.send_replace(Stage::Securing);
        let stream = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other(Failure(
                "the server speaks TLS, but no HTTP/2, so no gRPC".to_owned(),
            )));
        }
        Ok((Box::new(stream), true))
    }
}

/// How far a connection got that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Nothing,
    Server,
}

/// A byte stream, plaintext or TLS.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection that records whether the server has responded, and why it ended.
pub struct Watched {
    io: Box<dyn Io>,
    encrypted: bool,
    /// Error of a write, kept while the server's alert is read.
    failed: Option<io::Error>,
    sides: Arc<Sides>,
    stage: Arc<watch::Sender<Stage>>,
}

impl Watched {
    fn is_silent(&self) -> bool {
        *self.stage.borrow() == Stage::Silent
    }

    fn fail(&self, failure: Failure) -> io::Error {
        self.stage.send_replace(Stage::Failed(failure.clone()));
        io::Error::other(failure)
    }

    fn explained(&self, error: &io::Error) -> io::Error {
        let failure = match &*self.stage.borrow() {
            // Keep the first failure.
            Stage::Failed(failure) => failure.clone(),
            stage => self.sides.explain(error, stage),
        };
        self.fail(failure)
    }

    /// Checks the first bytes, or the end without any.
    fn first(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Err(self.fail(self.sides.closed()));
        }
        if let Some(failure) = of_first_bytes(bytes).filter(|_| !self.encrypted) {
            return Err(self.fail(failure));
        }
        self.stage.send_replace(Stage::Answered);
        Ok(())
    }

    /// Explains a failed write. A server that rejects a client sends an alert and closes, and a write may fail before
    /// the alert is read: read it first.
    fn poll_last_word(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let error = self.failed.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
        if !self.is_silent() {
            return Poll::Ready(error);
        }
        let mut bytes = vec![0; RECORD];
        let mut buffer = ReadBuf::new(&mut bytes);
        Poll::Ready(match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
            Poll::Pending => {
                self.failed = Some(error);
                return Poll::Pending;
            }
            Poll::Ready(Err(alert)) => self.explained(&alert),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => self.explained(&error),
            Poll::Ready(Ok(())) => match self.first(buffer.filled()) {
                Err(failure) => failure,
                Ok(()) => self.explained(&error),
            },
        })
    }

    /// Passes on the result of a write or flush, with a failure explained.
    fn poll_written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(Err(error)) => {
                self.failed = Some(error);
                self.poll_last_word(cx).map(Err)
            }
            other => other,
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let has_room = buffer.remaining() > 0;
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buffer));
        Poll::Ready(match read {
            Err(error) => Err(self.explained(&error)),
            Ok(()) if has_room && self.is_silent() => self.first(&buffer.filled()[before..]),
            Ok(()) => Ok(()),
        })
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.failed.is_some() {
            return self.poll_last_word(cx).map(Err);
        }
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.poll_written(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failed.is_some() {
            return self.poll_last_word(cx).map(Err);
        }
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.poll_written(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
