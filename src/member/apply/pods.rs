//! Writes and reads of pods.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::error::Result;
use domain::pod::PodFacts;
use k8s::convert::pod_facts;
use k8s::resources::SeenPod;
use k8s::resources::names::{FINALIZER, MANAGED_BY, MANAGER, WORKSPACE_ID};

use super::writer::{Created, Deleted, Patched, Writer, deleted, exactly, found, patched};

impl Writer {
    /// Creates a pod.
    pub async fn create_pod(&self, pod: &Pod) -> Result<Created<SeenPod>> {
        self.create(pod.metadata.name.as_deref().unwrap_or_default(), pod).await
    }

    /// Whether the cluster would accept a pod; nothing is stored.
    pub async fn try_pod(&self, pod: &Pod) -> Result<()> {
        self.try_create(pod.metadata.name.as_deref().unwrap_or_default(), pod).await
    }

    /// Reads a pod from the apiserver, not from the cache.
    pub async fn get_pod(&self, name: &str) -> Result<Option<SeenPod>> {
        let api = self.api::<SeenPod>();
        found(self.read(format!("get Pod {name}"), api.get(name)).await)
    }

    /// Names and uids of the pods of the workspace with this uid, whoever manages them, as the apiserver has them.
    pub async fn pods_of(&self, workspace: &str, uid: &str) -> Result<Vec<(String, String)>> {
        let (api, params) =
            (self.api::<SeenPod>(), ListParams::default().labels(&format!("{WORKSPACE_ID}={workspace}")));
        let list = self.read(format!("list the Pods of Workspace {workspace}"), api.list(&params)).await?;
        let facts = list.items.iter().filter_map(pod_facts).filter(|facts| facts.workspace_uid == uid);
        Ok(facts.map(|facts| (facts.name, facts.uid)).collect())
    }

    /// Makes the pod with this uid name us; `None` where it is gone.
    pub async fn adopt_pod(&self, name: &str, uid: &str) -> Result<Option<PodFacts>> {
        let patch = json!({ "metadata": { "uid": uid, "labels": { MANAGED_BY: MANAGER } } });
        let (api, params, patch) = (self.api::<SeenPod>(), PatchParams::default(), Patch::Merge(patch));
        let action = format!("adopt Pod {name}");
        Ok(match patched(self.write(action, api.patch(name, &params, &patch)).await)? {
            Patched::Done(pod) => pod_facts(&pod),
            Patched::NotFound | Patched::Conflict => None,
        })
    }

    /// Deletes the pod with this uid; `grace` in seconds, the pod's own where absent.
    pub async fn delete_pod(&self, name: &str, uid: &str, grace: Option<u32>) -> Result<Deleted> {
        let mut params = exactly(uid);
        params.grace_period_seconds = grace;
        let request = self.requests::<Pod>().delete(name, &params);
        deleted(self.write(format!("delete Pod {name}"), self.taken(request)).await)
    }

    /// Takes our finalizer off the pod with this uid; finalizers of others stay.
    pub async fn remove_pod_finalizer(&self, name: &str, uid: &str) -> Result<Patched<()>> {
        // A strategic merge patch takes one element out of a list without having read it.
        let patch = json!({
            "metadata": { "uid": uid, "$deleteFromPrimitiveList/finalizers": [FINALIZER] }
        });
        let action = format!("remove the finalizer of Pod {name}");
        // Asked for metadata only, the apiserver does not write the whole pod into its answer.
        let requests = self.requests::<Pod>();
        let request = requests.patch_metadata(name, &PatchParams::default(), &Patch::Strategic(patch));
        patched(self.write(action, self.taken(request)).await)
    }
}
