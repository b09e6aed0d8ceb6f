//! Whether a cluster that is to be fenced is.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::{Api, Client};

use super::{NAME, PROBE, Verdict, namespaces, probe};
use crate::cluster::error::Error;
use crate::domain::check::Check;
use crate::domain::cluster::{ClusterSpec, FenceMode};

/// Of the check.
const CHECK: &str = "fence";
/// What is no epoch.
const NONE: &str = "none";
/// The policies and their bindings.
const POLICIES: [&str; 3] = ["spaceport-fence", "spaceport-fence-shown", "spaceport-fence-parameter"];
const REMEDY: &str = "apply clusters/member/fence.yaml and rbac.yaml there, or run `spaceport cluster install`; or set \
                      `fence: off` in the cluster file";

/// The policies are there, and refuse dry-run writes that they must refuse. `client` goes out as user `spaceport` without
/// an epoch.
pub async fn check(client: &Client, spec: &ClusterSpec) -> Check {
    if spec.fence == FenceMode::Off {
        return Check::warning(
            CHECK,
            "off: a late write of an earlier leader is not refused",
            "set fence: enforced",
        );
    }
    match missing(client, spec).await {
        Ok(missing) if missing.is_empty() => Check::ok(CHECK, "its policies are in force"),
        Ok(missing) => {
            Check::failed(CHECK, format!("the fence is not in force: {}", missing.join("; ")), REMEDY)
        }
        Err(error) => Check::failed(CHECK, error.cause(), "look at the apiserver"),
    }
}

async fn missing(client: &Client, spec: &ClusterSpec) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    for name in POLICIES {
        let policy = Api::<ValidatingAdmissionPolicy>::all(client.clone()).get(name).await.map(drop);
        let binding = Api::<ValidatingAdmissionPolicyBinding>::all(client.clone()).get(name).await.map(drop);
        for (kind, answer) in
            [("ValidatingAdmissionPolicy", policy), ("ValidatingAdmissionPolicyBinding", binding)]
        {
            match answer {
                Ok(()) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    missing.push(format!("{kind} {name} is missing"));
                }
                // Then the writes below have to tell.
                Err(kube::Error::Api(status)) if status.code == 403 => {}
                Err(error) => return Err(Error::from_kube(&spec.name, format!("get {kind} {name}"), error)),
            }
        }
    }
    for namespace in namespaces(spec) {
        let tries = [
            (PROBE, None, "a write without an epoch is taken"),
            (PROBE, Some(NONE), "a write that shows no epoch but something else is taken"),
            (NAME, Some(NONE), "its parameter may hold anything"),
        ];
        for (name, epoch, taken) in tries {
            match probe(&spec.name, client, namespace, name, epoch).await? {
                Verdict::Fenced(_) => {}
                Verdict::Taken => missing.push(format!("{taken} in namespace {namespace}")),
                Verdict::Refused(message) => {
                    missing.push(format!("it cannot be tried in namespace {namespace}: {message}"));
                    break;
                }
            }
        }
    }
    Ok(missing)
}
