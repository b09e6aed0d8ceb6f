//! What Spaceport is about, without any IO: no tokio, kube, tonic or etcd here; time is passed in.

pub mod adoption;
pub mod canary;
pub mod check;
pub mod class;
pub mod cluster;
pub mod condition;
pub mod diff;
pub mod drain;
pub mod duration;
pub mod epoch;
pub mod health;
pub mod install;
pub mod keyed;
pub mod names;
pub mod news;
pub mod observed;
pub mod placement;
pub mod pod;
pub mod record;
pub mod rewind;
pub mod secret;
pub mod secret_ref;
pub mod template;
pub mod workspace;
