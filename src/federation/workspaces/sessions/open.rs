//! Opens the session at the cluster of the workspace.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::sync::watch;
use tokio::time::timeout;

use super::command::{self, Mark, Run, Terminal};
use crate::fleet::Fleet;
use crate::workspaces::queries::Queries;
use crate::{Error, Result};
use controller::CONTAINER;
use domain::health::Health;
use domain::names::{ClusterName, Namespace, WorkspaceId};
use domain::pod::pod_with_session;
use domain::workspace::Phase;
use member::sessions::{Ended, Input, Output, Piece};
use member::texts;

/// Until a command has started.
const START: Duration = Duration::from_secs(20);
/// Bytes of errors that are kept until the output begins.
const EARLY: usize = 64 * 1024;

/// Opens sessions.
pub(super) struct Opener {
    queries: Arc<Queries>,
    fleet: Arc<Fleet>,
}

/// Where the container of a workspace is.
pub(super) struct Site {
    pub(super) cluster: ClusterName,
    pub(super) sessions: member::sessions::Sessions,
    pub(super) health: watch::Receiver<Health>,
    namespace: Namespace,
    pod: String,
}

/// An open session.
pub(super) struct Opened {
    pub(super) site: Site,
    pub(super) input: Input,
    pub(super) output: Output,
    /// What was read before.
    pub(super) first: VecDeque<Piece>,
    /// Process id of the command, where it is known.
    pub(super) process: Option<u32>,
    /// Whether it is a command; else it is a connection.
    pub(super) is_command: bool,
}

impl Opener {
    pub(super) fn new(queries: Arc<Queries>, fleet: Arc<Fleet>) -> Self {
        Self { queries, fleet }
    }

    /// Starts a command. An image may have no shell: then the command is run by itself.
    pub(super) async fn exec(
        &self,
        id: &WorkspaceId,
        run: &Run,
        terminal: Option<&Terminal>,
    ) -> Result<Opened> {
        let site = self.site(id)?;
        let by_shell = command::by_shell(run, terminal);
        let (input, mut output) = site.start(id, &by_shell, terminal).await?;
        let late = |_| site.unavailable(id, &format!("the command did not start within {START:?}"));
        let (process, first) = timeout(START, begin(&mut output)).await.map_err(late)?;
        let text = match first.front() {
            Some(Piece::End(Ended::Failed(text))) => text,
            Some(Piece::End(Ended::Closed)) => {
                return Err(site.unavailable(id, "its node closed the connection at once"));
            }
            Some(Piece::End(Ended::Broken(reason))) => return Err(site.unavailable(id, reason)),
            _ => return Ok(Opened { site, input, output, first, process, is_command: true }),
        };
        match command::directly(run, terminal) {
            _ if !texts::is_no_program(text) => Err(site.failed(id, text)),
            Some(command) => {
                let (input, output) = site.start(id, &command, terminal).await?;
                Ok(Opened { site, input, output, first: VecDeque::new(), process: None, is_command: true })
            }
            None => Err(Error::Precondition {
                id: id.clone(),
                reason:
                    "its image has no /bin/sh, which a shell and copying need; name a command that it has"
                        .to_owned(),
            }),
        }
    }

    /// Connects to a port.
    pub(super) async fn forward(&self, id: &WorkspaceId, port: u16) -> Result<Opened> {
        let site = self.site(id)?;
        let opened = site.sessions.forward(&site.namespace, &site.pod, port).await;
        let (input, output) = opened.map_err(|error| site.refused(id, &error))?;
        Ok(Opened { site, input, output, first: VecDeque::new(), process: None, is_command: false })
    }

    fn site(&self, id: &WorkspaceId) -> Result<Site> {
        let seen = self.queries.describe(id)?;
        let (cluster, view) = (seen.cluster, seen.view);
        let connected = self.fleet.get(&cluster).ok_or_else(|| Error::NoCluster(cluster.clone()))?;
        if !seen.reachable {
            let reason = format!("cluster {cluster} is unreachable");
            return Err(Error::SessionEnded { id: id.clone(), reason });
        }
        let precondition = |reason| Error::Precondition { id: id.clone(), reason };
        if view.phase != Phase::Running {
            return Err(precondition(format!("it is not running, it is {:?}", view.phase)));
        }
        let pods = connected.place(&view.namespace)?.cache.pods_of(id.as_str());
        let pod = pod_with_session(&pods, &view.uid, CONTAINER).map_err(precondition)?;
        Ok(Site {
            sessions: connected.member.sessions(),
            health: connected.member.health().subscribe(),
            namespace: view.namespace.clone(),
            pod: pod.name.clone(),
            cluster,
        })
    }
}

impl Site {
    pub(super) async fn exec(&self, command: &member::sessions::Command) -> member::Result<(Input, Output)> {
        self.sessions.exec(&self.namespace, &self.pod, CONTAINER, command).await
    }

    /// Starts a command in a terminal of the right size.
    async fn start(
        &self,
        id: &WorkspaceId,
        command: &member::sessions::Command,
        terminal: Option<&Terminal>,
    ) -> Result<(Input, Output)> {
        let (mut input, output) = self.exec(command).await.map_err(|error| self.refused(id, &error))?;
        if let Some(Terminal { size, .. }) = terminal {
            // If that fails, the output says why.
            let _ = input.resize(size.columns, size.rows).await;
        }
        Ok((input, output))
    }

    /// What the cluster says to the request.
    fn refused(&self, id: &WorkspaceId, error: &member::Error) -> Error {
        let (id, cause, cluster) = (id.clone(), error.cause(), &self.cluster);
        let reason = match error.code() {
            Some(404) => "its pod is gone".to_owned(),
            Some(403) => format!(
                "the manager may not enter it: {cause}; run `spaceport cluster install` for cluster {cluster}, or apply \
                 clusters/member/rbac.yaml and fence.yaml there"
            ),
            Some(code) if code < 500 && code != 429 => format!("it cannot be entered: {cause}"),
            _ => return self.unavailable(&id, &cause),
        };
        Error::Precondition { id, reason }
    }

    /// What the node says after the request was taken.
    pub(super) fn failed(&self, id: &WorkspaceId, text: &str) -> Error {
        if texts::is_node_unreachable(text) {
            return self.unavailable(id, &format!("its node does not answer: {text}"));
        }
        Error::Precondition { id: id.clone(), reason: format!("its node refused: {text}") }
    }

    pub(super) fn unavailable(&self, id: &WorkspaceId, reason: &str) -> Error {
        Error::SessionEnded { id: id.clone(), reason: format!("cluster {}: {reason}", self.cluster) }
    }
}

/// The process id that the output begins with, and what was read beyond it. Errors may come before the output: the two
/// are sent apart.
async fn begin(output: &mut Output) -> (Option<u32>, VecDeque<Piece>) {
    let (mut read, mut others, mut size) = (BytesMut::new(), VecDeque::new(), 0);
    let (process, last) = loop {
        match output.next().await {
            Piece::Out(bytes) => read.extend_from_slice(&bytes),
            Piece::Err(bytes) => {
                size += bytes.len();
                others.push_back(Piece::Err(bytes));
            }
            end @ Piece::End(_) => break (None, Some(end)),
        }
        match command::mark(&read) {
            Mark::Partial if size < EARLY => {}
            Mark::Partial | Mark::None => break (None, None),
            Mark::Process(process, length) => {
                read.advance(length);
                break (Some(process), None);
            }
        }
    };
    if !read.is_empty() {
        others.push_front(Piece::Out(read.freeze()));
    }
    others.extend(last);
    (process, others)
}
