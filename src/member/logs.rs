//! The log of a container as a stream.
//!
//! Nothing is read ahead: a slow caller slows down the node through the connection, and costs one piece of memory. The
//! content goes to the caller alone. When a log is followed the node sends the timestamp of each line, which is removed
//! again: with it the caller can continue at another replica.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::AsyncBufReadExt as _;
use futures::io::AsyncBufRead;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource as _;
use kube::core::Request;
use kube::core::subresource::LogParams;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::client::Lasting;
use crate::error::{Error, Result, chain};
use domain::names::{ClusterName, Namespace};
use domain::pod::{LogOptions, Position, Untimed};

/// Logs of one cluster that are read at once.
const AT_ONCE: usize = 64;
/// Bytes of a piece, at most.
const PIECE: usize = 32 * 1024;

/// A log, piece by piece; ends where the log ends.
pub type Log = BoxStream<'static, Result<Piece>>;

/// A piece of a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece {
    /// What was written.
    pub content: Bytes,
    /// Where to go on after it; of a log that is followed.
    pub end: Option<Position>,
}

impl fmt::Debug for Piece {
    /// What a workspace wrote is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({} bytes)", self.content.len())
    }
}

type Reader = Pin<Box<dyn AsyncBufRead + Send>>;

/// Reads logs of one cluster.
#[derive(Clone)]
pub struct Logs {
    cluster: ClusterName,
    client: kube::Client,
    patience: Duration,
    places: Arc<Semaphore>,
}

impl Logs {
    /// Reads through `client`; no longer than `patience` is waited for an answer, nor for a piece of a log that is not followed.
    pub fn new(cluster: ClusterName, client: kube::Client, patience: Duration) -> Self {
        Self { cluster, client, patience, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Opens the log of a container. An error here is the cluster's answer; later ones come as the last item.
    pub async fn open(
        &self,
        namespace: &Namespace,
        pod: &str,
        container: &str,
        options: &LogOptions,
    ) -> Result<Log> {
        let action = format!("read the log of pod {namespace}/{pod}");
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let reason = format!("{AT_ONCE} logs are read there already");
            return Err(Error::Unsent { cluster: self.cluster.clone(), action, reason });
        };
        let reading = Reading { logs: self.clone(), action, _place: place };
        let request = |options: &LogOptions| request(namespace, pod, container, options);
        if !options.follow {
            let reader = reading.ask(request(options), Lasting::Answer).await?;
            return Ok(reading.pieces(reader, Some(self.patience), None));
        }
        // The answer to the question for a log that is followed begins with its first line, which may take hours. Whether
        // there is a log at all is asked before.
        let nothing = LogOptions { follow: false, tail: Some(0), after: None, ..*options };
        let reader = reading.ask(request(&nothing), Lasting::Answer).await?;
        drop(reader);
        let (follow, untimed) = (request(options), Untimed::new(options.after));
        let opening = async move {
            let reader = reading.ask(follow, Lasting::All).await?;
            Ok(reading.pieces(reader, None, Some(untimed)))
        };
        Ok(stream::once(opening).try_flatten().boxed())
    }
}

type Prepared = std::result::Result<http::Request<Vec<u8>>, kube::core::request::Error>;

fn request(namespace: &Namespace, pod: &str, container: &str, options: &LogOptions) -> Prepared {
    let LogOptions { follow, tail, since, previous, after } = *options;
    let (tail, since) = if after.is_some() { (None, None) } else { (tail, since) };
    let whole = |since: Duration| since.as_secs() + u64::from(since.subsec_nanos() > 0);
    let seconds = since.map(|since| i64::try_from(whole(since)).unwrap_or(i64::MAX));
    let params = LogParams {
        container: Some(container.to_owned()),
        follow,
        previous,
        since_seconds: seconds,
        // Nodes are asked in whole seconds.
        since_time: after.and_then(|after| Timestamp::from_second(after.at.as_second()).ok()),
        timestamps: follow,
        tail_lines: tail.map(i64::from),
        ..LogParams::default()
    };
    Request::new(Pod::url_path(&(), Some(namespace.as_str()))).logs(pod, &params)
}

/// A log that is being read, with its place among those that are.
struct Reading {
    logs: Logs,
    action: String,
    _place: OwnedSemaphorePermit,
}

impl Reading {
    async fn ask(&self, request: Prepared, lasting: Lasting) -> Result<Reader> {
        let failed = |error| Error::from_kube(&self.logs.cluster, &*self.action, error);
        let mut request = request.map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        request.extensions_mut().insert(lasting);
        let reader = self.logs.client.request_stream(request).await.map_err(failed)?;
        Ok(Box::pin(reader))
    }

    /// Waits no longer than `patience` for each.
    fn pieces(self, reader: Reader, patience: Option<Duration>, untimed: Option<Untimed>) -> Log {
        let next = move |(reading, mut reader, mut untimed): (Self, Reader, Option<Untimed>)| async move {
            loop {
                let content = reading.piece(&mut reader, patience).await?;
                if content.is_empty() {
                    return Ok(None);
                }
                let piece = match &mut untimed {
                    None => Piece { content, end: None },
                    Some(untimed) => {
                        let content = untimed.take(&content).into();
                        Piece { content, end: untimed.position() }
                    }
                };
                // Of what was read before nothing is left.
                if !piece.content.is_empty() {
                    return Ok(Some((piece, (reading, reader, untimed))));
                }
            }
        };
        stream::try_unfold((self, reader, untimed), next).boxed()
    }

    /// What is there next; nothing at the end.
    async fn piece(&self, reader: &mut Reader, patience: Option<Duration>) -> Result<Bytes> {
        let broken = |reason| Error::Ambiguous {
            cluster: self.logs.cluster.clone(),
            action: self.action.clone(),
            reason,
        };
        let there = match patience {
            Some(patience) => tokio::time::timeout(patience, reader.fill_buf())
                .await
                .map_err(|_| broken(format!("no more of it within {patience:?}")))?,
            None => reader.fill_buf().await,
        };
        let there = there.map_err(|error| broken(chain(&error)))?;
        let piece = Bytes::copy_from_slice(&there[..there.len().min(PIECE)]);
        reader.consume_unpin(piece.len());
        Ok(piece)
    }
}

#[cfg(test)]
mod tests;
