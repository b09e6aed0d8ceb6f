//! Writes and reads of the Secrets of workspaces. No log, no error and no client library prints their content.

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderValue;
use http::header::ACCEPT;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as K8sSecret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{PartialObjectMeta, Request};
use kube::{Api, Resource as _};
use serde_json::json;

use crate::error::{Error, Result, Rule};
use crate::fence::PROBE;
use crate::pages;
use domain::names::Namespace;
use domain::secret::Secret;
use k8s::references::{Referrer, judge};
use k8s::resources::names::{GROUP, INSTALLATION, INSTANCE_ID, MANAGED_BY, MANAGER, PLACED_AT, is_ours};

use super::writer::{Created, Deleted, Patched, Writer, by_us, created, deleted, found, patched};

/// Tries against others who write the same secret.
const TRIES: usize = 3;
/// Objects a page of a list.
const PAGE: u32 = 500;
/// Asks for an object's metadata alone.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

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

/// The workspace that a secret must have been made for, or it is left alone.
#[derive(Debug, Clone, Copy)]
pub struct MadeFor<'a> {
    /// The workspace's id.
    pub workspace: &'a str,
    /// The installation's identity.
    pub installation: &'a str,
    /// When the placement was recorded, as written on the secret; `None` where that is not known of the workspace.
    pub placed_at: Option<&'a str>,
}

