//! Registrations, and what members write to the index. Nothing answers at the addresses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use kube::core::ObjectMeta;
use tokio::sync::watch;

use super::callbacks::{Callbacks, Login, MemberObserver};
use super::settings::Defaults;
use super::*;
use crate::Result;
use crate::view::index::Index;
use crate::view::tests::sample;
use domain::cluster::{ClearText, ClusterSpec, NodeAgent};
use domain::manager::{Manager, Recreation, Timeouts};
use domain::names::{ClusterName, WorkspaceId};
use domain::placement::Target;
use domain::pod_annotations::PodAnnotations;
use domain::record::RecordState;
use domain::secret::Secret;
use domain::signing::SigningKeys;
use domain::workspace::Kind;
use k8s::resources::{Workspace, names};
use member::MemberOptions;
use member::cache::Observer;
use onboarding::checks::Examined;
use store::Registration;

const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
     contexts: [{name: a, context: {cluster: c, user: u}}]\n\
     clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n\
     users: [{name: u, user: {token: t}}]\n";

/// What a manager is configured with that has no class.
fn defaults() -> Defaults {
    let manager = Manager {
        namespace: "workspaces".parse().unwrap(),
        secrets_namespace: "secrets".parse().unwrap(),
        scheduler_name: None,
        seccomp_profile: None,
        timeouts: Timeouts::default(),
        workspace_url: "https://{{ .ID }}.ws.example.org".parse().unwrap(),
        port_url: "https://{{ .WorkspacePort }}-{{ .ID }}.ws.example.org".parse().unwrap(),
        workspace_host_path: "/var".to_owned(),
        heartbeat_interval: Duration::from_secs(30),
        host_url: "https://example.org".parse().unwrap(),
        node_agent: NodeAgent::default(),
        clear_text_secrets: ClearText::default(),
        registry_facade_host: None,
        workspacekit: false,
        workspace_cluster_host: None,
        classes: BTreeMap::new(),
        template_folder: None,
        preferred_class: None,
        workspace_reconcilers: 1,
        custom_ssl_certificate: false,
        ssh_gateway_ca_public_key: None,
        pod_annotations: PodAnnotations::default(),
        pod_recreation: Recreation::default(),
        maintenance_config_map: "maintenance".to_owned(),
    };
    Defaults { manager, classes: BTreeMap::new(), templates: Arc::default() }
}

/// Runs a fleet and listens to nothing.
struct Nobody;

impl Observer for Nobody {}

impl MemberObserver for Nobody {}

impl Callbacks for Nobody {
    fn observer(&self, _cluster: &ClusterName) -> Arc<dyn MemberObserver> {
        Arc::new(Self)
    }

    fn recheck(&self, _workspace: &WorkspaceId) {}

    fn noted_canary(&self, _cluster: &ClusterName) -> Option<u64> {
        None
    }

    fn examine<'a>(
        &'a self,
        _spec: &'a ClusterSpec,
        _login: Login<'a>,
        _deadline: Duration,
    ) -> BoxFuture<'a, Result<Examined>> {
        Box::pin(std::future::pending())
    }
}

/// A fleet without members, and its index.
pub(crate) fn fleet() -> (Arc<Fleet>, Arc<Index>) {
    let index = Arc::new(Index::new(8));
    let options = FleetOptions {
        member: MemberOptions::default(),
        defaults: Arc::new(ArcSwap::from_pointee(defaults())),
        host: None,
    };
    let keyed = Arc::new(ArcSwap::from_pointee(SigningKeys::new(1, b"secret")));
    let (_, leading) = watch::channel(None);
    let fleet = Fleet::new(options, Arc::clone(&index), (keyed, "us".into()), leading, Arc::new(Nobody));
    (fleet, index)
}

/// A registration whose address and uid are those of its version.
pub(crate) fn registration(name: &str, version: i64) -> Registration {
    let spec = serde_json::json!({
        "name": name, "region": "europe", "weight": 1, "maxWeight": 100,
        "labels": { "version": version.to_string() },
        "namespaces": [{
            "namespace": "workspaces", "secretsNamespace": "secrets",
            "classes": { "small": {
                "name": "Small",
                "container": {
                    "requests": { "cpu": "1", "memory": "1Gi" },
                    "limits": { "memory": "1Gi", "storage": "1Gi" },
                },
            } },
        }],
    });
    Registration {
        spec: serde_json::from_value(spec).unwrap(),
        api_server: format!("https://{version}"),
        kubeconfig: Some(Secret::new(KUBECONFIG.as_bytes().to_vec())),
        cluster_uid: String::new(),
        version,
    }
}

fn name(text: &str) -> ClusterName {
    text.parse().unwrap()
}

/// The resource of [`sample`].
fn workspace() -> Arc<Workspace> {
    let mut workspace = Workspace::new("ws", k8s::resources::WorkspaceSpec::default());
    workspace.metadata = ObjectMeta {
        namespace: Some("workspaces".to_owned()),
        resource_version: Some("7".to_owned()),
        labels: Some([(names::MANAGED_BY.to_owned(), names::MANAGER.to_owned())].into()),
        annotations: Some([(names::GENERATION.to_owned(), "1".to_owned())].into()),
        ..workspace.metadata
    };
    Arc::new(workspace)
}

