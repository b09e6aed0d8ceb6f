//! Sessions with the container of a workspace: commands, and connections to ports.
//!
//! Any replica that sees the cluster serves them, whoever leads: they write nothing, and last across a change of the
//! leader. What is sent and received is neither kept nor logged.

mod activity;
mod command;
mod open;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::activity::Activity;
use self::open::{Opened, Opener};
use self::relay::Relay;
use crate::fleet::Fleet;
use crate::workspaces::queries::Queries;
use crate::{Error, Result};
use domain::names::WorkspaceId;

pub use self::command::{Copying, Run, Size, Terminal};

/// Until sessions that end with the process have hung up their commands.
const LAST_WORDS: Duration = Duration::from_secs(4);

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

/// Opens sessions.
pub struct Sessions {
    opener: Opener,
    activity: Arc<Activity>,
    tasks: TaskTracker,
}

impl Sessions {
    pub(crate) fn new(queries: Arc<Queries>, fleet: Arc<Fleet>) -> Arc<Self> {
        Arc::new(Self {
            opener: Opener::new(queries, fleet),
            activity: Arc::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Runs something in the container of a workspace.
    pub async fn exec(
        &self,
        id: &WorkspaceId,
        run: &Run,
        terminal: Option<&Terminal>,
        requests: Requests,
        terms: Terms,
    ) -> Result<Events> {
        let mut opened = self.opener.exec(id, run, terminal).await?;
        if let Some(terminal) = terminal {
            let Size { columns, rows } = terminal.size;
            let sized = opened.input.resize(columns, rows).await;
            sized.map_err(|reason| Error::SessionEnded { id: id.clone(), reason })?;
        }
        Ok(self.relay(id, opened, requests, terms))
    }

    /// Connects to a port of a workspace.
    pub async fn forward(
        &self,
        id: &WorkspaceId,
        port: u16,
        requests: Requests,
        terms: Terms,
    ) -> Result<Events> {
        let opened = self.opener.forward(id, port).await?;
        Ok(self.relay(id, opened, requests, terms))
    }

    fn relay(&self, id: &WorkspaceId, opened: Opened, requests: Requests, terms: Terms) -> Events {
        // What was sent and not taken yet stays in the connections.
        let (sender, events) = mpsc::channel(1);
        let (activity, tasks) = (Arc::clone(&self.activity), self.tasks.clone());
        let relay = Relay::new(id.clone(), opened, sender, terms, activity, tasks);
        self.tasks.spawn(relay.run(requests));
        events
    }

    /// Waits for sessions that were ended by the shutdown, no longer than that helps.
    pub async fn finish(&self) {
        self.tasks.close();
        // What is late ends with the process; its commands get the end of their connection.
        let _ = tokio::time::timeout(LAST_WORDS, self.tasks.wait()).await;
    }
}
