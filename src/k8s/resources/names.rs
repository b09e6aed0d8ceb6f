//! Labels, annotations, finalizers and object names that programs outside Spaceport read too.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use domain::text::first_of;

/// Group of both custom resources.
pub const GROUP: &str = "workspace.gitpod.io";

/// Finalizer of workspaces and of their pods.
pub const FINALIZER: &str = "gitpod.io/finalizer";

/// Finalizers that are named in a text; the rest is counted.
const NAMED: usize = 5;

/// Finalizers for a person; none where there are none.
pub fn listed<S: AsRef<str>>(finalizers: &[S]) -> Option<String> {
    let several = match finalizers.len() {
        0 => return None,
        1 => "",
        _ => "s",
    };
    Some(format!("finalizer{several} {}", first_of(finalizers, NAMED)))
}

/// Label that says which manager an object belongs to; objects of another manager are never touched.
pub const MANAGED_BY: &str = "gitpod.io/managed-by";
/// Our value of [`MANAGED_BY`], and the field manager of everything we apply.
pub const MANAGER: &str = "spaceport";

/// Whether an object belongs to us; objects of another manager are never touched.
pub fn is_ours(metadata: &ObjectMeta) -> bool {
    let manager = metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
    manager.is_some_and(|manager| manager == MANAGER)
}

/// Label: the meta id on a Workspace, but the instance id on a pod, as existing programs expect.
pub const WORKSPACE_ID: &str = "workspaceID";
/// Pod label: the meta id.
pub const META_ID: &str = "metaID";
/// Label: the owner.
pub const OWNER: &str = "owner";
/// Pod label: `regular`, `prebuild` or `imagebuild`.
pub const WORKSPACE_TYPE: &str = "workspaceType";
/// Pod label: the instance id.
pub const INSTANCE_ID: &str = "gitpod.io/instanceID";
/// Pod label: `true` for prebuilds and image builds.
pub const HEADLESS: &str = "gitpod.io/headless";
/// Pod label that network policies select by; `default` on workspaces.
pub const NETWORK_POLICY: &str = "gitpod.io/networkpolicy";

/// Annotation for the node agent: guaranteed CPU.
pub const CPU_MIN_LIMIT: &str = "gitpod.io/cpuMinLimit";
/// Annotation for the node agent: CPU in bursts.
pub const CPU_BURST_LIMIT: &str = "gitpod.io/cpuBurstLimit";
/// Annotation for the node agent: limits new connections a minute.
pub const CONNECTION_LIMIT: &str = "gitpod.io/netConnLimitPerMinute";
/// Annotation for the node agent: pressure stall information.
pub const PSI: &str = "gitpod.io/psi";

/// Annotation: generation of the placement the object was written for.
pub const GENERATION: &str = "spaceport.dev/generation";
/// Annotation: keyed digest of the request the object was written for.
pub const SPEC_DIGEST: &str = "spaceport.dev/spec-digest";
/// Annotation: what the owner token is derived from, beside the installation's secret; no secret itself.
pub const KEYING: &str = "spaceport.dev/keying";
/// Annotation of workspaces, label of secrets: the installation that wrote the object.
pub const INSTALLATION: &str = "spaceport.dev/installation";
/// Annotation of workspaces and secrets: when the placement that the object was written for was recorded.
pub const PLACED_AT: &str = "spaceport.dev/placed-at";
/// Label of the DaemonSet of Spaceport's node agent, with the value `true`.
pub const NODE_AGENT: &str = "spaceport.dev/node-agent";
/// Annotation of a node agent's DaemonSet: the workspace namespaces that it serves, comma-separated.
pub const SERVES: &str = "spaceport.dev/serves";
/// Value of label `component` of the DaemonSet of existing node agents, which serve their own namespace unless [`SERVES`] says
/// otherwise.
pub const EXISTING_AGENT: &str = "ws-daemon";
/// Annotation of workspace namespaces: the folder on nodes right below which host paths of pods may be.
pub const HOST_PATH: &str = "spaceport.dev/workspace-host-path";
/// Label of a Secret, with the value `true`: an admin lets workspaces of its namespace reference it.
pub const ALLOW_REFERENCE: &str = "spaceport.dev/allow-reference";
/// Name of the fence's ConfigMap in each namespace, and prefix of the names of the fence's policies.
pub const FENCE: &str = "spaceport-fence";
/// Name of the canary, a Lease in one workspace namespace of each member cluster.
pub const CANARY: &str = "spaceport-canary";
/// Extra of the impersonated user that the fence compares.
pub const EPOCH: &str = "spaceport.dev/epoch";

/// Node label: the backend by which the node agent limits the storage of workspaces, or `none`.
pub const STORAGE_QUOTA: &str = "spaceport.dev/storage-quota";
/// Node label that regular workspaces require.
pub const NODE_REGULAR: &str = "gitpod.io/workload_workspace_regular";
/// Node label that headless workspaces require.
pub const NODE_HEADLESS: &str = "gitpod.io/workload_workspace_headless";

/// Node label set where the node agent of a namespace is ready.
pub fn node_agent_ready(namespace: &str) -> String {
    format!("gitpod.io/ws-daemon_ready_ns_{namespace}")
}

/// Node label set where the registry facade of a namespace is ready.
pub fn registry_facade_ready(namespace: &str) -> String {
    format!("gitpod.io/registry-facade_ready_ns_{namespace}")
}

/// Secret in the workspace namespace with protected environment variables.
pub fn env_secret(instance_id: &str) -> String {
    format!("{instance_id}-env")
}

/// Secret in the secrets namespace with the initializer's tokens.
pub fn token_secret(instance_id: &str) -> String {
    format!("{instance_id}-tokens")
}
