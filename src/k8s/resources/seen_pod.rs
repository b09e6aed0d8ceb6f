//! Pods with only the fields that Spaceport reads.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Container, ContainerState, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

/// A pod without what nobody here reads: volumes, environment, probes and the rest of its specification are most of it,
/// and every change of a pod brings all of it again. What is read here, [`protobuf`](crate::protobuf) must name, too.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SeenPod {
    /// Name, owner and the like.
    pub metadata: ObjectMeta,
    /// What it asks for.
    pub spec: Option<SeenPodSpec>,
    /// How it is.
    pub status: Option<SeenPodStatus>,
}

/// What a pod asks for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenPodSpec {
    /// The node it is bound to.
    pub node_name: Option<String>,
    /// Its containers.
    #[serde(default)]
    pub containers: Vec<SeenContainer>,
    /// Containers that run before, or beside them.
    pub init_containers: Option<Vec<SeenContainer>>,
    /// What its runtime takes.
    pub overhead: Option<BTreeMap<String, Quantity>>,
    /// What it asks for as a whole.
    pub resources: Option<ResourceRequirements>,
}

/// What a container asks for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenContainer {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// `Always` for an init container that runs beside the others.
    pub restart_policy: Option<String>,
    /// Requests and limits.
    pub resources: Option<ResourceRequirements>,
}

/// How a pod is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenPodStatus {
    /// Where it is in its life.
    pub phase: Option<String>,
    /// Why, in one word.
    pub reason: Option<String>,
    /// Why, in a sentence.
    pub message: Option<String>,
    /// Its address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// Its node's address.
    #[serde(rename = "hostIP")]
    pub host_ip: Option<String>,
    /// What happened to it.
    pub conditions: Option<Vec<SeenCondition>>,
    /// How its containers are.
    pub container_statuses: Option<Vec<SeenContainerStatus>>,
    /// How those are that run before, or beside them.
    pub init_container_statuses: Option<Vec<SeenContainerStatus>>,
    /// How those are that were added for debugging.
    pub ephemeral_container_statuses: Option<Vec<SeenContainerStatus>>,
}

/// What happened to a pod.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct SeenCondition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: Option<String>,
    /// Why, in a sentence.
    pub message: Option<String>,
}

/// How a container is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeenContainerStatus {
    /// The container's.
    pub name: String,
    /// Whether it takes requests.
    pub ready: bool,
    /// What it does.
    pub state: Option<ContainerState>,
    /// How it ended before.
    pub last_state: Option<ContainerState>,
}

impl From<&PodSpec> for SeenPodSpec {
    fn from(spec: &PodSpec) -> Self {
        Self {
            node_name: spec.node_name.clone(),
            containers: spec.containers.iter().map(SeenContainer::from).collect(),
            init_containers: spec.init_containers.as_ref().map(|all| all.iter().map(Into::into).collect()),
            overhead: spec.overhead.clone(),
            resources: spec.resources.clone(),
        }
    }
}

impl From<&Container> for SeenContainer {
    fn from(container: &Container) -> Self {
        Self {
            name: container.name.clone(),
            restart_policy: container.restart_policy.clone(),
            resources: container.resources.clone(),
        }
    }
}

impl Resource for SeenPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
