//! The checks `pod-policy` and `pods`: whether the apiserver rejects pods that Spaceport must not create
//! (`clusters/member/pod-policy.yaml`), and accepts those that it creates. Both send dry-run writes under the identity that
//! writes pods.

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{Api, Client};
use serde_json::json;

use domain::check::Check;
use domain::cluster::{ClusterSpec, FenceMode};
use domain::names::{ClusterName, Namespace};
use domain::workspace::Kind;
use member::client::FENCE_EXTRA;
use member::error::{Error, Rule};
use member::fence;

/// Name of the check of the policy.
const CHECK: &str = "pod-policy";
/// Name of the check of everything else that rejects pods.
const PODS: &str = "pods";
/// Id of the workspace of the pods in dry-run writes; it is never created.
pub const PROBE: &str = "spaceport-pod-probe";
/// How the names of the policies begin.
const POLICY: &str = "spaceport-pods";
/// Shown where no leader has raised the fence yet: any epoch is taken then.
const FIRST_EPOCH: &str = "00000000-0000-0000-0000-000000000000/1/1";
/// Dry-run writes at once.
const AT_ONCE: usize = 8;
/// For all of them, less than what all checks of a cluster have.
const WITHIN: Duration = Duration::from_secs(5);
const APPLY: &str = "apply clusters/member/pod-policy.yaml there and label the namespace spaceport.dev/namespace=workspace, \
                     or run `spaceport cluster install`; name a login of your own in the namespace's annotation \
                     spaceport.dev/pod-policy-users";
const ADMIT: &str = "raise the quota or limit range, lower the namespace's Pod Security level to privileged, or repair the \
                     webhook; starts go to other clusters meanwhile";
const WIDEN: &str = "correct the pod template, or name what it needs in the namespace's annotation \
                     spaceport.dev/pod-policy-allow or spaceport.dev/workspace-host-path";

/// A pod that the manager would make.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Where.
    pub namespace: Namespace,
    /// Of which class.
    pub class: String,
    /// Of which type of workspace.
    pub kind: Kind,
    /// The pod of workspace [`PROBE`].
    pub pod: Pod,
}

/// What came of a dry-run write.
enum Verdict {
    Taken,
    /// By this policy, which says why.
    ByPolicy(String),
    /// By something else, and by which rule.
    ByOther(String),
}

impl Verdict {
    fn of(error: &Error) -> Self {
        match error {
            Error::Refused { rule: Rule::Policy { name, says }, .. } if name.starts_with(POLICY) => {
                let changed = || format!("{name}, which differs from the one that this version ships");
                Self::ByPolicy(says.map_or_else(changed, str::to_owned))
            }
            other => Self::ByOther(other.cause()),
        }
    }
}

/// Outcome of the dry-run writes of all pods.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    /// Pods that the manager makes and the policy rejects.
    refused: Vec<String>,
    /// Why the policy does not keep others out, or cannot be tried.
    open: Vec<String>,
    /// Pods that the manager makes and something else rejects, such as a quota.
    rejected: Vec<String>,
    /// It took too long.
    is_late: bool,
}

impl Tried {
    /// Fails where the policy rejects pods that the manager makes, and warns where it does not reject others.
    pub fn policy(self) -> Check {
        match (self.refused.is_empty(), self.open.is_empty()) {
            _ if self.is_late => late(CHECK),
            (false, _) => Check::failed(CHECK, self.refused.join("; "), WIDEN),
            (true, false) => Check::warning(CHECK, self.open.join("; "), APPLY),
            (true, true) => Check::ok(CHECK, "the pods of the manager are accepted, others are rejected"),
        }
    }

    /// Warns where something else than the policy rejects pods: a quota may have capacity again, so that is no failure.
    pub fn pods(self) -> Check {
        match self.rejected.is_empty() {
            _ if self.is_late => late(PODS),
            false => Check::warning(PODS, self.rejected.join("; "), ADMIT),
            true => Check::ok(PODS, "a pod of each class and type is accepted"),
        }
    }
}

// Many classes in a slow cluster are no reason to refuse it.
fn late(check: &'static str) -> Check {
    Check::warning(check, format!("not all pods were tried within {WITHIN:?}"), "run doctor again")
}

/// Tries all pods by dry-run writes.
pub async fn try_pods(client: &Client, spec: &ClusterSpec, samples: &[Sample]) -> Tried {
    let tried = tokio::time::timeout(WITHIN, try_all(client, spec, samples)).await;
    tried.unwrap_or_else(|_| Tried { is_late: true, ..Tried::default() })
}

