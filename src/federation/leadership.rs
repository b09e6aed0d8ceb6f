//! Who leads, and this replica's own term while it leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{Error, Result};
use domain::epoch::Epoch;
use store::Term;

/// Who leads, as this replica sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lead {
    /// This replica, and it knows all that earlier leaders recorded.
    Us,
    /// Another replica.
    Other {
        /// Its name.
        replica: String,
        /// Where it answers.
        address: String,
    },
    /// Nobody yet.
    Nobody,
}

/// This replica towards others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaName {
    /// Its name.
    pub name: String,
    /// Where others reach it.
    pub address: String,
}

/// A term of this replica, as member clusters compare it.
#[derive(Debug, Clone, PartialEq)]
pub struct Leading {
    /// The right to write.
    pub term: Term,
    /// The installation's identity.
    pub installation: Uuid,
    /// Of its etcd.
    pub incarnation: u64,
}

impl Leading {
    /// As member clusters compare it.
    pub fn epoch(&self) -> Epoch {
        Epoch { installation: self.installation, incarnation: self.incarnation, revision: self.term.epoch() }
    }
}

/// Who leads. Every use case that writes asks it for the term; only the leader's tasks and an opened incarnation change it.
pub struct Leadership {
    us: ReplicaName,
    installation: Uuid,
    /// The term while this replica leads and has caught up.
    term: watch::Sender<Option<Leading>>,
    lead: watch::Sender<Lead>,
    /// Of etcd, as last read.
    incarnation: AtomicU64,
    /// Epoch of the present leader, and since when it is known here.
    since: RwLock<Option<(i64, Timestamp)>>,
}

impl Leadership {
    /// Nobody leads yet. `incarnation`: of etcd, as read at the start.
    pub(crate) fn new(us: ReplicaName, installation: Uuid, incarnation: u64) -> Arc<Self> {
        Arc::new(Self {
            us,
            installation,
            term: watch::channel(None).0,
            lead: watch::channel(Lead::Nobody).0,
            incarnation: AtomicU64::new(incarnation),
            since: RwLock::default(),
        })
    }

    /// This replica's name.
    pub fn replica(&self) -> &ReplicaName {
        &self.us
    }

    /// This installation's id.
    pub fn installation(&self) -> Uuid {
        self.installation
    }

    /// Who leads, and its changes.
    pub fn lead(&self) -> watch::Receiver<Lead> {
        self.lead.subscribe()
    }

    /// Epoch of the present leader, and since when this replica knows it.
    pub fn epoch(&self) -> Option<(i64, Option<Timestamp>)> {
        self.since.read().map(|(epoch, since)| (epoch, Some(since)))
    }

    /// The right to write. Fails with [`Error::NotLeader`] where this replica does not lead or has not caught up.
    pub(crate) fn term(&self) -> Result<Term> {
        let term = self.term.borrow().as_ref().map(|leading| leading.term.clone());
        term.filter(Term::is_valid).ok_or(Error::NotLeader)
    }

    /// The terms of this replica, each once its writes are enabled, and `None` between them.
    pub(crate) fn terms(&self) -> watch::Receiver<Option<Leading>> {
        self.term.subscribe()
    }

    /// Incarnation of etcd, as last read.
    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::SeqCst)
    }

    /// Takes the incarnation that etcd has.
    pub(crate) fn set_incarnation(&self, incarnation: u64) {
        self.incarnation.store(incarnation, Ordering::SeqCst);
    }

    /// Takes an incarnation that was opened in a term: member clusters are raised to it.
    pub(crate) fn opened_incarnation(&self, term: &Term, incarnation: u64) {
        self.set_incarnation(incarnation);
        self.term.send_if_modified(|leading| {
            let Some(leading) = leading.as_mut().filter(|leading| leading.term == *term) else {
                return false;
            };
            leading.incarnation = incarnation;
            true
        });
    }

    /// Enables the writes of a term: this replica leads and has caught up.
    pub(crate) fn begin(&self, term: &Term) {
        let (installation, incarnation) = (self.installation, self.incarnation());
        self.term.send_replace(Some(Leading { term: term.clone(), installation, incarnation }));
        self.lead.send_replace(Lead::Us);
    }

    /// Disables writes: this replica's term is over.
    pub(crate) fn end(&self) {
        self.term.send_replace(None);
        self.lead.send_replace(Lead::Nobody);
    }

    /// Takes who leads while this replica does not.
    pub(crate) fn set_lead(&self, lead: Lead) {
        self.lead.send_replace(lead);
    }

    /// Takes the epoch of the present leader.
    pub(crate) fn note_epoch(&self, epoch: i64) {
        let mut since = self.since.write();
        if since.is_none_or(|(known, _)| known != epoch) {
            *since = Some((epoch, Timestamp::now()));
        }
    }
}
