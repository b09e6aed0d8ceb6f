//! Tests of decisions: builders of scenes; one file for each family of tests.

mod access;
mod containers;
mod endings;
mod failures;
mod phases;
mod properties;
mod recreation;
mod timeouts;
mod unseen;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use prost::Message;

use crate::settings::ClassSettings;
use crate::templates::PodTemplates;
use domain::class::{Class, RawClass};
use domain::manager::{Recreation, Timeouts};
use domain::names::WorkspaceId;
use domain::pod::{ContainerFacts, ContainerState, PodEvent, PodPhase, Termination};
use domain::signing::Keying;
use domain::workspace::Kind;
use k8s::resources::{self, Initializer, Runtime, Workspace, WorkspaceSpec, WorkspaceStatus, names};
use proto::contentservice::{EmptyInitializer, WorkspaceInitializer, workspace_initializer::Spec};

use super::*;

pub(crate) struct FixedTokens;

impl OwnerTokens for FixedTokens {
    fn owner_token(&self, id: &WorkspaceId, generation: u32, _: Option<&Keying>) -> String {
        format!("token-{id}-{generation}")
    }
}

const START: i64 = 1_800_000_000;
const UID: &str = "uid-1";

/// The time so many seconds after the creation of the workspace.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}

pub(crate) fn settings() -> Settings {
    let raw: RawClass = serde_json::from_value(serde_json::json!({
        "container": {
            "requests": {"cpu": "1500m", "memory": "4Gi", "ephemeral-storage": "5Gi"},
            "limits": {"cpu": {"burst": "4"}, "memory": "8Gi", "storage": "30Gi"},
        },
    }))
    .unwrap();
    let class = Class::parse("g1-standard", &raw, Path::new("/")).unwrap();
    let minutes = |count: u64| Duration::from_secs(count * 60);
    Settings {
        namespace: "workspaces".parse().unwrap(),
        secrets_namespace: "workspace-secrets".parse().unwrap(),
        classes: BTreeMap::from([(
            "g1-standard".to_owned(),
            ClassSettings::new(class, &PodTemplates::default()),
        )]),
        timeouts: Timeouts {
            startup: minutes(45),
            initialization: minutes(30),
            container_start: minutes(5),
            regular_workspace: minutes(60),
            max_lifetime: minutes(36 * 60),
            headless_workspace: minutes(90),
            after_close: minutes(1),
            content_finalization: minutes(55),
            stopping: minutes(60),
            interrupted: minutes(5),
        },
        url: "https://{{ .Prefix }}.ws.example.com".parse().unwrap(),
        host_url: "https://example.com".to_owned(),
        workspace_cluster_host: "ws.example.com".to_owned(),
        workspace_host_path: "/var/gitpod/workspaces-mk2".to_owned(),
        scheduler_name: String::new(),
        seccomp_profile: Some("workspace_default.json".to_owned()),
        allowed_secrets: BTreeSet::new(),
        registry_facade_host: Some("reg.example.com:20000".to_owned()),
        workspacekit: true,
        heartbeat_interval: Duration::from_secs(30),
        custom_ca: false,
        pod_annotations: domain::pod_annotations::PodAnnotations::default(),
        recreation: Recreation { max_retries: 3, backoff: Duration::from_millis(500) },
        concurrency: 4,
        pass_deadline: Duration::from_secs(30),
    }
}

/// A workspace with the observed state around it.
#[derive(Clone)]
pub(crate) struct Scene {
    pub workspace: Workspace,
    pub pods: Vec<Arc<PodFacts>>,
    pub node: NodeObservation,
    pub maintenance_until: Option<Timestamp>,
    pub refusal: Option<Refusal>,
    pub denial: Option<Denial>,
    pub pod_event: Option<PodEvent>,
    pub now: Timestamp,
    pub settings: Settings,
}

/// A workspace that is one minute old and was never reconciled.
pub(crate) fn fresh() -> Scene {
    let initializer = WorkspaceInitializer { spec: Some(Spec::Empty(EmptyInitializer {})) }.encode_to_vec();
    let spec = WorkspaceSpec {
        class: "g1-standard".to_owned(),
        initializer: Initializer(ByteString(initializer)),
        ownership: resources::Ownership {
            owner: "jane".to_owned(),
            workspace_id: "meta-1".to_owned(),
            ..Default::default()
        },
        ..WorkspaceSpec::default()
    };
    let mut workspace = Workspace::new("a", spec);
    workspace.metadata.namespace = Some("workspaces".to_owned());
    workspace.metadata.uid = Some(UID.to_owned());
    workspace.metadata.generation = Some(1);
    workspace.metadata.resource_version = Some("7".to_owned());
    workspace.metadata.creation_timestamp = Some(Time(at(0)));
    workspace.metadata.finalizers = Some(vec![names::FINALIZER.to_owned()]);
    let node = NodeObservation::Unknown;
    let settings = settings();
    Scene {
        workspace,
        pods: Vec::new(),
        node,
        maintenance_until: None,
        refusal: None,
        denial: None,
        pod_event: None,
        now: at(60),
        settings,
    }
}

