//! Input and output of the checks.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use domain::check::Check;
use domain::cluster::ClusterSpec;
use member::error::chain;

use crate::pod_policy::Sample;

/// Input of the checks.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The cluster file.
    pub spec: &'a ClusterSpec,
    /// The installation that asks.
    pub installation: &'a str,
    /// Pods that the manager would create; the cluster must accept them.
    pub samples: &'a [Sample],
    /// When the login expires, if it does.
    pub login_ends: Option<Timestamp>,
    /// Uid of the cluster, if it is known.
    pub uid: Option<&'a str>,
    /// Deadline of a health probe: a cluster that responds more slowly would never be available.
    pub probe_deadline: Duration,
    /// Deadline of all checks.
    pub within: Duration,
}

impl Question<'_> {
    /// All namespaces, workspace namespaces first.
    pub(super) fn namespaces(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let named = self.spec.namespaces.iter().map(|namespace| namespace.namespace.as_str());
        let secrets = self.spec.namespaces.iter().map(|namespace| namespace.secrets_namespace.as_str());
        named.chain(secrets).filter(|name| seen.insert(*name)).collect()
    }
}

/// What the checks found out about a cluster; empty if nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Such as `v1.36.2`.
    pub server_version: String,
    /// Uid of `kube-system`: the same cluster, whatever its address. Empty where it may not be read.
    pub cluster_uid: String,
    /// How long one call took.
    pub latency: Duration,
    /// How far the apiserver's clock is ahead of the manager's, to the second.
    pub clock_skew: SignedDuration,
}

/// Result of the checks, in their order.
#[derive(Debug, Clone)]
pub struct Examined {
    /// The checks.
    pub checks: Vec<Check>,
    /// What they found out.
    pub facts: Facts,
}

impl Examined {
    /// Whether the cluster can be a member: no check failed.
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
