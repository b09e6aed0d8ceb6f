//! Input and output of the checks.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use domain::check::Check;
use domain::cluster::ClusterSpec;
use member::error::chain;

use crate::pod_policy::Sample;

/// What is asked of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What the admin wants of it.
    pub spec: &'a ClusterSpec,
    /// The installation that asks.
    pub installation: &'a str,
    /// Pods that the manager would make; the cluster must take them.
    pub samples: &'a [Sample],
    /// When the login ends, where it does.
    pub login_ends: Option<Timestamp>,
    /// Which cluster it must be, where that is known.
    pub uid: Option<&'a str>,
    /// How long a health probe waits: a cluster that answers more slowly would never be well.
    pub probe_deadline: Duration,
    /// For all checks.
    pub within: Duration,
}

impl Question<'_> {
    /// Every namespace that is named, workspace namespaces first.
    pub(super) fn namespaces(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let named = self.spec.namespaces.iter().map(|namespace| namespace.namespace.as_str());
        let secrets = self.spec.namespaces.iter().map(|namespace| namespace.secrets_namespace.as_str());
        named.chain(secrets).filter(|name| seen.insert(*name)).collect()
    }
}

/// What was learned of a cluster; empty where nothing was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Such as `v1.36.2`.
    pub server_version: String,
    /// Uid of `kube-system`: the same cluster, whatever its address. Empty where it may not be read.
    pub cluster_uid: String,
    /// How long one call took.
    pub latency: Duration,
    /// How far the apiserver's clock is ahead of ours, to the second.
    pub clock_skew: SignedDuration,
}

/// The checks in their order, and what was learned.
#[derive(Debug, Clone)]
pub struct Examined {
    /// What was looked at.
    pub checks: Vec<Check>,
    /// What was learned.
    pub facts: Facts,
}

impl Examined {
    /// Whether nothing keeps the cluster from being a member.
    pub fn is_fit(&self) -> bool {
        !self.checks.iter().any(Check::is_failed)
    }
}

/// Text of an error, without secrets.
pub(super) fn told(error: kube::Error) -> String {
    match error {
        kube::Error::Service(error) => chain(&*error),
        other => chain(&other),
    }
}
