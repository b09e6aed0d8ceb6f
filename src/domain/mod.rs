//! What Spaceport is about, without any IO: no tokio, kube, tonic or etcd here; time is passed in.

pub mod cluster;
pub mod health;
pub mod names;
pub mod placement;
pub mod record;
pub mod workspace;
