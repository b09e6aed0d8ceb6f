//! Secrets of workspaces. Their content passes through here only: no log, no error and no client library prints it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as K8sSecret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::{PartialObjectMeta, Request};
use kube::{Api, Resource as _};
use serde_json::json;

use crate::cluster::error::{Error, Result};
use crate::cluster::resources::names::{
    GROUP, INSTALLATION, INSTANCE_ID, MANAGED_BY, MANAGER, PLACED_AT, is_ours,
};
use crate::domain::names::Namespace;
use crate::domain::secret::Secret;

use super::{Created, Deleted, Patched, Writer, by_us, created, deleted, found, patched};

/// Tries against others who write the same secret.
const TRIES: usize = 3;
/// Objects a page of a list.
const PAGE: u32 = 500;

/// For what a secret is made.
#[derive(Debug, Clone, Copy)]
pub struct Purpose<'a> {
    /// The workspace's id.
    pub workspace: &'a str,
    /// The installation's identity.
    pub installation: &'a str,
    /// When the placement was recorded: apart for two workspaces that have the same id after each other.
    pub placed_at: Timestamp,
}

/// A workspace that owns a secret.
#[derive(Debug, Clone)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// What is known of a secret without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSeen {
    /// Its name.
    pub name: String,
    /// Of the workspace that it was made for, as the label says.
    pub workspace: String,
    /// When it was made, by the cluster's clock.
    pub made_at: Option<Timestamp>,
    uid: Option<String>,
    version: Option<String>,
}

#[cfg(test)]
impl SecretSeen {
    pub(crate) fn new(name: &str, workspace: &str, made_at: Option<Timestamp>) -> Self {
        let (name, workspace) = (name.to_owned(), workspace.to_owned());
        Self { name, workspace, made_at, uid: None, version: None }
    }
}

/// A page of a list of secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretPage {
    /// Those that it names.
    pub secrets: Vec<SecretSeen>,
    /// Asks for the next page; absent on the last one.
    pub next: Option<String>,
}

