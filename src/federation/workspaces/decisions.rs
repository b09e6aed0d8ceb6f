//! Recent placement decisions.
//!
//! They are kept in the leader's memory, and written to etcd by a background task, so that a start never
//! waits for etcd. Decisions that do not fit into the queue are not written, and counted.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Result;
use domain::names::WorkspaceId;
use domain::placement::explain::Explanation;
use store::{Store, Term};

/// Decisions kept, in memory and in etcd alike; the oldest go first.
const KEPT: usize = 5000;
/// Decisions that wait to be written.
const WAITING: usize = 1024;
/// Decisions written at once.
const BATCH: usize = 40;
/// How long etcd keeps a decision at least, and how much longer at most.
const LIFE: Duration = Duration::from_hours(6);
const LEASE_USED: Duration = Duration::from_mins(10);

/// What was decided lately.
pub struct Decisions {
    store: Store,
    kept: Mutex<Kept>,
    sender: mpsc::Sender<Arc<Explanation>>,
    receiver: tokio::sync::Mutex<mpsc::Receiver<Arc<Explanation>>>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<WorkspaceId, Arc<Explanation>>,
    order: VecDeque<WorkspaceId>,
}

impl Decisions {
    /// None yet; what is decided is kept in `store`.
    pub(crate) fn new(store: Store) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let receiver = tokio::sync::Mutex::new(receiver);
        Arc::new(Self { store, kept: Mutex::default(), sender, receiver, dropped: AtomicU64::new(0) })
    }

    /// Keeps a decision. Never waits.
    pub(crate) fn keep(&self, decision: Explanation) {
        let decision = Arc::new(decision);
        if self.sender.try_send(Arc::clone(&decision)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        let mut kept = self.kept.lock();
        let id = decision.workspace.clone();
        if kept.by_id.insert(id.clone(), decision).is_none() {
            kept.order.push_back(id);
        }
        if kept.order.len() > KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.by_id.remove(&oldest);
        }
    }

    /// How many were not kept in etcd because too many came at once.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn get(&self, id: &WorkspaceId) -> Option<Arc<Explanation>> {
        self.kept.lock().by_id.get(id).cloned()
    }

    /// What an earlier term of this replica kept may be outdated.
    fn clear(&self) {
        *self.kept.lock() = Kept::default();
    }

    /// Writes decisions to etcd until the term ends.
    pub(crate) async fn write(&self, term: &Term) {
        self.clear();
        let writing = async {
            let mut receiver = self.receiver.lock().await;
            let mut written: VecDeque<WorkspaceId> = self.store.decided().await.unwrap_or_default().into();
            let mut known: HashSet<WorkspaceId> = written.iter().cloned().collect();
            let mut lease: Option<(i64, Instant)> = None;
            let mut batch = Vec::with_capacity(BATCH);
            while receiver.recv_many(&mut batch, BATCH).await > 0 {
                // Of two decisions about one workspace the later counts.
                let mut latest: BTreeMap<WorkspaceId, Explanation> = BTreeMap::new();
                for decision in batch.drain(..) {
                    latest.insert(decision.workspace.clone(), Explanation::clone(&decision));
                }
                for id in latest.keys().filter(|id| known.insert((*id).clone())) {
                    written.push_back(id.clone());
                }
                let over = written.len().saturating_sub(KEPT).min(BATCH);
                let mut forget: Vec<WorkspaceId> = written.drain(..over).collect();
                for id in &forget {
                    known.remove(id);
                }
                forget.retain(|id| !latest.contains_key(id));
                let decisions: Vec<Explanation> = latest.into_values().collect();
                if let Err(error) = self.write_batch(term, &mut lease, &decisions, &forget).await {
                    tracing::warn!(%error, "decisions are not kept in etcd now");
                    self.dropped.fetch_add(decisions.len() as u64, Ordering::Relaxed);
                    lease = None;
                }
            }
        };
        tokio::select! {
            () = writing => {}
            () = term.ended() => {}
        }
    }

    async fn write_batch(
        &self,
        term: &Term,
        lease: &mut Option<(i64, Instant)>,
        decisions: &[Explanation],
        forget: &[WorkspaceId],
    ) -> Result<()> {
        let id = match *lease {
            Some((id, since)) if since.elapsed() < LEASE_USED => id,
            _ => {
                let id = self.store.decision_lease(LIFE + LEASE_USED).await?;
                *lease = Some((id, Instant::now()));
                id
            }
        };
        Ok(self.store.keep_decisions(term, id, decisions, forget).await?)
    }
}