async fn try_all(client: &Client, spec: &ClusterSpec, samples: &[Sample]) -> Tried {
    let mut tried = Tried::default();
    let Tried { refused, open, rejected, .. } = &mut tried;
    for namespace in spec.namespaces.iter().map(|one| &one.namespace) {
        let trial = match Trial::begin(client, spec, namespace).await {
            Ok(trial) => trial,
            Err(reason) => {
                open.push(format!("a dry-run write in namespace {namespace} failed: {reason}"));
                continue;
            }
        };
        match trial.write(&forbidden()).await {
            Verdict::ByPolicy(_) => {}
            Verdict::Taken => open.push(format!("the login may make any pod in namespace {namespace}")),
            Verdict::ByOther(reason) => {
                open.push(format!("a dry-run write in namespace {namespace} failed: {reason}"));
            }
        }
        let own = samples.iter().filter(|sample| sample.namespace == *namespace);
        let tries: Vec<_> = own.map(|sample| trial.try_out(sample)).collect();
        for (sample, verdict) in futures::stream::iter(tries).buffered(AT_ONCE).collect::<Vec<_>>().await {
            let what = format!("{:?} pods of class {} in namespace {namespace}", sample.kind, sample.class);
            match verdict {
                Verdict::Taken => {}
                Verdict::ByPolicy(reason) => refused.push(format!("{what} are rejected: {reason}")),
                Verdict::ByOther(reason) => rejected.push(format!("{what} are rejected: {reason}")),
            }
        }
    }
    tried
}

/// A pod that no workspace has. It is one that every apiserver would take, else it would say nothing of the policy.
fn forbidden() -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": PROBE },
        "spec": {
            "hostPID": true, "serviceAccountName": "workspace",
            "containers": [{ "name": "c", "image": "any" }],
        },
    })
}

/// Dry-run writes of pods in one namespace.
struct Trial<'a> {
    cluster: &'a ClusterName,
    client: &'a Client,
    namespace: &'a Namespace,
    /// What the fence of the namespace holds; none where the fence is off.
    epoch: Option<String>,
}

impl<'a> Trial<'a> {
    async fn begin(
        client: &'a Client,
        spec: &'a ClusterSpec,
        namespace: &'a Namespace,
    ) -> Result<Self, String> {
        if spec.fence == FenceMode::Off {
            return Ok(Self { cluster: &spec.name, client, namespace, epoch: None });
        }
        let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace.as_str());
        let held = maps.get_opt(fence::NAME).await.map_err(|error| told(&error))?;
        let held = held.as_ref().and_then(fence::held_by).map(|epoch| epoch.to_string());
        Ok(Self {
            cluster: &spec.name,
            client,
            namespace,
            epoch: Some(held.unwrap_or_else(|| FIRST_EPOCH.to_owned())),
        })
    }

    async fn try_out<'s>(&self, sample: &'s Sample) -> (&'s Sample, Verdict) {
        (sample, self.write(&sample.pod).await)
    }

    async fn write(&self, pod: &impl serde::Serialize) -> Verdict {
        let mut request =
            http::Request::post(format!("/api/v1/namespaces/{}/pods?dryRun=All", self.namespace))
                .header(http::header::CONTENT_TYPE, "application/json");
        if let Some(epoch) = &self.epoch {
            request = request.header(FENCE_EXTRA, epoch);
        }
        let request = match serde_json::to_vec(pod).map(|body| request.body(body)) {
            Ok(Ok(request)) => request,
            Ok(Err(error)) => return Verdict::ByOther(error.to_string()),
            Err(error) => return Verdict::ByOther(error.to_string()),
        };
        match self.client.request_text(request).await {
            Ok(_) => Verdict::Taken,
            // A workspace of this id is there: it is looked for after all policies have spoken.
            Err(kube::Error::Api(status)) if status.code == 409 => Verdict::Taken,
            Err(error) => Verdict::of(&Error::from_kube(self.cluster, "dry-run a pod", error)),
        }
    }
}

fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("the apiserver answers {} {}", status.code, status.reason),
        _ => "no answer from the apiserver".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_refusal_only_what_the_policy_says_is_shown() {
        let refused = |policy: &str, says: &str| {
            let message = format!(
                "pods \"p\" is forbidden: ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: {says}"
            );
            let status = kube::core::Status::failure(&message, "Invalid").with_code(422);
            Verdict::of(&Error::from_kube(&"eu-1".parse().unwrap(), "x", kube::Error::Api(status.boxed())))
        };
        let ours = refused("spaceport-pods", "a workspace's pod is not privileged");
        assert!(matches!(ours, Verdict::ByPolicy(says) if says == "a workspace's pod is not privileged"));
        let changed = refused("spaceport-pods", "hunter2");
        assert!(matches!(changed, Verdict::ByPolicy(says) if !says.contains("hunter2")));
        for other in ["spaceport-fence", "no-hunter"] {
            assert!(matches!(refused(other, "x"), Verdict::ByOther(_)), "{other}");
        }
    }
}
