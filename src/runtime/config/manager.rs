//! `manager`: how workspaces are run where a cluster says nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use super::classes;
use super::reader::Group;
use crate::domain::class::Class;
use crate::domain::names::ClassId;
use crate::domain::template::{PortUrl, WorkspaceUrl};

/// `manager`.
#[derive(Debug, Clone)]
pub struct Manager {
    /// Where workspaces live, in clusters that name no namespace.
    pub namespace: String,
    /// Where their secrets live, in clusters that name no namespace for them.
    pub secrets_namespace: String,
    /// None means the cluster's own scheduler.
    pub scheduler_name: Option<String>,
    /// A localhost profile.
    pub seccomp_profile: Option<String>,
    /// When workspaces time out.
    pub timeouts: Timeouts,
    /// The URL of a workspace.
    pub workspace_url: WorkspaceUrl,
    /// The URL of a port.
    pub port_url: PortUrl,
    /// The folder on the node that holds workspaces' content.
    pub workspace_host_path: String,
    /// How often a workspace says that it is in use.
    pub heartbeat_interval: Duration,
    /// The installation.
    pub host_url: Url,
    /// Where images are pulled from.
    pub registry_facade_host: Option<String>,
    /// Whether workspaces start through workspacekit; otherwise by the image's own entry point.
    pub workspacekit: bool,
    /// An environment variable of workspaces.
    pub workspace_cluster_host: Option<String>,
    /// Offered by clusters that bring no classes of their own.
    pub classes: BTreeMap<ClassId, Class>,
    /// The one to use when nobody asks for another.
    pub preferred_class: Option<ClassId>,
    /// Workspaces of one namespace that are looked at together.
    pub workspace_reconcilers: usize,
    /// The same for timeouts.
    pub timeout_reconcilers: usize,
    /// Whether workspaces get a certificate authority of the installation's own.
    pub custom_ssl_certificate: bool,
    /// An environment variable of workspaces.
    pub ssh_gateway_ca_public_key: Option<String>,
    /// When a node refuses a pod.
    pub pod_recreation: PodRecreation,
    /// The name of the ConfigMap that puts a namespace under maintenance.
    pub maintenance_config_map: String,
}

/// When workspaces time out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the configuration, described there")]
pub struct Timeouts {
    pub startup: Duration,
    pub initialization: Duration,
    pub regular_workspace: Duration,
    pub max_lifetime: Duration,
    pub headless_workspace: Duration,
    pub after_close: Duration,
    pub content_finalization: Duration,
    pub stopping: Duration,
    pub interrupted: Duration,
}

/// When a node refuses a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodRecreation {
    /// Pods to try after the first.
    pub max_retries: u32,
    /// Before each.
    pub backoff: Duration,
}

/// Keys of existing files that nothing uses, here as there.
const IGNORED: [&str; 7] = [
    "initProbe",
    "eventTraceLog",
    "reconnectionInterval",
    "maintenanceMode",
    "wsdaemon",
    "debugWorkspacePod",
    "workspacekitImage",
];

pub(super) fn read(mut group: Group<'_>) -> Option<Manager> {
    let namespace = read_namespace(&mut group, "namespace", "workspaces");
    let secrets_namespace = read_namespace(&mut group, "secretsNamespace", "workspace-secrets");
    let timeouts = timeouts(group.group("timeouts"));
    let workspace_url = group.required("urlTemplate", Group::parsed::<WorkspaceUrl>);
    let port_url = group.required("portUrlTemplate", Group::parsed::<PortUrl>);
    let host_url = group.required("hostURL", Group::parsed::<Url>);
    if host_url.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https") || !url.has_host()) {
        group.problem("hostURL", "must be a URL such as https://gitpod.example");
    }
    let registry_facade_host = group.text("registryFacadeHost");
    let workspacekit = group.flag("workspacekit").unwrap_or(registry_facade_host.is_some());
    let classes = classes::read(group.named_groups("workspaceClass"));
    let preferred_class = preferred_class(&mut group, &classes);
    let pod_recreation = pod_recreation(&mut group);
    for key in IGNORED {
        group.ignore(key);
    }
    Some(Manager {
        namespace,
        secrets_namespace,
        scheduler_name: group.text("schedulerName"),
        seccomp_profile: group.text("seccompProfile"),
        timeouts,
        workspace_host_path: host_path(&mut group),
        heartbeat_interval: group.duration("heartbeatInterval", Duration::from_secs(30)),
        registry_facade_host,
        workspacekit,
        workspace_cluster_host: group.text("workspaceClusterHost"),
        classes,
        preferred_class,
        workspace_reconcilers: group
            .count("workspaceMaxConcurrentReconciles", 0..=1_000)
            .unwrap_or(25)
            .max(1),
        timeout_reconcilers: group.count("timeoutMaxConcurrentReconciles", 0..=1_000).unwrap_or(15).max(1),
        custom_ssl_certificate: group.flag("enableCustomSSLCertificate").unwrap_or(false),
        ssh_gateway_ca_public_key: ssh_gateway_ca(&mut group),
        pod_recreation,
        maintenance_config_map: maintenance_config_map(&mut group),
        workspace_url: workspace_url?,
        port_url: port_url?,
        host_url: host_url?,
    })
}

