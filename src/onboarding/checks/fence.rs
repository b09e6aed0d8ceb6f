//! The check `fence`: the policies in the cluster, and how they decide over the writes that a leader sends.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use uuid::Uuid;

use crate::fence_policies::{self, State};
use domain::check::Check;
use domain::cluster::{ClusterSpec, FenceMode};
use domain::epoch::Epoch;
use domain::names::Namespace;
use member::error::Error;
use member::fence::{Fault, NAME, NO_RIGHTS, PROBE, Trial, Verdict, held_by, namespaces};

/// Of the check.
const CHECK: &str = "fence";
/// What is no epoch.
const NONE: &str = "none";
/// Reads of a parameter that changes meanwhile, as it does while a leader raises it.
const TRIES: usize = 3;
const INSTALL: &str = "run `spaceport cluster install`, or apply clusters/member/fence.yaml over what is there, and rbac.yaml; \
                       or set `fence: off` in the cluster file";
const RESTART: &str = "restart the cluster's apiservers (docs/operations/fence.md)";

/// What is wrong, and what to do about it.
#[derive(Debug, Default)]
struct Findings {
    failed: Vec<String>,
    /// Policies of an earlier version.
    outdated: Vec<String>,
    warned: Vec<String>,
    remedies: Vec<String>,
}

impl Findings {
    fn fail(&mut self, problem: impl Into<String>, remedy: impl Into<String>) {
        self.failed.push(problem.into());
        self.remedy(remedy.into());
    }

    fn warn(&mut self, problem: impl Into<String>, remedy: impl Into<String>) {
        self.warned.push(problem.into());
        self.remedy(remedy.into());
    }

    fn remedy(&mut self, remedy: String) {
        if !self.remedies.contains(&remedy) {
            self.remedies.push(remedy);
        }
    }

    fn join(mut self, other: Self) -> Self {
        self.failed.extend(other.failed);
        self.outdated.extend(other.outdated);
        self.warned.extend(other.warned);
        other.remedies.into_iter().for_each(|remedy| self.remedy(remedy));
        self
    }
}

/// Compares the policies with those that this program ships, and sends the dry-run writes of a leader in every namespace.
/// `client` acts as user `spaceport` without an epoch, or if the fence is off under the login's own name.
pub(super) async fn check(client: &Client, spec: &ClusterSpec, installation: &str) -> Check {
    let looked = match spec.fence {
        FenceMode::Off => off(client, spec).await,
        FenceMode::Enforced => enforced(client, spec, installation).await,
    };
    let Findings { failed, outdated, warned, remedies } = match looked {
        Ok(findings) => findings,
        Err(error) => return Check::failed(CHECK, error.cause(), "check the apiserver"),
    };
    let remedy = remedies.join("; ");
    let mut problems = Vec::new();
    if !failed.is_empty() {
        problems.push(format!("the fence is not in force: {}", failed.join("; ")));
    }
    if !outdated.is_empty() {
        problems.push(format!("the fence is of an earlier version of Spaceport: {}", outdated.join(", ")));
    }
    if !problems.is_empty() {
        Check::failed(CHECK, problems.join("; "), remedy)
    } else if !warned.is_empty() {
        Check::warning(CHECK, warned.join("; "), remedy)
    } else {
        Check::ok(CHECK, "its policies are in force in every namespace")
    }
}

/// Without the fence the login itself must be able to write; the check `permissions` says which rights it lacks.
async fn off(client: &Client, spec: &ClusterSpec) -> Result<Findings, Error> {
    let mut findings = Findings::default();
    findings.warn("off: a late write of an earlier leader is not rejected", "set fence: enforced");
    for namespace in namespaces(spec) {
        let trial = Trial { cluster: &spec.name, client, namespace };
        match trial.create(PROBE, NONE, None).await? {
            Verdict::Accepted => {}
            Verdict::NotAllowed => findings.warn(format!("namespace {namespace}: {NO_RIGHTS}"), ""),
            Verdict::Fenced(reason) => findings.fail(format!("namespace {namespace}: {reason}"), ""),
            Verdict::Refused(rule) => {
                findings.fail(format!("a write in namespace {namespace} is rejected: {rule}"), "");
            }
        }
    }
    findings.remedies.retain(|remedy| !remedy.is_empty());
    Ok(findings)
}

async fn enforced(client: &Client, spec: &ClusterSpec, installation: &str) -> Result<Findings, Error> {
    let policies = policies(client, spec).await?;
    let intact = policies.failed.is_empty() && policies.outdated.is_empty() && policies.warned.is_empty();
    let looks = namespaces(spec).into_iter().map(async |namespace| {
        let trial = Trial { cluster: &spec.name, client, namespace };
        let mut findings = Findings::default();
        refusals(&trial, &mut findings).await?;
        if findings.failed.is_empty() {
            acceptance(&trial, installation, intact, &mut findings).await?;
        }
        Ok::<_, Error>(findings)
    });
    let found = futures::future::try_join_all(looks).await?;
    let mut findings = found.into_iter().fold(policies, Findings::join);
    recreated(client, spec, &mut findings).await;
    Ok(findings)
}

