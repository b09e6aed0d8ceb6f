//! Writes and reads of Workspaces.

use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::pages;
use domain::acceptance::Change;
use domain::names::{MetaId, OwnerId};
use k8s::convert;
use k8s::resources::Workspace;
use k8s::resources::names::{
    FINALIZER, GENERATION, INSTALLATION, MANAGED_BY, MANAGER, OWNER, SPEC_DIGEST, WORKSPACE_ID,
};

use super::writer::{Created, Deleted, Patched, Prepared, Writer, deleted, exactly, found, patched};

/// Objects a page of a live list.
const PAGE: u32 = 500;

impl Writer {
    /// Reads a workspace from the apiserver, not from the cache.
    pub async fn get_workspace(&self, name: &str) -> Result<Option<Workspace>> {
        let api = self.api::<Workspace>();
        found(self.read(format!("get Workspace {name}"), api.get(name)).await)
    }

    /// Calls `show` for every workspace of the namespace in the apiserver, whoever manages it; each page has the deadline.
    pub async fn each_workspace(&self, mut show: impl FnMut(Workspace)) -> Result<()> {
        let api = self.api::<Workspace>();
        let (mut page, mut count) = (ListParams::default().limit(PAGE), 0);
        loop {
            let listing = async {
                loop {
                    let answer = api.list(&page).await;
                    if !pages::shrink(&mut page, &answer) {
                        return answer;
                    }
                }
            };
            let list = self.read("list Workspaces".to_owned(), listing).await?;
            // One for the page itself, so that empty ones end, too.
            count += list.items.len() + 1;
            if count > pages::MOST {
                let reason = format!("the list has more than {} objects", pages::MOST);
                let action = "list Workspaces".to_owned();
                return Err(Error::Ambiguous { cluster: self.cluster.clone(), action, reason });
            }
            list.items.into_iter().for_each(&mut show);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    /// Creates a workspace.
    pub async fn create_workspace(&self, workspace: &Workspace) -> Result<Created<Workspace>> {
        self.create(name_of(workspace), workspace).await
    }

    /// Whether the cluster would accept a workspace; nothing is stored.
    pub async fn try_workspace(&self, workspace: &Workspace) -> Result<()> {
        self.try_create(name_of(workspace), workspace).await
    }

    /// Dry run of a change that changes nothing, or in a Workspace without a status as little as its schema allows: it shows
    /// whether the cluster would accept one.
    pub async fn try_change(&self, change: Change, workspace: &Workspace) -> Result<Patched<()>> {
        let (name, params) = (name_of(workspace), PatchParams { dry_run: true, ..PatchParams::default() });
        let mut patch = json!({ "metadata": { "uid": workspace.metadata.uid } });
        let requests = self.requests::<Workspace>();
        let request = match change {
            Change::Status => {
                let starts = workspace.status.as_ref().map_or(0, |status| status.pod_starts);
                patch["status"] = json!({ "podStarts": starts });
                requests.patch_subresource("status", name, &params, &Patch::Merge(patch))
            }
            Change::Object => requests.patch(name, &params, &Patch::Merge(patch)),
        };
        patched(self.write(format!("dry-run a change of Workspace {name}"), self.taken(request)).await)
    }

    /// JSON merge patch of the status (`{"status": {...}}`); `resource_version` makes it conditional.
    ///
    /// A merge patch replaces lists, conditions too, so one that names conditions needs the version they were read at.
    pub async fn patch_status(
        &self,
        name: &str,
        resource_version: Option<&str>,
        patch: Value,
    ) -> Result<Patched<Workspace>> {
        let patch = Patch::Merge(conditional(patch, resource_version));
        let requests = self.requests::<Workspace>();
        let request = requests.patch_subresource("status", name, &PatchParams::default(), &patch);
        let action = format!("patch the status of Workspace {name}");
        patched(self.write(action, self.answer(request)).await)
    }

    /// JSON merge patch of metadata and spec.
    pub async fn patch_spec(
        &self,
        name: &str,
        resource_version: Option<&str>,
        patch: Value,
    ) -> Result<Patched<Workspace>> {
        let request = self.spec_patch(name, resource_version, patch);
        patched(self.write(format!("patch Workspace {name}"), self.answer(request)).await)
    }

    /// Deletes the workspace with this uid.
    pub async fn delete_workspace(&self, name: &str, uid: &str) -> Result<Deleted> {
        let request = self.requests::<Workspace>().delete(name, &exactly(uid));
        deleted(self.write(format!("delete Workspace {name}"), self.taken(request)).await)
    }

    /// Makes the very version given name us and this installation, and no start of another; its generation, and finalizers of
    /// others, stay.
    pub async fn adopt_workspace(
        &self,
        workspace: &Workspace,
        installation: &str,
    ) -> Result<Patched<Workspace>> {
        let mut finalizers = workspace.metadata.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|held| held == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
        let generation = convert::generation(&workspace.metadata).to_string();
        let patch = json!({ "metadata": {
            "uid": workspace.metadata.uid,
            "labels": { MANAGED_BY: MANAGER },
            "annotations": { INSTALLATION: installation, GENERATION: generation, SPEC_DIGEST: null },
            "finalizers": finalizers,
        } });
        self.patch_spec(name_of(workspace), workspace.metadata.resource_version.as_deref(), patch).await
    }

    /// Puts labels on the very version given.
    pub async fn set_labels(
        &self,
        workspace: &Workspace,
        meta: &MetaId,
        owner: &OwnerId,
    ) -> Result<Patched<Workspace>> {
        let labels = json!({ MANAGED_BY: MANAGER, WORKSPACE_ID: meta, OWNER: owner });
        let patch = json!({ "metadata": { "uid": workspace.metadata.uid, "labels": labels } });
        self.patch_spec(name_of(workspace), workspace.metadata.resource_version.as_deref(), patch).await
    }

    /// Puts another generation on the very version given.
    pub async fn set_generation(&self, workspace: &Workspace, generation: u32) -> Result<Patched<Workspace>> {
        let annotations = json!({ GENERATION: generation.to_string() });
        let patch = json!({ "metadata": { "uid": workspace.metadata.uid, "annotations": annotations } });
        self.patch_spec(name_of(workspace), workspace.metadata.resource_version.as_deref(), patch).await
    }

    /// Takes our finalizer off the very version given; finalizers of others stay.
    pub async fn remove_finalizer(&self, workspace: &Workspace) -> Result<Patched<()>> {
        let kept: Vec<_> =
            workspace.metadata.finalizers.iter().flatten().filter(|held| *held != FINALIZER).collect();
        let patch = json!({ "metadata": { "finalizers": kept, "uid": workspace.metadata.uid } });
        let (name, version) = (name_of(workspace), workspace.metadata.resource_version.as_deref());
        let request = self.spec_patch(name, version, patch);
        let action = format!("remove the finalizer of Workspace {name}");
        patched(self.write(action, self.taken(request)).await)
    }

    fn spec_patch(&self, name: &str, resource_version: Option<&str>, patch: Value) -> Prepared {
        let patch = Patch::Merge(conditional(patch, resource_version));
        self.requests::<Workspace>().patch(name, &PatchParams::default(), &patch)
    }
}

fn name_of(workspace: &Workspace) -> &str {
    workspace.metadata.name.as_deref().unwrap_or_default()
}

fn conditional(mut patch: Value, resource_version: Option<&str>) -> Value {
    if let (Some(version), Some(patch)) = (resource_version, patch.as_object_mut()) {
        let metadata = patch.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("resourceVersion".to_owned(), json!(version));
        }
    }
    patch
}
