//! A start request as a Workspace and its secrets.

use std::collections::BTreeMap;

use crate::cluster::resources::Workspace;
use crate::domain::names::Namespace;
use crate::domain::record::Digest;
use crate::domain::secret::Secret;
use crate::domain::workspace::Start;

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
    let _ = (start, build);
    todo!()
}

/// The secrets of a start.
pub fn secrets(start: &Start) -> SecretsOf {
    let _ = start;
    todo!()
}