impl MadeFor<'_> {
    fn is(&self, metadata: &ObjectMeta) -> bool {
        let label = |key: &str| metadata.labels.as_ref().and_then(|all| all.get(key)).map(String::as_str);
        let placed_at = metadata.annotations.as_ref().and_then(|all| all.get(PLACED_AT)).map(String::as_str);
        is_ours(metadata)
            && label(INSTANCE_ID) == Some(self.workspace)
            && label(INSTALLATION) == Some(self.installation)
            && (self.placed_at.is_none() || placed_at == self.placed_at)
    }
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
    /// earlier one deletes this. A secret of anybody else is a definite refusal. Answers the secret's uid.
    pub async fn put_secret(
        &self,
        namespace: &Namespace,
        name: &str,
        purpose: Purpose<'_>,
        content: &Secret<BTreeMap<String, String>>,
    ) -> Result<String> {
        let action = format!("put Secret {namespace}/{name}");
        for _ in 0..TRIES {
            let mut wanted = secret(namespace, name, purpose, content.expose());
            let sent = self.send_secret(&action, namespace, None, &wanted).await;
            if let Created::New(uid) = created(sent)? {
                return Ok(uid);
            }
            let Some(existing) = self.get_secret(&action, namespace, name).await? else { continue };
            if existing.data == wanted.data && is_for_the_same(&existing, &wanted) {
                return Ok(existing.metadata.uid.unwrap_or_default());
            }
            if !may_be_replaced(&existing.metadata, purpose) {
                return Err(self.conflict(action, "a Secret of that name belongs to somebody else"));
            }
            wanted.metadata.resource_version = existing.metadata.resource_version;
            let replaced = self.send_secret(&action, namespace, Some(name), &wanted).await;
            if let Patched::Done(uid) = patched(replaced)? {
                return Ok(uid);
            }
        }
        Err(self.conflict(action, "others keep writing it"))
    }

    /// Whether the cluster would accept a Secret of a start in the workspace namespace, and in the one for tokens; nothing is
    /// stored.
    pub async fn try_secrets(&self, secrets_namespace: &Namespace) -> Result<()> {
        for namespace in BTreeSet::from([&self.namespace, secrets_namespace]) {
            let action = format!("dry-run the creation of Secret {namespace}/{PROBE}");
            let purpose = Purpose { workspace: PROBE, installation: PROBE, placed_at: Timestamp::UNIX_EPOCH };
            let body = serde_json::to_vec(&secret(namespace, PROBE, purpose, &BTreeMap::new()));
            let params = PostParams { dry_run: true, ..by_us() };
            let call = async {
                let body = body.map_err(kube::Error::SerdeError)?;
                let requests = Request::new(K8sSecret::url_path(&(), Some(namespace.as_str())));
                self.taken(requests.create(&params, body)).await
            };
            created(self.write(action, call).await)?;
        }
        Ok(())
    }

    /// Makes a workspace the owner of the secret with this uid in its namespace, so that the cluster itself collects what
    /// neither the workspace's finalizer nor a sweep deletes.
    pub async fn give_secret(&self, name: &str, uid: &str, owner: &Owner) -> Result<Patched<()>> {
        let owner = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "Workspace", "name": owner.name, "uid": owner.uid,
        });
        let patch = Patch::Merge(json!({ "metadata": { "uid": uid, "ownerReferences": [owner] } }));
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
                Patched::Done(_) | Patched::NotFound => return Ok(()),
                Patched::Conflict => {}
            }
        }
        Err(self.conflict(action, "others keep writing it"))
    }

    /// Deletes the secret of this name that was made for this very workspace; any other is left alone, as if it were not
    /// there.
    pub async fn delete_secret(
        &self,
        namespace: &Namespace,
        name: &str,
        made_for: MadeFor<'_>,
    ) -> Result<Deleted> {
        let action = format!("delete Secret {namespace}/{name}");
        let api: Api<K8sSecret> = Api::namespaced(self.client.clone(), namespace.as_str());
        for _ in 0..TRIES {
            let found = found(self.read(action.clone(), api.get_metadata(name)).await)?;
            let Some(metadata) = found.map(|found| found.metadata).filter(|found| made_for.is(found)) else {
                return Ok(Deleted::NotFound);
            };
            let preconditions = preconditions(metadata.uid, metadata.resource_version);
            match self.delete_as(namespace, name, preconditions).await? {
                Deleted::Conflict => {}
                done => return Ok(done),
            }
        }
        Err(self.conflict(action, "others keep writing it"))
    }

    /// Checks that each referenced Secret of the workspace namespace may be; the first that may not is a definite refusal.
    pub async fn check_references(
        &self,
        action: &str,
        referenced: &BTreeMap<&str, String>,
        referrer: Referrer<'_>,
    ) -> Result<()> {
        let (api, namespace) = (self.api::<K8sSecret>(), &self.namespace);
        for (name, variable) in referenced {
            let reading = self.read(format!("get Secret {namespace}/{name}"), api.get_metadata(name));
            let found = found(reading.await)?;
            if let Err(why) = judge(name, found.as_ref().map(|found| &found.metadata), referrer) {
                let why = format!("{variable}: Secret {namespace}/{name} {why}");
                return Err(Error::Disallowed {
                    cluster: self.cluster.clone(),
                    action: action.to_owned(),
                    why,
                });
            }
        }
        Ok(())
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
        let listing = async {
            loop {
                let answer = api.list_metadata(&params).await;
                if !pages::shrink(&mut params, &answer) {
                    return answer;
                }
            }
        };
        let list = self.read(action, listing).await?;
        Ok(SecretPage {
            secrets: list.items.into_iter().filter_map(seen).collect(),
            next: list.metadata.continue_.filter(|token| !token.is_empty()),
        })
    }

    /// Deletes a secret as it was seen, and no other version of it.
    pub async fn delete_seen_secret(&self, namespace: &Namespace, secret: &SecretSeen) -> Result<Deleted> {
        let preconditions = preconditions(secret.uid.clone(), secret.version.clone());
        self.delete_as(namespace, &secret.name, preconditions).await
    }

    async fn delete_as(
        &self,
        namespace: &Namespace,
        name: &str,
        preconditions: Preconditions,
    ) -> Result<Deleted> {
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let request = Request::new(K8sSecret::url_path(&(), Some(namespace.as_str()))).delete(name, &params);
        deleted(self.write(format!("delete Secret {namespace}/{name}"), self.taken(request)).await)
    }

    async fn get_secret(&self, action: &str, namespace: &Namespace, name: &str) -> Result<Option<K8sSecret>> {
        let api: Api<K8sSecret> = Api::namespaced(self.client.clone(), namespace.as_str());
        found(self.read(action.to_owned(), api.get(name)).await)
    }

    /// Creates, or replaces where a name is given, and answers the uid. Only metadata is asked for in return: the content
    /// need not come back.
    async fn send_secret(
        &self,
        action: &str,
        namespace: &Namespace,
        replaces: Option<&str>,
        secret: &K8sSecret,
    ) -> Result<String> {
        let request = Request::new(K8sSecret::url_path(&(), Some(namespace.as_str())));
        let body = serde_json::to_vec(secret).unwrap_or_default();
        let request = match replaces {
            Some(name) => request.replace(name, &by_us(), body),
            None => request.create(&by_us(), body),
        };
        let request = request.map(|mut request| {
            request.headers_mut().insert(ACCEPT, HeaderValue::from_static(METADATA_ONLY));
            request
        });
        let answer = self.answer::<PartialObjectMeta<K8sSecret>>(request);
        self.write(action.to_owned(), answer).await.map(|made| made.metadata.uid.unwrap_or_default())
    }

    fn conflict(&self, action: String, why: &'static str) -> Error {
        let (cluster, rule) = (self.cluster.clone(), Rule::Own(why));
        Error::Refused { cluster, action, code: 409, reason: "Conflict", rule }
    }
}

fn preconditions(uid: Option<String>, resource_version: Option<String>) -> Preconditions {
    Preconditions { uid, resource_version }
}

/// Whether a secret is one that this installation, or an earlier version that wrote no installation, made for a workspace of
/// this id.
fn may_be_replaced(existing: &ObjectMeta, purpose: Purpose<'_>) -> bool {
    let label = |key: &str| existing.labels.as_ref().and_then(|all| all.get(key));
    is_ours(existing)
        && label(INSTANCE_ID).is_some_and(|id| id == purpose.workspace)
        && label(INSTALLATION).is_none_or(|made_by| made_by == purpose.installation)
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
