//! A start request as a Workspace and its Secrets.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{EnvVarSource, SecretKeySelector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::resources::{self, Workspace, WorkspaceSpec, names};
use domain::cluster::NodeAgent;
use domain::duration::GoDuration;
use domain::hash;
use domain::names::{Namespace, WorkspaceId};
use domain::pod_annotations::is_reserved;
use domain::record::Digest;
use domain::secret::Secret;
use domain::signing::Keying;
use domain::workspace::{EnvValue, EnvVar, Features, OwnTimeouts, Port, Start};

use super::view::PROJECT;

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
    /// What the start is keyed with.
    pub keying: Option<&'a Keying>,
    /// Installation id, put on as an annotation.
    pub installation: &'a str,
    /// When the placement was recorded, as its secrets say it too.
    pub placed_at: Timestamp,
    /// Which node agent serves there.
    pub node_agent: NodeAgent,
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

/// The secrets of a start, for the node agent that serves there.
pub fn secrets(start: &Start, agent: NodeAgent) -> SecretsOf {
    let of = |variables: &[EnvVar], key: fn(&str) -> String| -> Vec<(String, String)> {
        let plain = |variable: &EnvVar| match &variable.value {
            EnvValue::Plain(value) if !value.is_empty() => Some((key(&variable.name), value.clone())),
            EnvValue::Plain(_) | EnvValue::Secret(_) => None,
        };
        variables.iter().filter_map(plain).collect()
    };
    let env: BTreeMap<_, _> =
        of(&start.user_env, user_key).into_iter().chain(of(&start.sys_env, system_key)).collect();
    let kept = |content: BTreeMap<_, _>| (!content.is_empty()).then(|| Secret::new(content));
    SecretsOf { env: kept(env), tokens: kept(start.initializer_for(agent).secrets.clone()) }
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

/// The request's annotations without those that only the manager sets, and the manager's own.
fn annotations(start: &Start, build: &Build<'_>) -> BTreeMap<String, String> {
    let Features { connection_limiting, psi, ssh_ca: _ } = start.features;
    let generation = build.generation.to_string();
    let placed_at = build.placed_at.to_string();
    let keying = build.keying.map(ToString::to_string);
    let ours = [
        (names::GENERATION, Some(generation.as_str())),
        (names::SPEC_DIGEST, Some(build.digest.0.as_str())),
        (names::INSTALLATION, Some(build.installation)),
        (names::PLACED_AT, Some(placed_at.as_str())),
        (names::KEYING, keying.as_deref()),
        (PROJECT, start.project.as_deref()),
        (names::CPU_MIN_LIMIT, build.cpu_min_limit),
        (names::CPU_BURST_LIMIT, build.cpu_burst_limit),
        (names::CONNECTION_LIMIT, connection_limiting.then_some("true")),
        (names::PSI, psi.then_some("true")),
    ];
    let of_client = start.annotations.iter().filter(|(key, _)| !is_reserved(key));
    let mut all: BTreeMap<_, _> = of_client.map(|(key, value)| (key.clone(), value.clone())).collect();
    all.extend(ours.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))));
    all
}

fn spec(start: &Start, build: &Build<'_>) -> WorkspaceSpec {
    let user = start.user_env.iter().filter_map(|user| variable(&start.id, user, user_key));
    let system = start.sys_env.iter().filter_map(|system| variable(&start.id, system, system_key));
    WorkspaceSpec {
        admission: resources::Admission { level: start.admission },
        class: build.class.to_owned(),
        git: start.git.clone().map(Box::new),
        image: resources::Image {
            ide: start.ide.clone(),
            workspace: resources::WorkspaceImage { reference: Some(start.image.clone()) },
        },
        initializer: resources::Initializer(ByteString(
            start.initializer_for(build.node_agent).content.clone(),
        )),
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
        sys_env_vars: system.collect(),
        timeout: timeout(start.timeouts).map(Box::new),
        type_: start.kind,
        user_env_vars: user.collect(),
        workspace_location: start.workspace_location.clone(),
    }
}

/// How the resource says what a port is.
pub fn port(port: &Port) -> resources::Port {
    resources::Port { port: i32::from(port.port), protocol: port.protocol, visibility: port.visibility }
}

/// How the resource's timeouts are written: Go durations of whole milliseconds, rounded up, as its schema asks.
pub fn timeout_text(duration: Duration) -> String {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    let rounded = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
    GoDuration::from(rounded).to_string()
}

fn timeout(timeouts: OwnTimeouts) -> Option<resources::Timeout> {
    let OwnTimeouts { inactivity, closed, maximum_lifetime } = timeouts;
    let given = inactivity.is_some() || closed.is_some() || maximum_lifetime.is_some();
    given.then(|| resources::Timeout {
        time: inactivity.map(timeout_text),
        closed: closed.map(timeout_text),
        maximum_lifetime: maximum_lifetime.map(timeout_text),
    })
}

/// Key of a user's variable in the Secret: variable names are no valid keys.
fn user_key(name: &str) -> String {
    hash::hex(name)
}

/// Key of a variable of the system, which may have the name of a user's.
fn system_key(name: &str) -> String {
    format!("sys-{}", hash::hex(name))
}

/// A variable as a reference to its value. One without a value is left out, as pods leave it out.
fn variable(id: &WorkspaceId, variable: &EnvVar, key: fn(&str) -> String) -> Option<resources::EnvVar> {
    let name = variable.name.clone();
    match &variable.value {
        EnvValue::Plain(value) if value.is_empty() => None,
        EnvValue::Plain(_) => {
            let key = key(&name);
            Some(referring(name, names::env_secret(id.as_str()), key))
        }
        EnvValue::Secret(secret) => Some(referring(name, secret.name.clone(), secret.key.clone())),
    }
}

fn referring(name: String, secret: String, key: String) -> resources::EnvVar {
    let selector = SecretKeySelector { key, name: secret, optional: None };
    let source = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
    resources::EnvVar { name, value: None, value_from: Some(Box::new(source)) }
}

#[cfg(test)]
pub(super) mod tests;
