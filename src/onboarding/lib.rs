//! Preparing and checking a cluster that becomes a member: install, checks, needed rights, recognition.

pub mod checks;
mod fence_policies;
pub mod install;
pub mod needs;
pub mod pod_policy;
pub mod recognise;
