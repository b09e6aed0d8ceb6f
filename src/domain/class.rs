//! Workspace classes: resources, pod templates and price of a kind of workspaces.
//!
//! A class is deserialized as [`RawClass`], which has the keys of the configuration and of cluster files, and becomes a
//! [`Class`] only if it has no problems.

use std::path::PathBuf;

pub use super::names::ClassId;

pub use quantity::Quantity;
pub use raw::{Problem, RawClass, RawContainer, RawCpu, RawLimits, RawRequests, RawTemplates};

mod quantity;
mod raw;
#[cfg(test)]
mod tests;

/// Why a text is not a valid quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a quantity of Kubernetes.
    #[error("{0:?} is not a quantity such as 500m, 2 or 16Gi")]
    InvalidQuantity(String),
    /// Resource quantities must not be negative.
    #[error("{0:?} is negative")]
    NegativeQuantity(String),
    /// More than Kubernetes can count.
    #[error("{0:?} is larger than a quantity can be")]
    QuantityOverflow(String),
}

/// A valid workspace class.
#[derive(Debug, Clone, PartialEq)]
pub struct Class {
    /// Id that start requests name.
    pub id: ClassId,
    /// The name for people; the id if none is configured.
    pub name: String,
    /// The configured description; see [`Class::description`] for what to show.
    pub configured_description: Option<String>,
    /// Price of a minute. The client defines the unit.
    pub credits_per_minute: f32,
    /// Resource requests of the pod.
    pub requests: Requests,
    /// Resource limits of the pod.
    pub limits: Limits,
    /// Pod templates that are merged into the pod.
    pub templates: Templates,
}

/// Resource requests. Zero means no request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requests {
    /// Processor cores.
    pub cpu: Quantity,
    /// Bytes of memory.
    pub memory: Quantity,
    /// Bytes of the node's ephemeral storage.
    pub ephemeral_storage: Quantity,
    /// Bytes of storage; not a resource of the pod.
    pub storage: Quantity,
}

/// Resource limits. Zero means no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Processor cores.
    pub cpu: CpuLimit,
    /// Bytes of memory.
    pub memory: Quantity,
    /// Bytes of the node's ephemeral storage.
    pub ephemeral_storage: Quantity,
    /// Bytes of storage: the quota of the workspace's content.
    pub storage: Quantity,
}

/// CPU limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuLimit {
    /// Guaranteed on a busy node; only an annotation for the node agent.
    pub min: Quantity,
    /// Usable on an idle node; the limit of the pod.
    pub burst: Quantity,
}

/// Files with pod templates, by workspace type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Templates {
    /// For every type.
    pub default: Option<PathBuf>,
    /// For regular workspaces.
    pub regular: Option<PathBuf>,
    /// For prebuilds.
    pub prebuild: Option<PathBuf>,
    /// For image builds.
    pub imagebuild: Option<PathBuf>,
}

impl Templates {
    /// All configured files.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.default, &self.regular, &self.prebuild, &self.imagebuild].into_iter().flatten()
    }
}

const GIGABYTE: u64 = 1_000_000_000;

impl Class {
    /// The configured description, or one generated from the limits.
    pub fn description(&self) -> String {
        if let Some(text) = &self.configured_description {
            return text.clone();
        }
        // Zero means unset: the request is more useful than "0".
        let or_requested = |limit: &Quantity, request: &Quantity| {
            if limit.is_zero() { request.clone() } else { limit.clone() }
        };
        let cpu = or_requested(&self.limits.cpu.burst, &self.requests.cpu);
        let memory = or_requested(&self.limits.memory, &self.requests.memory);
        format!(
            "{} vCPU, {}GB memory, {}GB disk",
            cpu.value(),
            memory.value().div_ceil(GIGABYTE),
            self.limits.storage.value().div_ceil(GIGABYTE)
        )
    }
}
