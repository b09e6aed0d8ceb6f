//! Between Kubernetes objects and the domain; pure.

mod facts;
mod view;
mod workspace;

pub use facts::{node_facts, pod_facts};
pub use view::{UrlRenderer, ViewSettings, view};
pub use workspace::{Build, SecretsOf, secrets, workspace};
