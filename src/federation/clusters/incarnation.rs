//! Incarnations of Spaceport's etcd.
//!
//! After etcd was restored from a backup, its revisions are lower than those that member clusters hold in
//! their fences, so they reject writes. Only an admin can say that the restored etcd counts from now on.
//! This opens a new incarnation, which is later than everything before; the leader then raises the fences
//! of all clusters to it.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::Result;
use crate::leadership::Leadership;
use crate::reason::stated;
use domain::epoch::Opening;
use store::Store;

/// What is known of leading and standing by.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// The installation.
    pub installation: Uuid,
    /// Of its etcd.
    pub incarnation: u64,
    /// Incarnations that admins opened, the latest last.
    pub openings: Vec<Opening>,
    /// Name, address and epoch of each replica, the leader first; empty while etcd does not answer.
    pub replicas: Vec<(String, String, i64)>,
}

/// Lives of Spaceport's etcd.
pub struct Incarnations {
    leadership: Arc<Leadership>,
    store: Store,
}

impl Incarnations {
    pub(crate) fn new(leadership: Arc<Leadership>, store: Store) -> Arc<Self> {
        Arc::new(Self { leadership, store })
    }

    /// Opens a new incarnation. Every member is raised to it.
    pub async fn open(&self, reason: &str, by: String) -> Result<Opening> {
        let reason = stated(reason)?;
        let term = self.leadership.term()?;
        let opening = self.store.open_incarnation(&term, reason, &by, Timestamp::now()).await?;
        tracing::warn!(incarnation = opening.incarnation, by, reason, "an admin opened a new incarnation");
        self.leadership.opened_incarnation(&term, opening.incarnation);
        Ok(opening)
    }

    /// As etcd has it now; what is known of it where etcd does not answer.
    pub async fn standing(&self) -> Standing {
        let (installation, known) = (self.leadership.installation(), self.leadership.incarnation());
        let (read, replicas) = tokio::join!(self.store.incarnation(), self.store.replicas());
        let (incarnation, openings) = read.unwrap_or((known, Vec::new()));
        let replicas = replicas.unwrap_or_default().into_iter();
        let replicas = replicas.map(|one| (one.replica, one.address, one.epoch)).collect();
        Standing { installation, incarnation, openings, replicas }
    }
}
