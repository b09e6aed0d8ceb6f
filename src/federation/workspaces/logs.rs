//! Logs of the container of a workspace. Any replica that sees the cluster serves them, and stores none.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};

use crate::fleet::Fleet;
use crate::workspaces::queries::Queries;
use crate::{Error, Result};
use controller::CONTAINER;
use domain::health::Health;
use domain::names::{ClusterName, WorkspaceId};
use domain::pod::{LogOptions, pod_with_log};
pub use member::logs::Piece;

/// A workspace's log, piece by piece. An error is its last item.
pub type WorkspaceLog = BoxStream<'static, Result<Piece>>;

/// Logs of the containers of workspaces.
pub struct Logs {
    queries: Arc<Queries>,
    fleet: Arc<Fleet>,
}

impl Logs {
    pub(crate) fn new(queries: Arc<Queries>, fleet: Arc<Fleet>) -> Arc<Self> {
        Arc::new(Self { queries, fleet })
    }

    /// Opens the log of a workspace.
    pub async fn open(&self, id: &WorkspaceId, options: &LogOptions) -> Result<WorkspaceLog> {
        let seen = self.queries.describe(id)?;
        let (cluster, view) = (seen.cluster, seen.view);
        let connected = self.fleet.get(&cluster).ok_or_else(|| Error::NoCluster(cluster.clone()))?;
        if !seen.reachable {
            return Err(unreachable(id, &cluster));
        }
        let pods = connected.place(&view.namespace)?.cache.pods_of(id.as_str());
        let pod = pod_with_log(&pods, &view.uid, CONTAINER, view.conditions.deployed, options.previous)
            .map_err(|reason| Error::Precondition { id: id.clone(), reason })?;
        let opening = connected.member.logs().open(&view.namespace, &pod.name, CONTAINER, options);
        let log = opening.await.map_err(|error| failed(id, &cluster, &error))?;
        let health = connected.member.health().subscribe();
        let id = id.clone();
        let told = stream::unfold(Some((log, health)), move |going_on| {
            let (id, cluster) = (id.clone(), cluster.clone());
            async move {
                let (mut log, mut health) = going_on?;
                let next = tokio::select! {
                    next = log.next() => next?.map_err(|error| failed(&id, &cluster, &error)),
                    // A cluster that hangs would be taken for a container that is silent.
                    _ = health.wait_for(|health| *health == Health::Lost) => Err(unreachable(&id, &cluster)),
                };
                let goes_on = next.is_ok().then_some((log, health));
                Some((next, goes_on))
            }
        });
        Ok(told.boxed())
    }
}

fn unreachable(id: &WorkspaceId, cluster: &ClusterName) -> Error {
    Error::NoLog { id: id.clone(), reason: format!("cluster {cluster} is unreachable") }
}

/// What the cluster says of the log: what stands in its way there, or that it cannot be had now.
fn failed(id: &WorkspaceId, cluster: &ClusterName, error: &member::Error) -> Error {
    let (id, cause) = (id.clone(), error.cause());
    let reason = match error.code() {
        Some(404) => "its pod is gone, and its log with it".to_owned(),
        Some(403) => {
            format!("its log may not be read: {cause}; apply clusters/member/rbac.yaml in cluster {cluster}")
        }
        Some(code) if code < 500 && code != 429 => format!("its log cannot be read: {cause}"),
        _ => return Error::NoLog { id, reason: format!("cluster {cluster}: {cause}") },
    };
    Error::Precondition { id, reason }
}