/// Warns where the binding is younger than the last raise of a parameter: somebody deleted it while a namespace held an epoch, so
/// apiservers may compare with the epoch of that time. No dry-run write shows that before the next leader raises it.
async fn recreated(client: &Client, spec: &ClusterSpec, findings: &mut Findings) {
    let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(client.clone());
    let Ok(binding) = bindings.get_metadata(NAME).await else { return };
    let Some(bound) = binding.metadata.creation_timestamp else { return };
    for namespace in namespaces(spec) {
        let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace.as_str());
        let Ok(parameter) = maps.get_metadata(NAME).await else { continue };
        let raised =
            parameter.metadata.managed_fields.iter().flatten().filter_map(|fields| fields.time.clone()).max();
        if raised.or(parameter.metadata.creation_timestamp).is_some_and(|raised| raised < bound) {
            let problem = format!(
                "its binding was made at {}, after ConfigMap {NAME} of namespace {namespace} was raised: somebody deleted it, and \
                 apiservers may not follow the ConfigMap since then; the next leader might not get in",
                bound.0
            );
            return findings.warn(problem, RESTART);
        }
    }
}

/// Whether each policy and binding is the one that this program ships.
async fn policies(client: &Client, spec: &ClusterSpec) -> Result<Findings, Error> {
    let mut findings = Findings::default();
    for (what, state) in fence_policies::compare(client, &spec.name).await? {
        match state {
            State::Same | State::Later | State::Unread => {}
            State::Missing => findings.fail(format!("{what} is missing"), INSTALL),
            State::Earlier => {
                findings.outdated.push(what);
                findings.remedy(INSTALL.to_owned());
            }
            State::Changed => {
                findings.warn(format!("{what} differs from the one that this version ships"), INSTALL);
            }
        }
    }
    Ok(findings)
}

/// Writes that are refused whatever the parameter holds.
async fn refusals(trial: &Trial<'_>, findings: &mut Findings) -> Result<(), Error> {
    let namespace = trial.namespace;
    let tries = [
        (PROBE, None, "a write without an epoch is accepted"),
        (PROBE, Some(NONE), "a write with something else than an epoch is accepted"),
        (NAME, Some(NONE), "a ConfigMap of the fence without an epoch is accepted"),
    ];
    for (name, epoch, accepted) in tries {
        match trial.create(name, NONE, epoch).await? {
            Verdict::Fenced(_) => {}
            Verdict::Accepted => findings.fail(format!("{accepted} in namespace {namespace}"), INSTALL),
            refused => {
                let reason = refused.reason();
                findings.fail(format!("a dry-run write in namespace {namespace} failed: {reason}"), INSTALL);
                break;
            }
        }
    }
    Ok(())
}

/// Writes that show the epoch that is held, and the one before. Where none is held: the first write of a leader.
async fn acceptance(
    trial: &Trial<'_>,
    installation: &str,
    intact: bool,
    findings: &mut Findings,
) -> Result<(), Error> {
    let namespace = trial.namespace;
    let mut held = held(trial).await?;
    let mut fault = None;
    for _ in 0..TRIES {
        fault = match &held {
            Some(epoch) => trial.compare(epoch).await?,
            None => first_write(trial, installation).await?,
        };
        let now = self::held(trial).await?;
        if fault.is_none() || now == held {
            break;
        }
        held = now;
    }
    if let Some(epoch) = held.filter(|epoch| epoch.installation.to_string() != installation) {
        let remedy = format!(
            "deregister the cluster there, annotate ConfigMap {NAME} of the namespace with spaceport.dev/release and \
             delete it"
        );
        let holder = epoch.installation;
        findings.fail(format!("namespace {namespace} is held by installation {holder} of Spaceport"), remedy);
    }
    match fault {
        None => {}
        Some(fault) if intact => findings.fail(stale(namespace, &fault), RESTART),
        Some(fault) => findings.fail(format!("namespace {namespace}: {fault}"), INSTALL),
    }
    Ok(())
}

/// The policies are as they must be and compare with something else than what is stored.
fn stale(namespace: &Namespace, fault: &Fault) -> String {
    let what = match fault {
        Fault::EarlierAccepted => "an earlier epoch is accepted".to_owned(),
        Fault::Refused(reason) => format!("the current epoch is rejected ({reason})"),
        Fault::Terminating => return format!("namespace {namespace} is being deleted"),
    };
    format!(
        "namespace {namespace}: {what}, so its apiserver compares with a ConfigMap {NAME} that it saw earlier, as after \
         the policies were deleted and applied again"
    )
}

async fn held(trial: &Trial<'_>) -> Result<Option<Epoch>, Error> {
    let api = Api::<ConfigMap>::namespaced(trial.client.clone(), trial.namespace.as_str());
    let failed = |error| Error::from_kube(trial.cluster, format!("get ConfigMap {NAME}"), error);
    Ok(api.get_opt(NAME).await.map_err(failed)?.as_ref().and_then(held_by))
}

/// A leader's first write makes the parameter.
async fn first_write(trial: &Trial<'_>, installation: &str) -> Result<Option<Fault>, Error> {
    let Ok(installation) = installation.parse::<Uuid>() else { return Ok(None) };
    let first = Epoch { installation, incarnation: 1, revision: 1 }.to_string();
    for (name, data) in [(PROBE, NONE), (NAME, first.as_str())] {
        match trial.create(name, data, Some(&first)).await? {
            Verdict::Accepted => {}
            refused => return Ok(Some(Fault::Refused(refused.reason()))),
        }
    }
    Ok(None)
}
