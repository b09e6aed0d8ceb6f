//! Snapshots of running workspaces: requested here, written by node agents.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tokio::time::{Instant, timeout_at};

use crate::fleet::Fleet;
use crate::leadership::Leadership;
use crate::workspaces::orphans::Orphans;
use crate::workspaces::queries::Queries;
use crate::workspaces::records::Records;
use crate::{Error, Result};
use domain::backoff::doubling;
use domain::names::WorkspaceId;
use domain::workspace::Phase;
use k8s::resources::{Snapshot, SnapshotSpec, SnapshotStatus};
use member::apply::{Awaited, Created, Writer};

/// For a snapshot to be created, lost answers included.
const CREATE_WITHIN: Duration = crate::locks::PATIENCE;
/// Backoff after lost answers.
const BACKOFF: ExponentialBuilder = doubling(Duration::from_millis(50), Duration::from_secs(1));
/// For the node agent to name a snapshot's URL.
const URL_WITHIN: Duration = Duration::from_secs(10);
/// For a snapshot's upload.
const UPLOAD_WITHIN: Duration = Duration::from_hours(1);
/// For the whole of it.
pub const LONGEST: Duration = CREATE_WITHIN.saturating_add(URL_WITHIN).saturating_add(UPLOAD_WITHIN);

/// Takes snapshots of running workspaces.
pub struct Snapshots {
    leadership: Arc<Leadership>,
    records: Arc<Records>,
    queries: Arc<Queries>,
    fleet: Arc<Fleet>,
    orphans: Arc<Orphans>,
}

impl Snapshots {
    pub(crate) fn new(
        leadership: Arc<Leadership>,
        records: Arc<Records>,
        queries: Arc<Queries>,
        fleet: Arc<Fleet>,
        orphans: Arc<Orphans>,
    ) -> Arc<Self> {
        Arc::new(Self { leadership, records, queries, fleet, orphans })
    }

    /// Has the node agent snapshot a running workspace; the snapshot's URL, once it is named, or once it is complete.
    pub async fn take_snapshot(&self, id: &WorkspaceId, return_immediately: bool) -> Result<String> {
        let term = self.leadership.term()?;
        let record = self.records.live(id).map_err(|error| self.orphans.refusal(id).unwrap_or(error))?;
        self.fleet.refuse_under_maintenance(&record)?;
        let seen = self.queries.describe(id)?;
        let node = seen.view.runtime.as_ref().map(|runtime| runtime.node_name.clone()).unwrap_or_default();
        if seen.view.phase != Phase::Running || node.is_empty() {
            let reason = format!("is {:?}, and only a running workspace can be snapshotted", seen.view.phase);
            return Err(Error::Precondition { id: id.clone(), reason });
        }
        let (writer, _, _) = self.fleet.reach(&term, &record).await?;
        let snapshot = snapshot(id, &seen.view.uid, &node, Timestamp::now());
        let name = snapshot.metadata.name.clone().unwrap_or_default();
        create(&writer, id, &snapshot).await?;
        let named = |status: &SnapshotStatus| status.url.is_some() || status.error.is_some();
        let status = awaited(&writer, id, &name, named, URL_WITHIN).await?;
        let failed = |error: Option<String>| {
            let reason = error.unwrap_or_else(|| "for an unknown reason".to_owned());
            Error::SnapshotFailed { id: id.clone(), reason }
        };
        let (None, Some(url)) = (&status.error, status.url) else { return Err(failed(status.error)) };
        if return_immediately {
            return Ok(url);
        }
        let done = |status: &SnapshotStatus| status.completed || status.error.is_some();
        let status = awaited(&writer, id, &name, done, UPLOAD_WITHIN).await?;
        if status.error.is_some() { Err(failed(status.error)) } else { Ok(url) }
    }
}

/// Creates a snapshot. Its name is this call's own, so when an answer is lost it is created again, until the apiserver
/// says that it made it or has it: a caller who tried again would pay for a second one.
async fn create(writer: &Writer, id: &WorkspaceId, snapshot: &Snapshot) -> Result<()> {
    let deadline = Instant::now() + CREATE_WITHIN;
    let mut delays = BACKOFF.build();
    let mut lost = false;
    loop {
        let failed = match writer.create_snapshot(snapshot).await {
            Ok(Created::New(_)) => return Ok(()),
            Ok(Created::Exists) if lost => return Ok(()),
            Ok(Created::Exists) => {
                return Err(Error::Contended { what: format!("snapshots of workspace {id}") });
            }
            Err(error) => error,
        };
        let unsent = matches!(failed, member::Error::Unsent { .. } | member::Error::Queued { .. });
        lost |= !failed.is_definite_refusal();
        let open = lost && (unsent || !failed.is_definite_refusal());
        let pause = delays.next().unwrap_or_default();
        if !open || timeout_at(deadline, tokio::time::sleep(pause)).await.is_err() {
            return Err(failed.into());
        }
    }
}

async fn awaited(
    writer: &Writer,
    id: &WorkspaceId,
    name: &str,
    wanted: impl Fn(&SnapshotStatus) -> bool,
    within: Duration,
) -> Result<SnapshotStatus> {
    let reason = match writer.await_snapshot(name, wanted, within).await {
        Awaited::Is(status) => return Ok(status),
        Awaited::Gone => "it was deleted, as it is when its workspace ends".to_owned(),
        Awaited::Late(reason) => reason,
    };
    Err(Error::SnapshotFailed { id: id.clone(), reason })
}

fn snapshot(id: &WorkspaceId, uid: &str, node: &str, now: Timestamp) -> Snapshot {
    let spec = SnapshotSpec { node_name: node.to_owned(), workspace_id: id.to_string() };
    let mut snapshot = Snapshot::new(&format!("{id}-{}", now.as_nanosecond()), spec);
    snapshot.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "workspace.gitpod.io/v1".to_owned(),
        kind: "Workspace".to_owned(),
        name: id.to_string(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    }]);
    snapshot
}
