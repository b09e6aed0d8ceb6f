//! The gate of a member cluster: whether this replica may write to it.

use std::time::Duration;

use tokio::sync::watch;

use crate::{Error, Result};
use domain::epoch::Epoch;
use domain::names::ClusterName;
use member::fence::Pass;
use store::Term;

/// How long a call waits for a member that is being raised.
const PATIENCE: Duration = Duration::from_secs(2);

/// A member that may be written to.
#[derive(Clone)]
pub struct Opened {
    pub(super) term: Term,
    pub(super) epoch: Epoch,
    pub(super) pass: Pass,
}

/// Whether a member may be written to.
#[derive(Clone, Default)]
pub enum State {
    /// This replica does not lead.
    #[default]
    Standby,
    /// It is being raised for the first time in this leadership.
    Raising(Epoch),
    /// It takes no writes, for this reason.
    Barred(Epoch, String),
    /// It may.
    Open(Opened),
}

impl State {
    pub(super) fn opened(&self) -> Option<Opened> {
        match self {
            Self::Open(opened) => Some(opened.clone()),
            _ => None,
        }
    }

    /// Whether it is open in this very leadership.
    pub(super) fn is_open_at(&self, epoch: &Epoch) -> bool {
        matches!(self, Self::Open(opened) if opened.epoch == *epoch)
    }
}

/// The gate of a member.
pub struct Gate(watch::Sender<State>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(State::default()))
    }
}

impl Gate {
    /// Its state.
    pub fn state(&self) -> State {
        self.0.borrow().clone()
    }

    /// Its state, and its changes.
    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }

    /// Takes another state.
    pub(super) fn set(&self, state: State) {
        self.0.send_replace(state);
    }

    /// Why placement leaves the member out. One that is being raised is not: a start waits for it.
    pub(super) fn barred(&self) -> Option<String> {
        match &*self.0.borrow() {
            State::Barred(_, reason) => Some(reason.clone()),
            _ => None,
        }
    }

    /// Whether it is not known yet whether the member can be written to.
    pub fn is_pending(&self) -> bool {
        matches!(&*self.0.borrow(), State::Standby | State::Raising(_))
    }

    /// The right to write there in this term. Waits while the member is being raised.
    pub async fn pass(&self, cluster: &ClusterName, term: &Term) -> Result<Pass> {
        let fenced = |reason: &str| {
            Error::Cluster(member::Error::Fenced { cluster: cluster.clone(), reason: reason.to_owned() })
        };
        let mut states = self.0.subscribe();
        let waiting = async {
            loop {
                match &*states.borrow_and_update() {
                    State::Open(opened) if opened.term == *term => return Ok(opened.pass.clone()),
                    State::Barred(epoch, reason) if epoch.revision == term.epoch() => {
                        return Err(fenced(reason));
                    }
                    _ => {}
                }
                tokio::select! {
                    changed = states.changed() => if changed.is_err() { return Err(Error::NotLeader) },
                    () = term.ended() => return Err(Error::NotLeader),
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| Err(fenced("its fence is being raised")))
    }
}
