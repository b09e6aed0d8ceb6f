//! A start request as a Workspace and its secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{EnvVarSource, SecretKeySelector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ring::digest;

use crate::cluster::resources::{self, Workspace, WorkspaceSpec, names};
use crate::domain::duration::GoDuration;
use crate::domain::names::{Namespace, WorkspaceId};
use crate::domain::record::Digest;
use crate::domain::secret::Secret;
use crate::domain::workspace::{Access, EnvValue, EnvVar, Features, Kind, Port, Protocol, Start, Timeouts};

use super::view::PROJECT;

/// Prefixes of variables that hold no secret.
const OPEN_PREFIXES: [&str; 4] = ["GITPOD_", "SUPERVISOR_", "BOB_", "THEIA_"];
/// Variables that hold no secret.
const OPEN: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "VSX_REGISTRY_URL"];
/// The variable that holds one in spite of its prefix.
const TOKENS: &str = "THEIA_SUPERVISOR_TOKENS";

/// What a Workspace takes from elsewhere than the request.
#[derive(Debug, Clone)]
pub struct Build<'a> {
    /// Namespace it is made in.
    pub namespace: &'a Namespace,
    /// Class it was placed with.
    pub class: &'a str,
    /// Generation of its placement.
    pub generation: u32,
    /// Digest of the request.
    pub digest: &'a Digest,
    /// Installation id, put on as an annotation.
    pub installation: &'a str,
    /// Bytes the class grants its content.
    pub storage_quota: Option<i64>,
    /// The class's guaranteed CPU, as `gitpod.io/cpuMinLimit`.
    pub cpu_min_limit: Option<&'a str>,
    /// The class's CPU in bursts, as `gitpod.io/cpuBurstLimit`.
    pub cpu_burst_limit: Option<&'a str>,
    /// The configured SSH CA public key; used where the request asks for it.
    pub ssh_ca_public_key: Option<&'a str>,
}

/// Contents of the secrets a workspace needs; none is made where nothing is to be kept.
#[derive(Debug, Clone, Default)]
pub struct SecretsOf {
    /// `<id>-env` in the workspace namespace.
    pub env: Option<Secret<BTreeMap<String, String>>>,
    /// `<id>-tokens` in the secrets namespace.
    pub tokens: Option<Secret<BTreeMap<String, String>>>,
}

/// The Workspace of a start.
pub fn workspace(start: &Start, build: &Build<'_>) -> Workspace {
    Workspace { metadata: metadata(start, build), spec: spec(start, build), status: None }
}

/// The secrets of a start.
pub fn secrets(start: &Start) -> SecretsOf {
    let system = system_names(start);
    let mut env = BTreeMap::new();
    for variable in &start.user_env {
        if let EnvValue::Plain(value) = &variable.value
            && !value.is_empty()
            && is_protected(&variable.name, &system)
        {
            env.insert(secret_key(&variable.name), value.clone());
        }
    }
    let kept = |content: BTreeMap<_, _>| (!content.is_empty()).then(|| Secret::new(content));
    SecretsOf { env: kept(env), tokens: kept(start.token_secrets.clone()) }
}

fn metadata(start: &Start, build: &Build<'_>) -> ObjectMeta {
    let labels = [
        (names::WORKSPACE_ID, start.meta.as_str()),
        (names::OWNER, start.owner.as_str()),
        (names::MANAGED_BY, names::MANAGER),
    ];
    ObjectMeta {
        name: Some(start.id.to_string()),
        namespace: Some(build.namespace.to_string()),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        annotations: Some(annotations(start, build)),
        finalizers: Some(vec![names::FINALIZER.to_owned()]),
        ..ObjectMeta::default()
    }
}

/// The request's annotations; ours win over those of the same name.
fn annotations(start: &Start, build: &Build<'_>) -> BTreeMap<String, String> {
    let Features { connection_limiting, psi, ssh_ca: _ } = start.features;
    let generation = build.generation.to_string();
    let ours = [
        (names::GENERATION, Some(generation.as_str())),
        (names::SPEC_DIGEST, Some(build.digest.0.as_str())),
        (names::INSTALLATION, Some(build.installation)),
        (PROJECT, start.project.as_deref()),
        (names::CPU_MIN_LIMIT, build.cpu_min_limit),
        (names::CPU_BURST_LIMIT, build.cpu_burst_limit),
        (names::CONNECTION_LIMIT, connection_limiting.then_some("true")),
        (names::PSI, psi.then_some("true")),
    ];
    let mut all = start.annotations.clone();
    all.extend(ours.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))));
    all
}

