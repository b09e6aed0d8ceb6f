//! Reads a kubeconfig down to the one login it holds.

use crate::cluster::error::Result;
use crate::domain::names::ClusterName;

/// A cluster's address and a login for it, complete in itself: no file, no plugin.
#[derive(Clone)]
pub struct Credentials {
    server: String,
}

impl Credentials {
    /// Takes the current context of a kubeconfig, or its only one.
    pub fn parse(cluster: &ClusterName, kubeconfig: &str) -> Result<Self> {
        let _ = (cluster, kubeconfig);
        todo!()
    }

    /// Address of the apiserver as `https://host:port`: the same cluster has the same address.
    pub fn server(&self) -> &str {
        &self.server
    }
}
