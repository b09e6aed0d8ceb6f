//! Sessions with the container of a workspace: commands, and connections to ports.
//!
//! Any replica that sees the cluster serves them, whoever leads: they write nothing, and last across a change of the
//! leader. What is sent and received is neither kept nor logged.

mod activity;
mod command;
mod exchange;
mod open;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use self::activity::Activity;
use self::open::{Opened, Opener};
use self::relay::Relay;
use crate::Result;
use crate::fleet::Fleet;
use crate::workspaces::queries::Queries;
use domain::names::WorkspaceId;

pub use self::command::{Copying, Run, Size, Terminal};
pub use self::exchange::{Event, Events, Gone, Limits, MarkActive, Request, Requests, Terms};

/// Until sessions that end with the process have hung up their commands.
const LAST_WORDS: Duration = Duration::from_secs(4);

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
        let opened = self.opener.exec(id, run, terminal).await?;
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