#[tokio::test]
async fn what_the_mirror_reports_late_does_not_register_a_removed_cluster_again() {
    let (fleet, _) = fleet();
    fleet.put(registration("eu-1", 5));
    fleet.put(registration("eu-1", 6));
    assert_eq!(fleet.version(&name("eu-1")), Some(6));
    fleet.remove(&name("eu-1"), 6);
    for late in [5, 6] {
        fleet.put(registration("eu-1", late));
        let spec = registration("eu-1", late).spec;
        fleet.put_broken(spec.clone(), String::new(), late, "it cannot be unsealed".to_owned());
        fleet.put_written(spec, late, None);
    }
    assert_eq!((fleet.version(&name("eu-1")), fleet.connected().len(), fleet.broken().len()), (None, 0, 0));
    fleet.removed(&name("eu-1"));
    fleet.put_written(registration("eu-1", 7).spec, 7, None);
    assert_eq!(fleet.version(&name("eu-1")), None, "an answer that comes late");
    fleet.put(registration("eu-1", 9));
    assert_eq!(fleet.version(&name("eu-1")), Some(9));
}

#[tokio::test]
async fn a_cluster_that_is_registered_again_is_not_removed_by_the_removal_of_before() {
    let (fleet, index) = fleet();
    fleet.put(registration("eu-1", 5));
    fleet.removed(&name("eu-1"));
    fleet.put(registration("eu-1", 9));
    fleet.remove(&name("eu-1"), 5);
    assert_eq!(fleet.version(&name("eu-1")), Some(9));
    index.record(sample(RecordState::Confirmed), 1);
    let connected = fleet.get(&name("eu-1")).unwrap();
    connected.watcher.workspace(&"workspaces".parse().unwrap(), &workspace());
    assert!(index.get(&"ws".parse().unwrap()).is_some(), "it is shown");
}

#[tokio::test]
async fn what_a_removed_member_still_handles_does_not_reach_the_index() {
    let (fleet, index) = fleet();
    fleet.put(registration("eu-1", 5));
    index.record(sample(RecordState::Confirmed), 1);
    let (connected, namespace) = (fleet.get(&name("eu-1")).unwrap(), "workspaces".parse().unwrap());
    connected.watcher.workspace(&namespace, &workspace());
    connected.tell();
    let id = "ws".parse().unwrap();
    assert!(index.get(&id).unwrap().region.is_some());
    fleet.remove(&name("eu-1"), 5);
    assert!(index.get(&id).is_none());
    connected.watcher.workspace(&namespace, &workspace());
    connected.watcher.rewound(&namespace);
    connected.tell();
    assert!(index.get(&id).is_none() && !index.is_rewound(&name("eu-1")));
    let again = index.connect(&name("eu-1"), [namespace].into());
    index.resource(&again, crate::view::tests::view("ws"));
    assert_eq!(index.get(&id).unwrap().region, None, "what is known of the cluster stays forgotten");
}

#[tokio::test]
async fn whoever_reads_a_registration_sees_one_and_not_parts_of_two() {
    let (fleet, _) = fleet();
    fleet.put(registration("eu-1", 1));
    let connected = fleet.get(&name("eu-1")).unwrap();
    let reader = std::thread::spawn({
        let connected = Arc::clone(&connected);
        move || {
            loop {
                let seen = Registration::from(&*connected.in_use());
                let version = seen.version.to_string();
                assert_eq!(seen.api_server, format!("https://{version}"));
                assert_eq!(seen.spec.labels["version"], version);
                if seen.version == 2000 {
                    return;
                }
            }
        }
    });
    for version in 2..=2000 {
        fleet.put(registration("eu-1", version));
    }
    reader.join().unwrap();
    assert!(Arc::ptr_eq(&connected, &fleet.get(&name("eu-1")).unwrap()), "it was changed in place");
}

#[tokio::test]
async fn a_start_in_flight_counts_once_and_only_until_its_record_does() {
    let (fleet, index) = fleet();
    fleet.put(registration("eu-1", 1));
    let connected = fleet.get(&name("eu-1")).unwrap();
    let placed = || fleet.candidates()[0].placed;
    let target = Target {
        cluster: name("eu-1"),
        region: "europe".parse().unwrap(),
        namespace: "workspaces".parse().unwrap(),
        class: "small".parse().unwrap(),
    };
    let admit = || connected.admit(&target, &"ws".parse().unwrap(), Kind::Regular);
    assert!(admit().is_none(), "no node has capacity");
    assert_eq!(placed(), 0);
    let mut unlimited = registration("eu-1", 2);
    unlimited.spec.capacity = domain::cluster::Capacity::Unlimited;
    fleet.put(unlimited);
    let in_flight = admit().unwrap();
    assert_eq!((placed(), connected.member.capacity().totals().waiting), (1, 1));
    drop(in_flight);
    assert_eq!((placed(), connected.member.capacity().totals().waiting), (0, 0), "it was cancelled");
    let in_flight = admit().unwrap();
    index.record(sample(RecordState::Placed), 1);
    in_flight.recorded();
    assert_eq!((placed(), connected.member.capacity().totals().waiting), (1, 1), "its creation goes on");
}

#[tokio::test]
async fn a_registration_that_stays_broken_keeps_its_age() {
    let (fleet, _) = fleet();
    let broken = |version| {
        fleet.put_broken(registration("eu-1", 1).spec, String::new(), version, "no key".to_owned());
        fleet.broken()[0].since
    };
    let since = broken(1);
    assert_eq!((broken(1), broken(2)), (since, since));
}
