//! Between Kubernetes objects and the domain; pure.

mod capacity;
mod facts;
mod found;
mod view;
mod workspace;

pub use capacity::{node, pod_requests, shape};
pub use facts::{node_facts, pod_facts};
pub use found::{digest, found, generation, keeper};
pub use view::{PULLING_IMAGES, UrlRenderer, ViewSettings, end_message, view};
pub use workspace::{Build, SecretsOf, level, port, secrets, timeout_text, workspace};