fn spec(start: &Start, build: &Build<'_>) -> WorkspaceSpec {
    let system = system_names(start);
    let user = start.user_env.iter().filter_map(|variable| user_variable(&start.id, variable, &system));
    WorkspaceSpec {
        admission: resources::Admission { level: level(start.admission) },
        class: build.class.to_owned(),
        git: start
            .git
            .as_ref()
            .map(|git| Box::new(resources::Git { email: git.email.clone(), username: git.username.clone() })),
        image: resources::Image {
            ide: resources::IdeImage {
                refs: start.ide.layers.clone(),
                supervisor: start.ide.supervisor.clone(),
                web: start.ide.web.clone(),
            },
            workspace: resources::WorkspaceImage { reference: Some(start.image.clone()) },
        },
        initializer: resources::Initializer(ByteString(start.initializer.clone())),
        ownership: resources::Ownership {
            owner: start.owner.to_string(),
            team: start.team.clone(),
            tenant: None,
            workspace_id: start.meta.to_string(),
        },
        ports: start.ports.iter().map(port).collect(),
        ssh_gateway_ca_public_key: start
            .features
            .ssh_ca
            .then(|| build.ssh_ca_public_key.map(ToOwned::to_owned))
            .flatten(),
        ssh_public_keys: start.ssh_public_keys.clone(),
        storage_quota: build.storage_quota,
        sys_env_vars: start.sys_env.iter().map(system_variable).collect(),
        timeout: timeout(start.timeouts).map(Box::new),
        type_: match start.kind {
            Kind::Regular => resources::WorkspaceType::Regular,
            Kind::Prebuild => resources::WorkspaceType::Prebuild,
            Kind::ImageBuild => resources::WorkspaceType::ImageBuild,
        },
        user_env_vars: user.collect(),
        workspace_location: start.workspace_location.clone(),
    }
}

/// How the resource says who may enter.
pub fn level(access: Access) -> resources::AdmissionLevel {
    match access {
        Access::Owner => resources::AdmissionLevel::Owner,
        Access::Everyone => resources::AdmissionLevel::Everyone,
    }
}

/// How the resource says what a port is.
pub fn port(port: &Port) -> resources::Port {
    resources::Port {
        port: i32::from(port.port),
        protocol: match port.protocol {
            Protocol::Http => resources::PortProtocol::Http,
            Protocol::Https => resources::PortProtocol::Https,
        },
        visibility: level(port.visibility),
    }
}

/// How the resource's timeouts are written: Go durations of whole milliseconds, rounded up, as its schema asks.
pub fn timeout_text(duration: Duration) -> String {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    let rounded = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
    GoDuration::from(rounded).to_string()
}

fn timeout(timeouts: Timeouts) -> Option<resources::Timeout> {
    let Timeouts { inactivity, closed, maximum_lifetime } = timeouts;
    let given = inactivity.is_some() || closed.is_some() || maximum_lifetime.is_some();
    given.then(|| resources::Timeout {
        time: inactivity.map(timeout_text),
        closed: closed.map(timeout_text),
        maximum_lifetime: maximum_lifetime.map(timeout_text),
    })
}

fn system_names(start: &Start) -> BTreeSet<&str> {
    start.sys_env.iter().map(|variable| variable.name.as_str()).collect()
}

/// Whether a user's variable is kept in a Secret.
fn is_protected(name: &str, system: &BTreeSet<&str>) -> bool {
    let is_open = OPEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || OPEN.contains(&name)
        || system.contains(name);
    name == TOKENS || !is_open
}

/// Key of a variable in the Secret: variable names are no valid keys.
fn secret_key(name: &str) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let hash = digest::digest(&digest::SHA256, name.as_bytes());
    let digits = hash.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| DIGITS[usize::from(digit)]).collect()
}

fn user_variable(id: &WorkspaceId, variable: &EnvVar, system: &BTreeSet<&str>) -> Option<resources::EnvVar> {
    let name = variable.name.clone();
    match &variable.value {
        EnvValue::Plain(value) if value.is_empty() => None,
        EnvValue::Plain(_) if is_protected(&name, system) => {
            let key = secret_key(&name);
            Some(referring(name, names::env_secret(id.as_str()), key))
        }
        EnvValue::Plain(value) => {
            Some(resources::EnvVar { name, value: Some(value.clone()), value_from: None })
        }
        EnvValue::Secret(secret) => Some(referring(name, secret.name.clone(), secret.key.clone())),
    }
}

fn system_variable(variable: &EnvVar) -> resources::EnvVar {
    let name = variable.name.clone();
    match &variable.value {
        EnvValue::Plain(value) => resources::EnvVar { name, value: Some(value.clone()), value_from: None },
        EnvValue::Secret(secret) => referring(name, secret.name.clone(), secret.key.clone()),
    }
}

fn referring(name: String, secret: String, key: String) -> resources::EnvVar {
    let selector = SecretKeySelector { key, name: secret, optional: None };
    let source = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
    resources::EnvVar { name, value: None, value_from: Some(Box::new(source)) }
}

#[cfg(test)]
mod tests;
