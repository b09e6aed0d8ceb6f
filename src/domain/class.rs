//! Workspace classes: what a workspace of a kind may use, and what it costs.
//!
//! A class is read as [`RawClass`], which has the key names of the configuration and of cluster files, and becomes a
//! [`Class`] only without a single problem.

use std::path::PathBuf;

pub use super::names::ClassId;

pub use quantity::Quantity;
pub use raw::{Problem, RawClass, RawContainer, RawCpu, RawLimits, RawRequests, RawTemplates};

mod quantity;
mod raw;
#[cfg(test)]
mod tests;

/// Why a text of this module cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a quantity of Kubernetes.
    #[error("{0:?} is not a quantity such as 500m, 2 or 16Gi")]
    InvalidQuantity(String),
    /// Quantities of resources are never below zero.
    #[error("{0:?} is negative")]
    NegativeQuantity(String),
    /// More than Kubernetes can count.
    #[error("{0:?} is larger than a quantity can be")]
    QuantityOverflow(String),
}

/// What a workspace of this class gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Class {
    /// Its id, by which starts ask for it.
    pub id: ClassId,
    /// The name for people; the id where none is configured.
    pub name: String,
    /// The configured description; see [`Class::description`] for what to show.
    pub configured_description: Option<String>,
    /// What a minute of it costs. The unit is the caller's.
    pub credits_per_minute: f32,
    /// What the scheduler reserves.
    pub requests: Requests,
    /// What it can use at most.
    pub limits: Limits,
    /// Pod templates to merge in.
    pub templates: Templates,
}

/// What the scheduler reserves for a workspace. Zero means that nothing is asked for.
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

/// What a workspace can use at most. Zero means that there is no limit.
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

/// The two limits of the processor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuLimit {
    /// What it keeps when the node is busy; only an annotation for the node agent.
    pub min: Quantity,
    /// What it may use when the node is idle; the pod's limit.
    pub burst: Quantity,
}

/// Files with pod templates, by the type of workspace that they are for.
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
    /// Every file that is named.
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
        // Zero means unset: what is reserved says more than "0".
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
