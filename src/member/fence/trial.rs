//! Dry-run writes that show which epochs a cluster accepts. The leader sends them before it writes and again while it
//! leads; the check `fence` of `doctor` sends the same ones.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;

use super::parameter::config_map;
use crate::client::FENCE_EXTRA;
use crate::error::{Error, Result, Rule};
use domain::epoch::Epoch;
use domain::names::{ClusterName, Namespace};

/// Name of the object that dry-run writes would create.
pub const PROBE: &str = "spaceport-fence-probe";

/// Outcome of a dry-run write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It would be stored.
    Accepted,
    /// Rejected by a policy of the fence, and why.
    Fenced(String),
    /// The login lacks the right.
    NotAllowed,
    /// Rejected by something else, such as a quota or a webhook.
    Refused(Rule),
}

/// A fault of the fence of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// An earlier epoch is accepted.
    EarlierAccepted,
    /// The epoch itself is rejected, and why.
    Refused(String),
    /// Every creation is rejected: the namespace is being deleted.
    Terminating,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EarlierAccepted => f.write_str(
                "writes of an earlier epoch are accepted: its policies are not in force, or its apiserver compares \
                 with a parameter that it saw earlier",
            ),
            Self::Refused(reason) => f.write_str(reason),
            Self::Terminating => f.write_str("the namespace is being deleted"),
        }
    }
}

/// Dry-run writes in one namespace, under the identity of `client`.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    /// The cluster.
    pub cluster: &'a ClusterName,
    /// Sends the writes.
    pub client: &'a Client,
    /// The namespace.
    pub namespace: &'a Namespace,
}

impl Trial<'_> {
    /// Creates a ConfigMap that holds `data` as its epoch, and shows `epoch` or none.
    pub async fn create(&self, name: &str, data: &str, epoch: Option<&str>) -> Result<Verdict> {
        let namespace = self.namespace;
        let action = || format!("try a write in namespace {namespace}");
        let failed =
            |reason: String| Error::Unsent { cluster: self.cluster.clone(), action: action(), reason };
        let body = serde_json::to_vec(&config_map(name, data.to_owned()));
        let mut request =
            http::Request::post(format!("/api/v1/namespaces/{namespace}/configmaps?dryRun=All"))
                .header(http::header::CONTENT_TYPE, "application/json");
        if let Some(epoch) = epoch {
            request = request.header(FENCE_EXTRA, epoch);
        }
        let request = request.body(body.map_err(|error| failed(error.to_string()))?);
        match self.client.request::<ConfigMap>(request.map_err(|error| failed(error.to_string()))?).await {
            Ok(_) => Ok(Verdict::Accepted),
            Err(error) => match Error::from_kube(self.cluster, action(), error) {
                Error::Fenced { reason, .. } => Ok(Verdict::Fenced(reason)),
                Error::Refused { rule: Rule::Rights(_) | Rule::Impersonation, .. } => Ok(Verdict::NotAllowed),
                // Too many requests say nothing about this one.
                Error::Refused { code: 400..=428 | 430..=499, rule, .. } => Ok(Verdict::Refused(rule)),
                error => Err(error),
            },
        }
    }

    /// What is wrong with a namespace that was raised to `epoch`: it must refuse the epoch before, and accept this one.
    pub async fn compare(&self, epoch: &Epoch) -> Result<Option<Fault>> {
        let (before, ours) = (epoch.before().to_string(), epoch.to_string());
        Ok(match self.create(PROBE, "none", Some(&before)).await? {
            Verdict::Accepted => Some(Fault::EarlierAccepted),
            Verdict::Refused(Rule::Terminating) => Some(Fault::Terminating),
            Verdict::Fenced(_) => match self.create(PROBE, "none", Some(&ours)).await? {
                Verdict::Accepted => None,
                refused => Some(Fault::Refused(refused.reason())),
            },
            refused => Some(Fault::Refused(refused.reason())),
        })
    }
}

impl Verdict {
    /// Why a write was rejected; empty if it was not.
    pub fn reason(self) -> String {
        match self {
            Self::Accepted => String::new(),
            Self::NotAllowed => "may not create ConfigMaps".to_owned(),
            Self::Fenced(reason) => reason,
            Self::Refused(rule) => rule.to_string(),
        }
    }
}
