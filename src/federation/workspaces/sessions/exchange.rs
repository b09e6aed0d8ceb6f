//! What a session and whoever opens it give each other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::command::Size;
use crate::Error;
use domain::names::WorkspaceId;

/// What the client sends.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// Input of a command, or data of a connection.
    Bytes(Bytes),
    /// The terminal has another size.
    Resize(Size),
}

/// The client has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// What the client sends; ends where its input ends.
pub type Requests = BoxStream<'static, Result<Request, Gone>>;

/// What the client gets.
pub enum Event {
    /// Output of a command, or data of a connection.
    Out(Bytes),
    /// Output of a command for errors.
    Err(Bytes),
    /// The last: the command has ended with this code.
    Exit(i32),
    /// The last: why the session ended before its command.
    Failed(Error),
}

/// Events of a session. A connection that the server in the workspace closes ends without a last one.
pub type Events = mpsc::Receiver<Event>;

/// How long sessions last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Without a byte in either direction.
    pub idle: Duration,
    /// In all.
    pub longest: Duration,
}

/// Records that a workspace is in use, wherever that is recorded.
pub type MarkActive = Arc<dyn Fn(WorkspaceId) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a session gets of whoever opens it.
pub struct Terms {
    /// How long it lasts.
    pub limits: Limits,
    /// What it calls while bytes come and go.
    pub mark_active: MarkActive,
    /// Ends it.
    pub closing: CancellationToken,
}
