//! Logins that are read from Secrets of the host cluster.
//!
//! *Flow.* One task a cluster follows its Secret, verifies the kubeconfig in it, and uses it on the live
//! connection; a cluster that is not connected yet is connected with it. *Guarantees.* A login is used only
//! after it led to the registered cluster. The first login of a process is also used, unverified, where it
//! names the address that was verified before, so that a cluster that does not answer is connected like any
//! other. An invalid Secret changes nothing: the previous login stays in use, in memory, and the reason is
//! shown. *Limits.* One watch and one verification at a time for each cluster, with backoff between tries.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio_util::sync::DropGuard;

use domain::names::ClusterName;
use domain::secret_ref::SecretRef;
use host::{Host, Unread, Why};
use member::tasks::{TaskName, Tasks};

/// How a login that is read from a Secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginState {
    /// Its Secret was not read yet.
    Reading,
    /// What the Secret holds is in use.
    InUse {
        /// Address that it names.
        server: String,
        /// Version of the Secret.
        version: String,
    },
    /// What the Secret holds is not in use.
    Failing(Failure),
}

/// Why what a Secret holds is not in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A bounded category for programs.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
}

impl From<Unread> for Failure {
    fn from(unread: Unread) -> Self {
        let reason = match unread.why {
            Why::SecretNotFound => "SecretNotFound",
            Why::KeyNotFound => "KeyNotFound",
            Why::NotText => "NotText",
            Why::NotAllowed => "NotAllowed",
            Why::HostUnreachable => "HostUnreachable",
            Why::NoHost => "NoHost",
        };
        Self { reason, message: unread.to_string() }
    }
}

/// The logins of all clusters whose kubeconfig is in a Secret.
pub(super) struct Logins {
    host: Option<Arc<Host>>,
    kept: Mutex<BTreeMap<ClusterName, Kept>>,
}

struct Kept {
    reference: SecretRef,
    state: LoginState,
    /// Since when it is in use, failing, or read.
    since: Timestamp,
    tasks: Arc<Tasks>,
    /// Ends the task that follows the Secret.
    _stop: DropGuard,
}

impl Logins {
    pub(super) fn new(host: Option<Arc<Host>>) -> Self {
        Self { host, kept: Mutex::default() }
    }

    pub(super) fn state(&self, name: &ClusterName) -> Option<(LoginState, Timestamp)> {
        self.kept.lock().get(name).map(|kept| (kept.state.clone(), kept.since))
    }

    /// Whether the Secret of any cluster was not read yet.
    pub(super) fn are_reading(&self) -> bool {
        self.kept.lock().values().any(|kept| kept.state == LoginState::Reading)
    }

    /// The host cluster, where there is one.
    pub(super) fn host(&self) -> Option<&Arc<Host>> {
        self.host.as_ref()
    }

    /// Tasks of a cluster's login that failed and have not run steadily since, and how often each failed in a row.
    pub(super) fn failing(&self, name: &ClusterName) -> Vec<(TaskName, u32)> {
        self.kept.lock().get(name).map(|kept| kept.tasks.failing()).unwrap_or_default()
    }

    /// Keeps the login of a Secret that `follow` begins to follow, unless it is followed already.
    pub(super) fn keep(
        &self,
        name: &ClusterName,
        reference: &SecretRef,
        follow: impl FnOnce() -> Arc<Tasks>,
    ) {
        let mut kept = self.kept.lock();
        if kept.get(name).is_some_and(|kept| kept.reference == *reference) {
            return;
        }
        let (state, since, tasks) = (LoginState::Reading, Timestamp::now(), follow());
        let (reference, stop) = (reference.clone(), tasks.stop().clone().drop_guard());
        kept.insert(name.clone(), Kept { reference, state, since, tasks, _stop: stop });
    }

    /// Ends the task of a cluster.
    pub(super) fn forget(&self, name: &ClusterName) {
        self.kept.lock().remove(name);
    }

    /// Ends all tasks.
    pub(super) fn close(&self) {
        self.kept.lock().clear();
    }

    /// Notes a state; whether it is another one.
    pub(super) fn note(&self, name: &ClusterName, state: &LoginState) -> bool {
        match self.kept.lock().get_mut(name) {
            Some(kept) if kept.state != *state => {
                if discriminant(&kept.state) != discriminant(state) {
                    kept.since = Timestamp::now();
                }
                kept.state = state.clone();
                true
            }
            _ => false,
        }
    }
}
