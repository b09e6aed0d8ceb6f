//! Whether a member may be written to: in each term, once its fence was raised.
//!
//! Members are raised all at once and each by itself, so that a dead one delays no other; one that failed is tried again
//! while the term lasts, and one that was raised is looked after. What needs a member that is just being raised waits
//! for it, and for it alone.

use std::time::Duration;

use tokio::sync::watch;

use crate::fleet::Connected;
use crate::leadership::Leading;
use crate::{Error, Result};
use cluster::fence::Pass;
use domain::epoch::Epoch;
use domain::names::ClusterName;
use store::Term;

/// How long a call waits for a member that is being raised.
const PATIENCE: Duration = Duration::from_secs(2);
/// For one try to raise a member.
const RAISE_WITHIN: Duration = Duration::from_secs(10);
/// The first pause after a failed try, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Between looks at a raised member.
const LOOK: Duration = Duration::from_secs(30);

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
            Error::Cluster(cluster::Error::Fenced { cluster: cluster.clone(), reason: reason.to_owned() })
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

/// Closes the gate when its task ends, by a panic too: nothing is written through a gate that nobody keeps.
struct Closing<'a>(&'a Connected);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.tell_gate(State::Standby);
    }
}

impl Connected {
    /// Raises the member in each leadership, and keeps its gate.
    pub(super) async fn guard(&self, mut leading: watch::Receiver<Option<Leading>>) {
        let _closing = Closing(self);
        loop {
            let current = leading.borrow_and_update().clone();
            let changed = async {
                // A term that ended is followed by another value, or none, a moment later.
                leading.changed().await.is_ok()
            };
            let goes_on = tokio::select! {
                goes_on = changed => goes_on,
                () = self.tasks.stop().cancelled() => false,
                () = self.keep_raised(current.as_ref()) => true,
            };
            self.tell_gate(State::Standby);
            if !goes_on {
                return;
            }
        }
    }

    /// Ends with the term; without one, never.
    async fn keep_raised(&self, leading: Option<&Leading>) {
        let Some(leading) = leading else { return std::future::pending().await };
        let (epoch, term) = (leading.epoch(), &leading.term);
        self.gate.0.send_replace(State::Raising(epoch));
        let mut pause = PAUSES.0;
        let raising = async {
            loop {
                match self.raise(leading).await {
                    Ok(pass) => {
                        pause = PAUSES.0;
                        let opened = Opened { term: term.clone(), epoch, pass };
                        self.tell_gate(State::Open(opened));
                        let error = self.until_taken_back(&epoch).await;
                        tracing::warn!(%epoch, %error, "the fence must be raised anew");
                        self.tell_gate(State::Barred(epoch, error.cause()));
                    }
                    Err(error) => {
                        tracing::warn!(%epoch, %error, again_in = ?pause, "the fence is not raised");
                        self.tell_gate(State::Barred(epoch, error.cause()));
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(PAUSES.1);
                    }
                }
            }
        };
        tokio::select! {
            () = raising => {}
            () = term.ended() => {
                // Until the end of the term is told here, too.
                self.tell_gate(State::Standby);
                std::future::pending::<()>().await;
            }
        }
    }

    async fn raise(&self, leading: &Leading) -> cluster::Result<Pass> {
        let (permit, epoch) = (leading.term.clone(), leading.epoch());
        let raise = self.member.raise(&epoch, std::sync::Arc::new(move || permit.is_valid()));
        tokio::time::timeout(RAISE_WITHIN, raise).await.unwrap_or_else(|_| {
            let action = "raise the fence".to_owned();
            let reason = format!("no answer within {RAISE_WITHIN:?}");
            Err(cluster::Error::Ambiguous { cluster: self.member.name().clone(), action, reason })
        })
    }

    /// Only a cluster that answers can say that it is not raised any more.
    async fn until_taken_back(&self, epoch: &Epoch) -> cluster::Error {
        loop {
            tokio::time::sleep(LOOK).await;
            match self.member.is_raised(epoch).await {
                Err(error @ cluster::Error::Fenced { .. }) => return error,
                Err(error) => tracing::debug!(%error, "cannot look whether the fence is raised"),
                Ok(()) => {}
            }
        }
    }

    fn tell_gate(&self, state: State) {
        self.gate.0.send_replace(state);
        self.changes.send_replace(());
    }
}
