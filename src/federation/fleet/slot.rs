//! A registration's place in the fleet, whether it can be used or not.

use std::sync::Arc;

use jiff::Timestamp;

use super::connected::Connected;
use domain::cluster::ClusterSpec;
use store::Registration;

/// What became of a registration here.
#[derive(Clone)]
pub(super) enum Slot {
    Connected(Arc<Connected>),
    Broken(Arc<Broken>),
    /// Deregistered by this replica at this version. Stays until the mirror reports the removal, so that what the mirror
    /// reports before it does not register the cluster again.
    Removed(i64),
}

impl Slot {
    /// Version of the registration.
    pub(super) fn version(&self) -> i64 {
        match self {
            Self::Connected(connected) => connected.version(),
            Self::Broken(broken) => broken.version,
            Self::Removed(version) => *version,
        }
    }

    /// Whether a registration of a version is older than this, or the same and in use. One that is broken is tried again.
    pub(super) fn is_ahead_of(&self, version: i64) -> bool {
        match self {
            Self::Connected(_) | Self::Removed(_) => self.version() >= version,
            Self::Broken(_) => self.version() > version,
        }
    }
}

/// A registration that cannot be used here.
#[derive(Debug, Clone)]
pub struct Broken {
    /// What the admin wants.
    pub spec: ClusterSpec,
    /// Its API address.
    pub api_server: String,
    /// Of the registration.
    pub version: i64,
    /// Why it cannot be used: a bounded category.
    pub kind: &'static str,
    /// The same as a sentence.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// What is tried again when something changes; absent where it cannot be unsealed.
    pub(super) registration: Option<Registration>,
}

impl Broken {
    /// Whether its kubeconfig is in a Secret that was not read yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.registration.as_ref().is_some_and(|registration| registration.kubeconfig.is_none())
    }
}
