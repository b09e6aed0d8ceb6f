//! What the other rooms talk about. Pure: no tokio, kube, tonic or etcd, and no clock of its own.

pub mod class;
pub mod duration;
pub mod secret;
pub mod template;