/// A workspace whose pod was created and counted in the status.
pub(crate) fn made() -> Scene {
    let mut scene = fresh();
    scene.step();
    assert_eq!(scene.status().pod_starts, 1);
    scene
}

/// A workspace whose pod was seen on its node, in a phase.
pub(crate) fn in_phase(phase: Phase) -> Scene {
    let mut scene = made().pod(PodPhase::Pending).phase(phase);
    let on_node = |text: &str| Some(text.to_owned());
    scene.status_mut().runtime = Some(Box::new(Runtime {
        node_name: on_node("node-1"),
        pod_name: on_node("ws-a"),
        host_ip: on_node("10.0.0.1"),
        pod_ip: on_node("10.1.0.1"),
    }));
    scene
}

/// A regular workspace in use.
pub(crate) fn running() -> Scene {
    in_phase(Phase::Running)
        .ready_content()
        .is(conditions::EVER_READY)
        .pod(PodPhase::Running)
        .container(ContainerState::Running, true)
}

/// A headless workspace that runs.
pub(crate) fn headless(kind: Kind) -> Scene {
    let mut scene = running();
    scene.workspace.spec.type_ = kind;
    scene.edit_pod(|pod| pod.name = pod::name(kind, "a"));
    scene
}

pub(crate) fn terminated(exit_code: i32, reason: &str, message: &str) -> ContainerState {
    ContainerState::Terminated(Termination {
        exit_code,
        reason: reason.to_owned(),
        message: message.to_owned(),
    })
}

pub(crate) fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState::Waiting { reason: reason.to_owned(), message: message.to_owned() }
}

impl Scene {
    pub fn status(&self) -> WorkspaceStatus {
        self.workspace.status.clone().unwrap_or_default()
    }

    pub fn status_mut(&mut self) -> &mut WorkspaceStatus {
        self.workspace.status.get_or_insert_default()
    }

    pub fn kind(mut self, kind: Kind) -> Self {
        self.workspace.spec.type_ = kind;
        self
    }

    pub fn phase(mut self, phase: Phase) -> Self {
        self.status_mut().phase = phase;
        self
    }

    pub fn at(mut self, seconds: i64) -> Self {
        self.now = at(seconds);
        self
    }

    pub fn node(mut self, node: NodeObservation) -> Self {
        self.node = node;
        self
    }

    pub fn maintenance(mut self, until_seconds: i64) -> Self {
        self.maintenance_until = Some(at(until_seconds));
        self
    }

    /// Somebody writes a condition.
    pub fn condition(mut self, kind: &str, status: &str, reason: &str, message: &str) -> Self {
        self.write_condition(kind, status, reason, message);
        self
    }

