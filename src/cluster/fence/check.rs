//! Whether a cluster that is to be fenced is.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::{Api, Client};

use super::{NAME, PROBE, Verdict, namespaces, probe};
use crate::cluster::error::{Error, Result};
use crate::domain::cluster::{ClusterSpec, FenceMode};
use crate::domain::names::{ClusterName, Namespace};

/// The oldest minor version of Kubernetes 1 with the policies.
const OLDEST_MINOR: u32 = 30;
/// What is no epoch.
const NONE: &str = "none";
/// The policies and their bindings.
const POLICIES: [&str; 3] = ["spaceport-fence", "spaceport-fence-shown", "spaceport-fence-parameter"];
/// Where what is missing is.
const HINT: &str = "see clusters/member/, or set fence: off in the cluster file";

/// One sentence for each thing that is missing; nothing where the fence is off. `client` goes out as user `spaceport`
/// without an epoch. Without that user nothing else can be checked: then it fails at once.
pub async fn check(spec: &ClusterSpec, client: &Client) -> Result<Vec<String>> {
    if spec.fence == FenceMode::Off {
        return Ok(Vec::new());
    }
    let mut missing = version(&spec.name, client).await?;
    for name in POLICIES {
        let policy = Api::<ValidatingAdmissionPolicy>::all(client.clone()).get(name).await.map(drop);
        let binding = Api::<ValidatingAdmissionPolicyBinding>::all(client.clone()).get(name).await.map(drop);
        for (kind, answer) in
            [("ValidatingAdmissionPolicy", policy), ("ValidatingAdmissionPolicyBinding", binding)]
        {
            missing.extend(present(&spec.name, &format!("{kind} {name}"), answer)?);
        }
    }
    for namespace in namespaces(spec) {
        missing.extend(policies(&spec.name, client, namespace).await?);
    }
    Ok(missing)
}

async fn version(cluster: &ClusterName, client: &Client) -> Result<Vec<String>> {
    let failed = |error| Error::from_kube(cluster, "get /version", error);
    let request = http::Request::get("/version").body(Vec::new());
    let request = request.map_err(|error| failed(kube::Error::HttpError(error)))?;
    let info: Info = match client.request(request).await {
        Ok(info) => info,
        Err(kube::Error::Api(status)) if is_impersonation(&status.message) => {
            return Err(unfit(cluster, &status.message));
        }
        Err(error) => return Err(failed(error)),
    };
    let minor: String = info.minor.chars().take_while(char::is_ascii_digit).collect();
    let old = info.major == "1" && minor.parse::<u32>().is_ok_and(|minor| minor < OLDEST_MINOR);
    let told =
        format!("its Kubernetes is {}, and the fence needs 1.{OLDEST_MINOR}; {HINT}", info.git_version);
    Ok(old.then_some(told).into_iter().collect())
}

fn present(cluster: &ClusterName, what: &str, answer: kube::Result<()>) -> Result<Option<String>> {
    match answer {
        Ok(()) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            Ok(Some(format!("the fence is not in force: {what} is missing; {HINT}")))
        }
        Err(kube::Error::Api(status)) if status.code == 403 => {
            Ok(Some(format!("user spaceport may not get {what}; {HINT}")))
        }
        Err(error) => Err(Error::from_kube(cluster, format!("get {what}"), error)),
    }
}

/// Dry-run writes that the policies must refuse.
async fn policies(cluster: &ClusterName, client: &Client, namespace: &Namespace) -> Result<Vec<String>> {
    let tries = [
        (PROBE, None, "a write without an epoch is taken"),
        (PROBE, Some(NONE), "a write that shows no epoch but something else is taken"),
        (NAME, Some(NONE), "its parameter may hold anything"),
    ];
    let mut missing = Vec::new();
    for (name, epoch, taken) in tries {
        match probe(cluster, client, namespace, name, epoch).await? {
            Verdict::Fenced(_) => {}
            Verdict::Taken => {
                missing.push(format!("the fence is not in force in namespace {namespace}: {taken}; {HINT}"));
            }
            Verdict::Refused(message) if is_impersonation(&message) => return Err(unfit(cluster, &message)),
            Verdict::Refused(message) => {
                missing.push(format!("the fence cannot be tried in namespace {namespace}: {message}"));
                break;
            }
        }
    }
    Ok(missing)
}

fn is_impersonation(message: &str) -> bool {
    message.contains("cannot impersonate")
}

fn unfit(cluster: &ClusterName, message: &str) -> Error {
    let missing = vec![format!("the login may not act as user spaceport: {message}; {HINT}")];
    Error::Unfit { cluster: cluster.clone(), missing }
}
