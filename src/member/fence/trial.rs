//! Dry-run writes that show what a cluster takes and refuses. The leader makes them before it writes, and again while it
//! leads; `doctor` makes the same ones.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;

use super::config_map;
use crate::client::FENCE_EXTRA;
use crate::error::{Error, Result, Rule};
use domain::epoch::Epoch;
use domain::names::{ClusterName, Namespace};

/// Name of the object that dry-run writes would make.
pub(super) const PROBE: &str = "spaceport-fence-probe";

/// Outcome of a dry-run write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    /// Refused by a policy of the fence.
    Fenced(String),
    /// The user lacks the right.
    NotAllowed,
    /// Refused by something else, such as a quota or a webhook.
    Refused(Rule),
}

/// What is wrong with the fence of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// An earlier epoch is accepted.
    EarlierAccepted,
    /// The epoch itself is refused.
    Refused(String),
    /// Everything new is: the namespace is being deleted.
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

/// Dry-run writes in one namespace, sent as whoever `client` is.
#[derive(Clone, Copy)]
pub(super) struct Trial<'a> {
    pub cluster: &'a ClusterName,
    pub client: &'a Client,
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
    /// Why a write was refused.
    pub fn reason(self) -> String {
        match self {
            Self::Accepted => String::new(),
            Self::NotAllowed => "may not create ConfigMaps".to_owned(),
            Self::Fenced(reason) => reason,
            Self::Refused(rule) => rule.to_string(),
        }
    }
}