    pub fn write_condition(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = self.now;
        let conditions = &mut self.status_mut().conditions;
        conditions.retain(|condition| condition.type_ != kind);
        conditions.push(Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: Time(now),
            observed_generation: None,
        });
    }

    pub fn is(self, kind: &str) -> Self {
        self.condition(kind, "True", "Unknown", "")
    }

    pub fn ready_content(self) -> Self {
        self.condition(conditions::CONTENT_READY, "True", conditions::reason::INITIALIZATION_SUCCESS, "")
    }

    pub fn stop_asked(self) -> Self {
        let reason = conditions::reason::STOP_WORKSPACE_REQUEST;
        self.condition(conditions::STOPPED_BY_REQUEST, "True", reason, "30s")
    }

    /// Somebody deletes the resource.
    pub fn deleted(mut self) -> Self {
        self.workspace.metadata.deletion_timestamp = Some(Time(self.now));
        self
    }

    pub fn pod(mut self, phase: PodPhase) -> Self {
        let there = self.pods.first().map(|pod| pod.as_ref().clone());
        let pod = there.unwrap_or_else(|| new_pod(&pod::name(self.workspace.spec.type_, "a"), "pod-1", UID));
        self.pods = vec![Arc::new(PodFacts { phase, ..pod })];
        self
    }

    pub fn no_pod(mut self) -> Self {
        self.pods.clear();
        self
    }

    pub fn edit_pod(&mut self, edit: impl FnOnce(&mut PodFacts)) {
        let mut pod = self.pods[0].as_ref().clone();
        edit(&mut pod);
        self.pods[0] = Arc::new(pod);
    }

    pub fn with_pod(mut self, edit: impl FnOnce(&mut PodFacts)) -> Self {
        self.edit_pod(edit);
        self
    }

    pub fn container(mut self, state: ContainerState, ready: bool) -> Self {
        self.edit_pod(|pod| {
            pod.containers =
                vec![ContainerFacts { name: "workspace".to_owned(), ready, state, last_termination: None }];
        });
        self
    }

    /// Another container of the pod, such as a mesh's.
    pub fn sidecar(self, state: ContainerState, ready: bool) -> Self {
        self.with_pod(|pod| pod.containers.insert(0, other("mesh", state, ready)))
    }

    pub fn init_container(self, name: &str, state: ContainerState) -> Self {
        self.with_pod(|pod| pod.init_containers.push(other(name, state, false)))
    }

    pub fn on_node(self, readiness: Readiness) -> Self {
        let scene = self.with_pod(|pod| pod.node_name = Some("node-1".to_owned()));
        scene.node(NodeObservation::Present { tainted: readiness != Readiness::Ready, readiness })
    }

    pub fn deleting_pod(mut self) -> Self {
        let now = self.now;
        self.edit_pod(|pod| pod.deleting_since = Some(now));
        self
    }

    pub fn refused_pod(self, reason: &str, message: &str) -> Self {
        self.pod(PodPhase::Failed).with_pod(|pod| {
            reason.clone_into(&mut pod.reason);
            message.clone_into(&mut pod.message);
            pod.node_name = Some("node-1".to_owned());
        })
    }

    pub fn observed(&self) -> Observed<'_> {
        Observed {
            workspace: &self.workspace,
            pods: &self.pods,
            node: self.node,
            maintenance_until: self.maintenance_until,
            refusal: self.refusal.as_ref(),
            denial: self.denial.as_ref(),
            pod_event: self.pod_event.as_ref(),
            now: self.now,
        }
    }

    pub fn decide(&self) -> Decision {
        decide(&self.observed(), &self.settings, &FixedTokens)
    }

    /// Decides and writes the status, as a reconcile does.
    pub fn step(&mut self) -> Decision {
        let decision = self.decide();
        if !decision.status.is_empty() {
            decision.status.apply_to(self.workspace.status.get_or_insert_default());
        }
        decision
    }

    /// The status after one reconcile.
    pub fn then(mut self) -> WorkspaceStatus {
        self.step();
        self.status()
    }
}

pub(crate) fn new_pod(name: &str, uid: &str, workspace_uid: &str) -> PodFacts {
    PodFacts {
        name: name.to_owned(),
        uid: uid.to_owned(),
        resource_version: "1".to_owned(),
        workspace: "a".to_owned(),
        workspace_uid: workspace_uid.to_owned(),
        phase: PodPhase::Pending,
        reason: String::new(),
        message: String::new(),
        node_name: None,
        pod_ip: None,
        host_ip: None,
        deleting_since: None,
        has_finalizer: true,
        held_by: Vec::new(),
        unschedulable: None,
        disruption: None,
        only_others: Vec::new(),
        containers: Vec::new(),
        init_containers: Vec::new(),
        all_terminated: false,
    }
}

pub(crate) fn other(name: &str, state: ContainerState, ready: bool) -> ContainerFacts {
    ContainerFacts { name: name.to_owned(), ready, state, last_termination: None }
}

pub(crate) fn message<'a>(status: &'a WorkspaceStatus, kind: &str) -> &'a str {
    status.condition(kind).map_or("(absent)", |condition| condition.message.as_str())
}

pub(crate) fn creates(decision: &Decision) -> bool {
    decision.actions.iter().any(|action| matches!(action, Action::CreatePod(_)))
}

/// Whether a pod is deleted, and with which grace period.
#[allow(clippy::option_option, reason = "a deletion, and its grace")]
pub(crate) fn deletes(decision: &Decision) -> Option<Option<u32>> {
    decision.actions.iter().find_map(|action| match action {
        Action::DeletePod { grace, .. } => Some(*grace),
        _ => None,
    })
}

pub(crate) fn releases_pod(decision: &Decision) -> bool {
    decision.actions.iter().any(|action| matches!(action, Action::ReleasePod { .. }))
}

pub(crate) fn events(decision: &Decision) -> Vec<&'static str> {
    decision.events.iter().map(|note| note.reason).collect()
}
