//! One member cluster.

pub mod resources;
