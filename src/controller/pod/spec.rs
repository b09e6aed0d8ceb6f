//! Parts of the pod's spec.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, AppArmorProfile, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, HTTPGetAction,
    HostPathVolumeSource, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PodSecurityContext, Probe, ResourceRequirements, SeccompProfile, SecurityContext, Toleration, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::settings::Settings;
use domain::class;
use domain::names::WorkspaceId;
use k8s::resources::names;

use super::env::environment;
use super::input::PodInput;
use super::name::CONTAINER;

const CONTENT_VOLUME: &str = "vol-this-workspace";
const DAEMON_VOLUME: &str = "daemon-mount";
const CA_VOLUME: &str = "gitpod-ca-crt";
const IDE_PORT: i32 = 23_000;
const SUPERVISOR_PORT: i32 = 22_999;
const WORKSPACE_USER: i64 = 33_333;

pub(super) fn pod_security(settings: &Settings) -> PodSecurityContext {
    let seccomp_profile = match &settings.seccomp_profile {
        Some(profile) => {
            SeccompProfile { localhost_profile: Some(profile.clone()), type_: "Localhost".to_owned() }
        }
        None => SeccompProfile { localhost_profile: None, type_: "RuntimeDefault".to_owned() },
    };
    PodSecurityContext { seccomp_profile: Some(seccomp_profile), ..PodSecurityContext::default() }
}

/// Only nodes with a node agent, and with a registry facade if one composes the image.
pub(super) fn affinity(input: &PodInput<'_>) -> Affinity {
    let namespace = input.settings.namespace.as_str();
    let workload = if input.headless() { names::NODE_HEADLESS } else { names::NODE_REGULAR };
    let mut keys = vec![workload.to_owned(), names::node_agent_ready(namespace)];
    if input.settings.registry_facade_host.is_some() {
        keys.push(names::registry_facade_ready(namespace));
    }
    let exists = |key| NodeSelectorRequirement {
        key,
        operator: "Exists".to_owned(),
        ..NodeSelectorRequirement::default()
    };
    let term = NodeSelectorTerm {
        match_expressions: Some(keys.into_iter().map(exists).collect()),
        ..NodeSelectorTerm::default()
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// Tolerates pressure taints: a workspace must not be evicted before its backup.
pub(super) fn tolerations() -> Vec<Toleration> {
    let tolerate = |taint: &str, seconds| Toleration {
        key: Some(format!("node.kubernetes.io/{taint}")),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: seconds,
        ..Toleration::default()
    };
    vec![
        tolerate("disk-pressure", None),
        tolerate("memory-pressure", None),
        tolerate("network-unavailable", Some(30)),
    ]
}

pub(super) fn volumes(input: &PodInput<'_>) -> Vec<Volume> {
    let content = input.settings.content_path(input.id);
    let host_path = |name: &str, path: String| Volume {
        name: name.to_owned(),
        host_path: Some(HostPathVolumeSource { path, type_: Some("DirectoryOrCreate".to_owned()) }),
        ..Volume::default()
    };
    let mut volumes = vec![
        host_path(CONTENT_VOLUME, content.clone()),
        host_path(DAEMON_VOLUME, format!("{content}{}", WorkspaceId::DAEMON_SUFFIX)),
    ];
    if input.settings.custom_ca {
        volumes.push(Volume {
            name: CA_VOLUME.to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: "gitpod-customer-certificate-bundle".to_owned(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        });
    }
    volumes
}

pub(super) fn container(input: &PodInput<'_>) -> Container {
    let kit = input.settings.workspacekit;
    Container {
        name: CONTAINER.to_owned(),
        image: Some(input.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: kit.then(|| vec!["/.supervisor/workspacekit".to_owned(), "ring0".to_owned()]),
        ports: Some(vec![ContainerPort { container_port: IDE_PORT, ..ContainerPort::default() }]),
        env: Some(environment(input)),
        resources: Some(resources(input.class)),
        volume_mounts: Some(mounts(input.settings)),
        readiness_probe: kit.then(supervisor_probe),
        security_context: Some(container_security()),
        termination_message_policy: Some("File".to_owned()),
        ..Container::default()
    }
}

fn mounts(settings: &Settings) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        mount_propagation: Some("HostToContainer".to_owned()),
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount(CONTENT_VOLUME, "/workspace"), mount(DAEMON_VOLUME, "/.workspace")];
    if settings.custom_ca {
        mounts.push(VolumeMount {
            name: CA_VOLUME.to_owned(),
            mount_path: "/etc/ssl/certs/gitpod-ca.crt".to_owned(),
            sub_path: Some("ca-certificates.crt".to_owned()),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    mounts
}

fn supervisor_probe() -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some("/_supervisor/v1/status/ide/wait/true".to_owned()),
            port: IntOrString::Int(SUPERVISOR_PORT),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        initial_delay_seconds: Some(1),
        period_seconds: Some(1),
        timeout_seconds: Some(1),
        success_threshold: Some(1),
        failure_threshold: Some(600),
        ..Probe::default()
    }
}

/// The capabilities and privilege escalation are needed inside the workspace's user namespace; outside of it they give no
/// privileges.
fn container_security() -> SecurityContext {
    let owned = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    SecurityContext {
        allow_privilege_escalation: Some(true),
        privileged: Some(false),
        read_only_root_filesystem: Some(false),
        run_as_user: Some(WORKSPACE_USER),
        run_as_group: Some(WORKSPACE_USER),
        run_as_non_root: Some(true),
        app_armor_profile: Some(AppArmorProfile { localhost_profile: None, type_: "Unconfined".to_owned() }),
        capabilities: Some(Capabilities {
            add: owned(&["AUDIT_WRITE", "FSETID", "KILL", "NET_BIND_SERVICE", "SYS_PTRACE"]),
            drop: owned(&[
                "SETPCAP",
                "CHOWN",
                "NET_RAW",
                "DAC_OVERRIDE",
                "FOWNER",
                "SYS_CHROOT",
                "SETFCAP",
                "SETUID",
                "SETGID",
            ]),
        }),
        ..SecurityContext::default()
    }
}

/// Resources of a class; zero values are not set. Storage is no pod resource: the node agent enforces its quota.
fn resources(class: &class::Class) -> ResourceRequirements {
    let set = |pairs: [(&str, &class::Quantity); 3]| -> Option<BTreeMap<String, Quantity>> {
        let set: BTreeMap<_, _> = pairs
            .into_iter()
            .filter(|(_, quantity)| !quantity.is_zero())
            .map(|(name, quantity)| (name.to_owned(), Quantity(quantity.as_str().to_owned())))
            .collect();
        (!set.is_empty()).then_some(set)
    };
    let (limits, requests) = (&class.limits, &class.requests);
    ResourceRequirements {
        limits: set([
            ("cpu", &limits.cpu.burst),
            ("memory", &limits.memory),
            ("ephemeral-storage", &limits.ephemeral_storage),
        ]),
        requests: set([
            ("cpu", &requests.cpu),
            ("memory", &requests.memory),
            ("ephemeral-storage", &requests.ephemeral_storage),
        ]),
        ..ResourceRequirements::default()
    }
}
