//! Reads what happened in the clusters from the audit logs of their apiservers, and the current state from lists that
//! bypass all proxies.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s::resources::Workspace;
use kube::Api;
use kube::api::ListParams;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::audit;
use super::history::{Resource, Write};
use super::lifetimes::Lifetimes;
use super::stage::Stage;
use crate::harness::Cluster;

/// Timeout of one list.
const LIST: Duration = Duration::from_secs(10);

pub struct Observer {
    stage: Arc<Stage>,
    seen: Mutex<Seen>,
}

struct Seen {
    /// Offset to which each log was read.
    read: BTreeMap<String, u64>,
    lifetimes: Lifetimes,
    writes: BTreeMap<String, Vec<Write>>,
    changed: Instant,
}

impl Observer {
    /// Observes everything from now on.
    pub fn new(stage: &Arc<Stage>) -> Self {
        let (read, lifetimes, writes) = (stage.logged.clone(), Lifetimes::default(), BTreeMap::new());
        let seen = Mutex::new(Seen { read, lifetimes, writes, changed: Instant::now() });
        Self { stage: Arc::clone(stage), seen }
    }

    /// Reads what was added since the last call.
    pub async fn read(&self) -> Result<()> {
        for cluster in &self.stage.clusters {
            // Before the log: if the list lacks a workspace, the log has its removal.
            let workspaces = Api::<Workspace>::namespaced(cluster.client(), &self.stage.namespace);
            let listed = timeout(LIST, workspaces.list(&ListParams::default())).await;
            let mut seen = self.seen.lock();
            seen.follow(cluster, &[&self.stage.namespace, &self.stage.secrets])?;
            // An apiserver that is down returns no list; its log stays valid.
            if let Ok(Ok(listed)) = listed {
                seen.lifetimes.are(cluster.name(), &listed.items);
            }
        }
        Ok(())
    }

    /// All lifetimes so far.
    pub fn resources(&self) -> Vec<Resource> {
        self.seen.lock().lifetimes.resources()
    }

    /// Fenced writes, by cluster.
    pub fn writes(&self) -> BTreeMap<String, Vec<Write>> {
        self.seen.lock().writes.clone()
    }

    /// Time since the last observed change.
    pub fn quiet_for(&self) -> Duration {
        self.seen.lock().changed.elapsed()
    }
}

impl Seen {
    fn follow(&mut self, cluster: &Cluster, namespaces: &[&str]) -> Result<()> {
        let from = self.read.entry(cluster.name().to_owned()).or_default();
        let lines = added(cluster, from)?;
        for event in audit::events(&lines, namespaces)? {
            if self.lifetimes.take(cluster.name(), &event)? {
                self.changed = Instant::now();
            }
            let writes = self.writes.entry(cluster.name().to_owned()).or_default();
            writes.extend(event.write());
        }
        Ok(())
    }
}

/// The complete lines of a cluster's audit log from an offset, which advances past them.
pub fn added(cluster: &Cluster, from: &mut u64) -> Result<String> {
    let path = cluster.audit_log().context("the cluster has no audit log")?;
    let cannot = || format!("cannot read {}", path.display());
    let mut log = fs::File::open(&path).with_context(cannot)?;
    let length = log.metadata().with_context(cannot)?.len();
    ensure!(length >= *from, "{} was rotated: entries are lost", path.display());
    log.seek(SeekFrom::Start(*from)).with_context(cannot)?;
    let mut text = Vec::new();
    log.take(length - *from).read_to_end(&mut text).with_context(cannot)?;
    // The last line may be incomplete.
    text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    *from += u64::try_from(text.len())?;
    String::from_utf8(text).with_context(cannot)
}
