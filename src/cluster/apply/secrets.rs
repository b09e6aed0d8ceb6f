//! Secrets of workspaces. Their content passes through here only: no log, no error and no client library prints it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as K8sSecret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DeleteParams;
use kube::core::Request;
use kube::{Api, Resource as _};

use crate::cluster::error::{Error, Result};
use crate::cluster::resources::names::{INSTANCE_ID, MANAGED_BY, MANAGER};
use crate::domain::names::Namespace;
use crate::domain::secret::Secret;

use super::{Created, Deleted, Patched, Writer, by_us, created, deleted, found, patched};

/// Tries against others who write the same secret.
const TRIES: usize = 3;

impl Writer {
    /// Makes a secret of the workspace hold exactly `content`, whatever it held before: what an earlier workspace of the
    /// same id left is never used. A secret that is not ours is refused.
    pub async fn put_secret(
        &self,
        namespace: &Namespace,
        name: &str,
        workspace: &str,
        content: &Secret<BTreeMap<String, String>>,
    ) -> Result<()> {
        let action = format!("put Secret {namespace}/{name}");
        for _ in 0..TRIES {
            let mut wanted = secret(namespace, name, workspace, content.expose());
            if let Created::New(()) = created(self.send_secret(&action, namespace, None, &wanted).await)? {
                return Ok(());
            }
            let Some(existing) = self.get_secret(&action, namespace, name).await? else { continue };
            if existing.data == wanted.data {
                return Ok(());
            }
            let labels = existing.metadata.labels.as_ref();
            if labels.and_then(|labels| labels.get(MANAGED_BY)).map(String::as_str) != Some(MANAGER) {
                return Err(self.conflict(action, "a secret of that name belongs to somebody else"));
            }
            wanted.metadata.resource_version = existing.metadata.resource_version;
            let replaced = self.send_secret(&action, namespace, Some(name), &wanted).await;
            if let Patched::Done(()) = patched(replaced)? {
                return Ok(());
            }
        }
        Err(self.conflict(action, "others keep writing it"))
    }

    /// Deletes a secret.
    pub async fn delete_secret(&self, namespace: &Namespace, name: &str) -> Result<Deleted> {
        let requests = Request::new(K8sSecret::url_path(&(), Some(namespace.as_str())));
        let action = format!("delete Secret {namespace}/{name}");
        deleted(self.write(action, self.taken(requests.delete(name, &DeleteParams::default()))).await)
    }

    async fn get_secret(&self, action: &str, namespace: &Namespace, name: &str) -> Result<Option<K8sSecret>> {
        let api: Api<K8sSecret> = Api::namespaced(self.client.clone(), namespace.as_str());
        found(self.read(action.to_owned(), api.get(name)).await)
    }

    /// Creates, or replaces where a name is given. The answer is not parsed: on failure the client library would log it.
    async fn send_secret(
        &self,
        action: &str,
        namespace: &Namespace,
        replaces: Option<&str>,
        secret: &K8sSecret,
    ) -> Result<()> {
        let request = Request::new(K8sSecret::url_path(&(), Some(namespace.as_str())));
        let body = serde_json::to_vec(secret).unwrap_or_default();
        let request = match replaces {
            Some(name) => request.replace(name, &by_us(), body),
            None => request.create(&by_us(), body),
        };
        self.write(action.to_owned(), self.taken(request)).await
    }

    fn conflict(&self, action: String, message: &str) -> Error {
        let (reason, message) = ("Conflict".to_owned(), message.to_owned());
        Error::Refused { cluster: self.cluster.clone(), action, code: 409, reason, message }
    }
}

fn secret(
    namespace: &Namespace,
    name: &str,
    workspace: &str,
    content: &BTreeMap<String, String>,
) -> K8sSecret {
    let labels = [(MANAGED_BY, MANAGER), (INSTANCE_ID, workspace)];
    let data = content.iter().map(|(key, value)| (key.clone(), ByteString(value.clone().into_bytes())));
    K8sSecret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_string()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        data: Some(data.collect()),
        type_: Some("Opaque".to_owned()),
        ..K8sSecret::default()
    }
}
