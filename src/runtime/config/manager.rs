//! `manager`: how workspaces run, unless the cluster overrides it.

use std::collections::BTreeSet;
use std::time::Duration;

use url::Url;

use super::classes;
use super::reader::Group;
use crate::files;
use domain::cluster::rules;
use domain::install::WORKSPACE_HOST_PATH;
use domain::manager::{Manager, Recreation, Timeouts};
use domain::names::{ClassId, Namespace, is_dns_subdomain};
use domain::pod_annotations::PodAnnotations;
use domain::template::{PortUrl, WorkspaceUrl};

/// Keys of existing files that have no effect, as in Gitpod.
const IGNORED: [&str; 7] = [
    "initProbe",
    "eventTraceLog",
    "reconnectionInterval",
    "maintenanceMode",
    "wsdaemon",
    "debugWorkspacePod",
    "workspacekitImage",
];

/// Placeholders for URLs with problems, so that the rest of the configuration can be checked.
const PLACEHOLDERS: [&str; 3] = [
    "https://{{ .Prefix }}.example",
    "https://{{ .WorkspacePort }}-{{ .Prefix }}.example",
    "https://host.example",
];

pub(super) fn read(mut group: Group<'_>) -> Option<Manager> {
    let namespace = read_namespace(&mut group, "namespace", "workspaces");
    if let Some(namespace) = &namespace {
        check(&group, "namespace", rules::check_workspace_namespace(namespace.as_str()));
    }
    let secrets_namespace = read_namespace(&mut group, "secretsNamespace", "workspace-secrets");
    let timeouts = timeouts(group.group("timeouts"));
    let workspace_url = group.required("urlTemplate", Group::parsed::<WorkspaceUrl>);
    let port_url = group.required("portUrlTemplate", Group::parsed::<PortUrl>);
    let host_url = group.required("hostURL", Group::parsed::<Url>);
    if host_url.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https") || !url.has_host()) {
        group.problem("hostURL", "must be a URL such as https://gitpod.example");
    }
    if let (Some(url), Some(port_url), Some(host)) = (&workspace_url, &port_url, &host_url) {
        check(&group, "urlTemplate", rules::check_url(url, host.as_str()));
        check(&group, "portUrlTemplate", rules::check_port_url(port_url, host.as_str()));
    }
    let registry_facade_host = checked(&mut group, "registryFacadeHost", rules::check_registry);
    let workspacekit = group.flag("workspacekit").unwrap_or(registry_facade_host.is_some());
    let written = group.named_groups("workspaceClass");
    let names: BTreeSet<String> = written.iter().map(|(name, _)| name.clone()).collect();
    let classes = classes::read(written);
    let preferred_class = preferred_class(&mut group, &names);
    let pod_recreation = pod_recreation(&mut group);
    // Checked and without effect: a reconcile checks the timeouts, too.
    group.count("timeoutMaxConcurrentReconciles", 0..=1_000);
    for key in IGNORED {
        group.ignore(key);
    }
    Some(Manager {
        scheduler_name: checked(&mut group, "schedulerName", rules::check_scheduler),
        seccomp_profile: checked(&mut group, "seccompProfile", rules::check_seccomp),
        timeouts,
        workspace_host_path: host_path(&mut group),
        heartbeat_interval: group.duration("heartbeatInterval", Duration::from_secs(30)),
        registry_facade_host,
        node_agent: group.parsed("nodeAgent").unwrap_or_default(),
        clear_text_secrets: group.parsed("clearTextSecrets").unwrap_or_default(),
        workspacekit,
        workspace_cluster_host: checked(&mut group, "workspaceClusterHost", rules::check_cluster_host),
        classes,
        template_folder: group.folder("templateFolder"),
        preferred_class,
        workspace_reconcilers: group
            .count("workspaceMaxConcurrentReconciles", 0..=1_000)
            .unwrap_or(25)
            .max(1),
        custom_ssl_certificate: group.flag("enableCustomSSLCertificate").unwrap_or(false),
        ssh_gateway_ca_public_key: ssh_gateway_ca(&mut group),
        pod_annotations: pod_annotations(&mut group),
        pod_recreation,
        maintenance_config_map: maintenance_config_map(&mut group),
        namespace: namespace?,
        secrets_namespace: secrets_namespace?,
        workspace_url: workspace_url.or_else(|| PLACEHOLDERS[0].parse().ok())?,
        port_url: port_url.or_else(|| PLACEHOLDERS[1].parse().ok())?,
        host_url: host_url.or_else(|| PLACEHOLDERS[2].parse().ok())?,
    })
}

