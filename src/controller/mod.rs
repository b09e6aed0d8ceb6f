//! STUB for compiling only, replaced by the merge of controller-room.
#![allow(missing_docs)]
use crate::cluster::apply::Writer;
use crate::cluster::cache::{NamespaceCache, NodeCache};
use crate::cluster::maintenance::Maintenance;
use crate::domain::class::Class;
use crate::domain::keyed::Keyed;
use crate::domain::names::{Namespace, WorkspaceId};
use crate::domain::template::WorkspaceUrl;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
#[derive(Debug, Clone)]
pub struct Settings {
    pub namespace: Namespace,
    pub secrets_namespace: Namespace,
    pub classes: BTreeMap<String, ClassSettings>,
    pub timeouts: Timeouts,
    pub url: WorkspaceUrl,
    pub host_url: String,
    pub workspace_cluster_host: String,
    pub workspace_host_path: String,
    pub scheduler_name: String,
    pub seccomp_profile: Option<String>,
    pub registry_facade_host: Option<String>,
    pub workspacekit: bool,
    pub heartbeat_interval: Duration,
    pub custom_ca: bool,
    pub recreation: Recreation,
    pub concurrency: usize,
    pub pass_deadline: Duration,
}
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    pub startup: Duration,
    pub initialization: Duration,
    pub regular_workspace: Duration,
    pub max_lifetime: Duration,
    pub headless_workspace: Duration,
    pub after_close: Duration,
    pub content_finalization: Duration,
    pub stopping: Duration,
    pub interrupted: Duration,
}
#[derive(Debug, Clone, Copy)]
pub struct Recreation {
    pub max_retries: u32,
    pub backoff: Duration,
}
#[derive(Debug, Clone)]
pub struct ClassSettings {
    pub class: Class,
}
#[derive(Debug, Clone, Default)]
pub struct PodTemplates {
    pub default: Option<Pod>,
    pub regular: Option<Pod>,
    pub prebuild: Option<Pod>,
    pub imagebuild: Option<Pod>,
}
impl PodTemplates {
    pub fn read(_: &crate::domain::class::Templates) -> Result<Self, std::io::Error> {
        Ok(Self::default())
    }
}
impl ClassSettings {
    pub fn new(class: Class, _: &PodTemplates) -> Self {
        Self { class }
    }
}
pub trait OwnerTokens: Send + Sync {
    fn owner_token(&self, id: &WorkspaceId, generation: u32) -> String;
}
impl OwnerTokens for Keyed {
    fn owner_token(&self, id: &WorkspaceId, generation: u32) -> String {
        Self::owner_token(self, id, generation)
    }
}
pub struct Controller;
impl Controller {
    pub fn new(
        _: Arc<Settings>,
        _: Arc<NamespaceCache>,
        _: Arc<NodeCache>,
        _: Arc<Maintenance>,
        _: Arc<dyn OwnerTokens>,
    ) -> Self {
        Self
    }
    pub fn enqueue(&self, _: &str) {}
    pub fn node_gone(&self, _: &str) {}
    pub async fn run(&self, _: Writer, _: tokio_util::sync::CancellationToken) {}
}