impl Writer {
    /// Makes a secret of the workspace hold exactly `content`, whatever it held before: what an earlier workspace of the
    /// same id left is never used, and becomes another version even where it holds the same, so that nobody who saw the
    /// earlier one deletes this. A secret that is not ours is refused.
    pub async fn put_secret(
        &self,
        namespace: &Namespace,
        name: &str,
        purpose: Purpose<'_>,
        content: &Secret<BTreeMap<String, String>>,
    ) -> Result<()> {
        let action = format!("put Secret {namespace}/{name}");
        for _ in 0..TRIES {
            let mut wanted = secret(namespace, name, purpose, content.expose());
            if let Created::New(()) = created(self.send_secret(&action, namespace, None, &wanted).await)? {
                return Ok(());
            }
            let Some(existing) = self.get_secret(&action, namespace, name).await? else { continue };
            if existing.data == wanted.data && is_for_the_same(&existing, &wanted) {
                return Ok(());
            }
            if !is_ours(&existing.metadata) {
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

    /// Makes a workspace the owner of a secret in its namespace, so that the cluster itself collects what neither the
    /// workspace's finalizer nor a sweep deletes.
    pub async fn give_secret(&self, name: &str, owner: &Owner) -> Result<Patched<()>> {
        let owner = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "Workspace", "name": owner.name, "uid": owner.uid,
        });
        let patch = Patch::Merge(json!({ "metadata": { "ownerReferences": [owner] } }));
        let request = self.requests::<K8sSecret>().patch(name, &PatchParams::default(), &patch);
        patched(self.write(format!("give Secret {name} its owner"), self.taken(request)).await)
    }

    /// Makes a secret that another installation made for the workspace name this one, at the very version that it has. Any other
    /// secret of the name is left alone. Replaced and not patched, for which the rights in a secrets namespace are enough.
    pub async fn adopt_secret(
        &self,
        namespace: &Namespace,
        name: &str,
        workspace: &str,
        installation: &str,
    ) -> Result<()> {
        let action = format!("adopt Secret {namespace}/{name}");
        for _ in 0..TRIES {
            let Some(mut secret) = self.get_secret(&action, namespace, name).await? else { return Ok(()) };
            let ours = is_ours(&secret.metadata);
            let labels = secret.metadata.labels.get_or_insert_default();
            let of_it = labels.get(INSTANCE_ID).is_some_and(|id| id == workspace);
            if !ours || !of_it || labels.get(INSTALLATION).is_some_and(|made_by| made_by == installation) {
                return Ok(());
            }
            labels.insert(INSTALLATION.to_owned(), installation.to_owned());
            match patched(self.send_secret(&action, namespace, Some(name), &secret).await)? {
                Patched::Done(()) | Patched::NotFound => return Ok(()),
                Patched::Conflict => {}
            }
        }
        Err(self.conflict(action, "others keep writing it"))
    }

    /// Deletes a secret.
    pub async fn delete_secret(&self, namespace: &Namespace, name: &str) -> Result<Deleted> {
        self.delete_as(namespace, name, &DeleteParams::default()).await
    }

    /// A page of the installation's secrets, none of their content; without `page` the first one.
    pub async fn list_secrets(
        &self,
        namespace: &Namespace,
        installation: &str,
        page: Option<&str>,
    ) -> Result<SecretPage> {
        let api: Api<K8sSecret> = Api::namespaced(self.client.clone(), namespace.as_str());
        let labels = format!("{MANAGED_BY}={MANAGER},{INSTALLATION}={installation}");
        let mut params = ListParams::default().labels(&labels).limit(PAGE);
        params.continue_token = page.map(str::to_owned);
        let action = format!("list Secrets in {namespace}");
        let list = self.read(action, api.list_metadata(&params)).await?;
        Ok(SecretPage {
            secrets: list.items.into_iter().filter_map(seen).collect(),
            next: list.metadata.continue_.filter(|token| !token.is_empty()),
        })
    }

    /// Deletes a secret as it was seen, and no other version of it.
    pub async fn delete_seen_secret(&self, namespace: &Namespace, secret: &SecretSeen) -> Result<Deleted> {
        let preconditions =
            Preconditions { uid: secret.uid.clone(), resource_version: secret.version.clone() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        self.delete_as(namespace, &secret.name, &params).await
    }

    async fn delete_as(&self, namespace: &Namespace, name: &str, params: &DeleteParams) -> Result<Deleted> {
        let request = Request::new(K8sSecret::url_path(&(), Some(namespace.as_str()))).delete(name, params);
        deleted(self.write(format!("delete Secret {namespace}/{name}"), self.taken(request)).await)
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

fn seen(object: PartialObjectMeta<K8sSecret>) -> Option<SecretSeen> {
    let ObjectMeta { name, labels, creation_timestamp, uid, resource_version, .. } = object.metadata;
    // Without both, a deletion would mean whatever is there by then.
    if uid.is_none() || resource_version.is_none() {
        return None;
    }
    Some(SecretSeen {
        name: name?,
        workspace: labels?.remove(INSTANCE_ID)?,
        made_at: creation_timestamp.map(|time| time.0),
        uid,
        version: resource_version,
    })
}

fn is_for_the_same(existing: &K8sSecret, wanted: &K8sSecret) -> bool {
    fn of<'a>(all: Option<&'a BTreeMap<String, String>>, key: &str) -> Option<&'a String> {
        all.and_then(|all| all.get(key))
    }
    let (existing, wanted) = (&existing.metadata, &wanted.metadata);
    let labels = [MANAGED_BY, INSTALLATION, INSTANCE_ID];
    labels.iter().all(|key| of(existing.labels.as_ref(), key) == of(wanted.labels.as_ref(), key))
        && of(existing.annotations.as_ref(), PLACED_AT) == of(wanted.annotations.as_ref(), PLACED_AT)
}

fn secret(
    namespace: &Namespace,
    name: &str,
    purpose: Purpose<'_>,
    content: &BTreeMap<String, String>,
) -> K8sSecret {
    let labels =
        [(MANAGED_BY, MANAGER), (INSTANCE_ID, purpose.workspace), (INSTALLATION, purpose.installation)];
    let data = content.iter().map(|(key, value)| (key.clone(), ByteString(value.clone().into_bytes())));
    K8sSecret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_string()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            annotations: Some([(PLACED_AT.to_owned(), purpose.placed_at.to_string())].into()),
            ..ObjectMeta::default()
        },
        data: Some(data.collect()),
        type_: Some("Opaque".to_owned()),
        ..K8sSecret::default()
    }
}