/// A namespace; the default is the placeholder for a name with problems.
fn read_namespace(group: &mut Group<'_>, key: &str, default: &str) -> Option<Namespace> {
    let name = group.text(key).unwrap_or_else(|| default.to_owned());
    if let Ok(namespace) = name.parse() {
        return Some(namespace);
    }
    group.problem(key, format_args!("{name:?} is not the name of a namespace"));
    default.parse().ok()
}

fn maintenance_config_map(group: &mut Group<'_>) -> String {
    const KEY: &str = "maintenanceConfigMap";
    let name = group.text(KEY).unwrap_or_else(|| "ws-manager-mk2-maintenance-mode".to_owned());
    if !is_dns_subdomain(&name) {
        group.problem(KEY, format_args!("{name:?} is not the name of a ConfigMap"));
    }
    name
}

fn host_path(group: &mut Group<'_>) -> String {
    const KEY: &str = "workspaceHostPath";
    let path = group.text(KEY).unwrap_or_else(|| WORKSPACE_HOST_PATH.to_owned());
    check(group, KEY, rules::check_host_path(&path));
    path
}

/// A text that passes a check.
fn checked(group: &mut Group<'_>, key: &str, rule: fn(&str) -> Result<(), String>) -> Option<String> {
    let text = group.text(key)?;
    check(group, key, rule(&text));
    Some(text)
}

fn check(group: &Group<'_>, key: &str, outcome: Result<(), String>) {
    if let Err(rule) = outcome {
        group.problem(key, rule);
    }
}

fn timeouts(mut group: Group<'_>) -> Timeouts {
    let default = Timeouts::default();
    let timeouts = Timeouts {
        startup: group.duration("startup", default.startup),
        initialization: group.duration("initialization", default.initialization),
        container_start: group.duration_or_zero("containerStart").unwrap_or(default.container_start),
        regular_workspace: group.duration("regularWorkspace", default.regular_workspace),
        max_lifetime: group.duration("maxLifetime", default.max_lifetime),
        headless_workspace: group.duration("headlessWorkspace", default.headless_workspace),
        after_close: group.duration_or_zero("afterClose").unwrap_or(default.after_close),
        content_finalization: group.duration("contentFinalization", default.content_finalization),
        stopping: group.duration("stopping", default.stopping),
        interrupted: group.duration_or_zero("interrupted").unwrap_or(default.interrupted),
    };
    let is_compared = group.unread().has_neither("stopping", "contentFinalization");
    if is_compared && timeouts.stopping < timeouts.content_finalization {
        group.problem("stopping", "must be at least contentFinalization");
    }
    timeouts
}

fn preferred_class(group: &mut Group<'_>, names: &BTreeSet<String>) -> Option<ClassId> {
    const KEY: &str = "preferredWorkspaceClass";
    let id = group.parsed::<ClassId>(KEY)?;
    // Without classes here, clusters define theirs, which are not known yet. A class with problems is reported itself.
    if !names.is_empty() && !names.contains(id.as_str()) {
        group.problem(KEY, format_args!("there is no class {id} in workspaceClass"));
    }
    Some(id)
}

fn pod_annotations(group: &mut Group<'_>) -> PodAnnotations {
    const KEY: &str = "podAnnotations";
    let entries = group.texts(KEY);
    PodAnnotations::parse(&entries).unwrap_or_else(|problems| {
        for (at, error) in problems {
            group.problem(&format!("{KEY}[{at}]"), error);
        }
        PodAnnotations::default()
    })
}

fn pod_recreation(group: &mut Group<'_>) -> Recreation {
    let default = Recreation::default();
    let max_retries = group.count("podRecreationMaxRetries", 0..=100).unwrap_or(default.max_retries);
    // Generated files write zero for "unset".
    let backoff = group.duration_or_zero("podRecreationBackoff").filter(|backoff| !backoff.is_zero());
    Recreation { max_retries, backoff: backoff.unwrap_or(default.backoff) }
}

fn ssh_gateway_ca(group: &mut Group<'_>) -> Option<String> {
    const KEY: &str = "sshGatewayCAPublicKeyFile";
    let inline = group.text("SSHGatewayCAPublicKey");
    let path = group.file(KEY);
    let Some(path) = path else { return inline };
    match files::read_text(&path, files::LARGEST) {
        Ok(key) => Some(key.trim_end().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            group.problem(KEY, "must hold UTF-8 text");
            None
        }
        // The reader has already reported it.
        Err(_) => None,
    }
}
