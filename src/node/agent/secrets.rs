//! Token Secrets of workspaces, from the secrets namespace of each.

use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::names::{Namespace, WorkspaceId};
use domain::secret::Secret;
use k8s::resources::names::token_secret;

use super::api::Cluster;
use crate::config::Served;
use crate::operations::Secrets;

/// Secrets by the apiserver.
pub struct TokenSecrets {
    cluster: Cluster,
    /// By namespace of the Workspaces.
    namespaces: BTreeMap<String, Namespace>,
}

impl TokenSecrets {
    /// Of the namespaces that the agent serves.
    pub fn new(cluster: Cluster, served: &[Served]) -> Self {
        let namespaces = served.iter().map(|one| (one.namespace.to_string(), one.secrets.clone())).collect();
        Self { cluster, namespaces }
    }
}

#[async_trait]
impl Secrets for TokenSecrets {
    async fn tokens(
        &self,
        namespace: &str,
        instance: &WorkspaceId,
    ) -> Result<BTreeMap<String, Secret<String>>, String> {
        let Some(secrets) = self.namespaces.get(namespace) else {
            return Err(format!("this agent does not serve namespace {namespace}"));
        };
        let name = token_secret(instance.as_str());
        let found = self.cluster.secret(secrets, &name).await.map_err(|error| error.to_string())?;
        let data = found.and_then(|secret| secret.data).unwrap_or_default();
        let text = |(key, value): (String, k8s_openapi::ByteString)| match String::from_utf8(value.0) {
            Ok(text) => Ok((key, Secret::new(text))),
            Err(_) => Err(format!("key {key} of Secret {secrets}/{name} is not text")),
        };
        data.into_iter().map(text).collect()
    }
}
