//! Conversion between Kubernetes objects and domain types: pure functions.

pub mod budget;
mod capacity;
mod facts;
mod found;
mod view;
mod workspace;

pub use capacity::{node, pod_requests, quota_left, shape};
pub use facts::{node_facts, pod_facts};
pub use found::{digest, found, generation, is_made_by, keeper, keying, lacks_labels, resource_version};
pub use view::{PULLING_IMAGES, UrlRenderer, ViewSettings, end_message, view};
pub use workspace::{Build, SecretsOf, port, secrets, timeout_text, workspace};