fn read_namespace(group: &mut Group<'_>, key: &str, default: &str) -> String {
    let name = group.text(key).unwrap_or_else(|| default.to_owned());
    if !is_dns_name(&name, 63) || name.contains('.') {
        group.problem(key, format_args!("{name:?} is not the name of a namespace"));
    }
    name
}

fn maintenance_config_map(group: &mut Group<'_>) -> String {
    const KEY: &str = "maintenanceConfigMap";
    let name = group.text(KEY).unwrap_or_else(|| "ws-manager-mk2-maintenance-mode".to_owned());
    if !is_dns_name(&name, 253) {
        group.problem(KEY, format_args!("{name:?} is not the name of a ConfigMap"));
    }
    name
}

/// Lower-case letters, digits and `-` in parts between dots, a letter or digit at both ends of each.
fn is_dns_name(name: &str, longest: usize) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|byte| alphanumeric(*byte))
            && bytes.last().is_some_and(|byte| alphanumeric(*byte))
            && bytes.iter().all(|byte| alphanumeric(*byte) || *byte == b'-')
    };
    name.len() <= longest && name.split('.').all(is_part)
}

fn host_path(group: &mut Group<'_>) -> String {
    const KEY: &str = "workspaceHostPath";
    let path = group.text(KEY).unwrap_or_else(|| "/var/gitpod/workspaces-mk2".to_owned());
    if !path.starts_with('/') {
        group.problem(KEY, "must be an absolute path on the node");
    }
    path
}

fn timeouts(mut group: Group<'_>) -> Timeouts {
    let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
    let timeouts = Timeouts {
        startup: group.duration("startup", hour),
        initialization: group.duration("initialization", 30 * minute),
        regular_workspace: group.duration("regularWorkspace", 30 * minute),
        max_lifetime: group.duration("maxLifetime", 36 * hour),
        headless_workspace: group.duration("headlessWorkspace", hour),
        after_close: group.duration_or_zero("afterClose").unwrap_or(2 * minute),
        content_finalization: group.duration("contentFinalization", hour),
        stopping: group.duration("stopping", hour),
        interrupted: group.duration_or_zero("interrupted").unwrap_or(5 * minute),
    };
    if timeouts.stopping < timeouts.content_finalization {
        group.problem("stopping", "must be at least contentFinalization");
    }
    timeouts
}

fn preferred_class(group: &mut Group<'_>, classes: &BTreeMap<ClassId, Class>) -> Option<ClassId> {
    const KEY: &str = "preferredWorkspaceClass";
    let id = group.parsed::<ClassId>(KEY)?;
    // Without classes here, clusters bring theirs, and nothing is known of them yet.
    if !classes.is_empty() && !classes.contains_key(&id) {
        group.problem(KEY, format_args!("there is no class {id} in workspaceClass, or it has problems"));
    }
    Some(id)
}

fn pod_recreation(group: &mut Group<'_>) -> PodRecreation {
    let max_retries = group.count("podRecreationMaxRetries", 0..=100).unwrap_or(3);
    // Zero is what generated files write for "unset".
    let backoff = group.duration_or_zero("podRecreationBackoff").filter(|backoff| !backoff.is_zero());
    PodRecreation { max_retries, backoff: backoff.unwrap_or(Duration::from_secs(15)) }
}

fn ssh_gateway_ca(group: &mut Group<'_>) -> Option<String> {
    const KEY: &str = "sshGatewayCAPublicKeyFile";
    let inline = group.text("SSHGatewayCAPublicKey");
    let path = group.file(KEY);
    let Some(path) = path else { return inline };
    match std::fs::read_to_string(&path) {
        Ok(key) => Some(key.trim_end().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            group.problem(KEY, "must hold UTF-8 text");
            None
        }
        // The reader has said so already.
        Err(_) => None,
    }
}
