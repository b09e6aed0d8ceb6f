//! The controller of one namespace of one cluster: creates the pods of workspaces and reports their status.
//!
//! A reconcile has four steps: *observe* (reads caches), *decide* (pure, [`decide`]), *apply* (IO) and *report* (IO: one
//! status patch; then events, when the queue may already hand out the workspace again). A reconcile runs when something
//! changed, and at the time that the last one asked for; nothing is polled. A workspace has at most one reconcile at a time.
//!
//! Guarantees: a second pod is never created while a first may exist, because the pod's name is derived from the workspace
//! and it is created only while the status counts none; a status is written only for the resource version that was decided
//! on, with all of its conditions, so that no other writer's change is lost.

mod apply;
mod backoff;
mod controller;
mod debounce;
mod decide;
mod error;
mod observe;
mod observer;
mod obstacles;
mod pod;
mod pod_failure;
mod queue;
mod recent_actions;
mod reconcile;
mod report;
mod settings;
mod templates;

pub use controller::{Controller, Parts};
pub use error::Error;
pub use obstacles::ObstacleObserver;
pub use pod::{CONTAINER, planned as planned_pod, problems as pod_problems, sample, sample_workspace, shape};
pub use settings::{ClassSettings, OwnerTokens, Settings};
pub use templates::{PodTemplates, TemplateError, TemplateFolder, parse_template};
