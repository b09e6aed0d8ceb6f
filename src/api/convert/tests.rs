use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use domain::workspace::{ContentReports, IdeImage, Runtime};
use federation::view::seen::Notice;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// A workspace with every field set.
fn view() -> View {
    let metric = |size| Some(InitializerMetric { duration: Duration::from_millis(1500), size });
    View {
        id: "ws".parse().unwrap(),
        namespace: "workspaces".parse().unwrap(),
        uid: "uid".to_owned(),
        resource_version: 42,
        generation: 1,
        digest: "digest".to_owned(),
        meta: "meta".to_owned(),
        owner: "jane".to_owned(),
        team: Some("team".to_owned()),
        project: Some("project".to_owned()),
        created_at: Some(at(1)),
        annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        kind: Kind::Prebuild,
        class: "large".to_owned(),
        image: "image:1".to_owned(),
        ide: IdeImage {
            web: "web:1".to_owned(),
            layers: vec!["layer:1".to_owned()],
            supervisor: "sup:1".to_owned(),
        },
        ports: vec![
            (
                Port { port: 3000, visibility: Access::Everyone, protocol: Protocol::Https },
                Some("https://3000-meta".to_owned()),
            ),
            (Port { port: 99, visibility: Access::Owner, protocol: Protocol::Http }, None),
        ],
        admission: Access::Everyone,
        owner_token: "token".to_owned(),
        url: "https://meta".to_owned(),
        timeout: "30m0s".to_owned(),
        closed_timeout: "2m0s".to_owned(),
        ssh_public_keys: vec!["ssh-rsa A".to_owned()],
        phase: Phase::Stopping,
        conditions: Conditions {
            failed: Some("it failed".to_owned()),
            timeout: Some("it timed out".to_owned()),
            headless_task_failed: Some("its task failed".to_owned()),
            deployed: true,
            stopped_by_request: true,
            first_user_activity: Some(at(2)),
            ..Conditions::default()
        },
        message: "Failed: it failed".to_owned(),
        held: "Its pod is held by finalizer a/b.".to_owned(),
        snapshot: "snapshot@bucket".to_owned(),
        git: Some(Box::new(GitStatus {
            branch: Some("main".to_owned()),
            latest_commit: Some("c0ffee".to_owned()),
            uncommited_files: vec!["u".to_owned()],
            total_uncommited_files: Some(1),
            untracked_files: vec!["t".to_owned()],
            total_untracked_files: Some(2),
            unpushed_commits: vec!["p".to_owned()],
            total_unpushed_commits: Some(3),
        })),
        runtime: Some(Box::new(Runtime {
            node_name: "node".to_owned(),
            pod_name: "pod".to_owned(),
            node_ip: "10.0.0.1".to_owned(),
        })),
        initializer_metrics: Some(Box::new(InitializerMetrics {
            git: metric(1),
            file_download: metric(2),
            snapshot: metric(3),
            backup: metric(4),
            prebuild: metric(5),
            composite: metric(6),
        })),
        image_metrics: Some(ImageMetrics { total: 100, workspace: 60 }),
        content: Some(Box::new(ContentReports {
            initialization: Some(ContentReport { succeeded: true, at: at(4), message: String::new() }),
            backup: Some(ContentReport { succeeded: false, at: at(5), message: "it stays there".to_owned() }),
            progress: None,
        })),
        last_activity: Some(at(3)),
        deleting: false,
        ours: true,
    }
}

fn seen(view: View) -> Seen {
    Seen {
        view: Arc::new(view.into()),
        cluster: "eu".parse().unwrap(),
        region: Some("europe".parse().unwrap()),
        version: 7,
        reachable: true,
        observed_at: None,
        draining: None,
        obstacle: None,
    }
}

fn of_phase(phase: Phase) -> wsman::WorkspacePhase {
    status(&seen(View { phase, ..view() }), true).phase()
}

#[test]
fn a_status_says_everything_that_is_seen_in_the_fields_that_clients_know() {
    let status = status(&seen(view()), true);
    let metric = |size| {
        let duration = Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 });
        Some(wsman::InitializerMetric { duration, size })
    };
    let expected = wsman::WorkspaceStatus {
        id: "ws".to_owned(),
        status_version: 7,
        metadata: Some(wsman::WorkspaceMetadata {
            owner: "jane".to_owned(),
            meta_id: "meta".to_owned(),
            started_at: Some(timestamp(at(1))),
            annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            team: Some("team".to_owned()),
            project: Some("project".to_owned()),
            metrics: Some(wsman::workspace_metadata::Metrics {
                image: Some(wsman::workspace_metadata::ImageInfo {
                    total_size: 100,
                    workspace_image_size: 60,
                }),
            }),
        }),
        spec: Some(wsman::WorkspaceSpec {
            workspace_image: "image:1".to_owned(),
            headless: true,
            url: "https://meta".to_owned(),
            // A port without a known URL is left out.
            exposed_ports: vec![wsman::PortSpec {
                port: 3000,
                visibility: wsman::PortVisibility::Public.into(),
                url: "https://3000-meta".to_owned(),
                protocol: wsman::PortProtocol::Https.into(),
            }],
            r#type: wsman::WorkspaceType::Prebuild.into(),
            timeout: "30m0s".to_owned(),
            ide_image: Some(wsman::IdeImage {
                web_ref: "web:1".to_owned(),
                supervisor_ref: "sup:1".to_owned(),
            }),
            class: "large".to_owned(),
            ide_image_layers: vec!["layer:1".to_owned()],
            closed_timeout: "2m0s".to_owned(),
        }),
        phase: wsman::WorkspacePhase::Stopping.into(),
        conditions: Some(wsman::WorkspaceConditions {
            failed: "it failed".to_owned(),
            timeout: "it timed out".to_owned(),
            pulling_images: WorkspaceConditionBool::False.into(),
            snapshot: "snapshot@bucket".to_owned(),
            final_backup_complete: WorkspaceConditionBool::False.into(),
            deployed: WorkspaceConditionBool::True.into(),
            network_not_ready: WorkspaceConditionBool::False.into(),
            first_user_activity: Some(timestamp(at(2))),
            headless_task_failed: "its task failed".to_owned(),
            stopped_by_request: WorkspaceConditionBool::True.into(),
            volume_snapshot: None,
            aborted: WorkspaceConditionBool::False.into(),
        }),
        message: "Failed: it failed".to_owned(),
        held: "Its pod is held by finalizer a/b.".to_owned(),
        repo: Some(contentservice::GitStatus {
            branch: "main".to_owned(),
            latest_commit: "c0ffee".to_owned(),
            uncommited_files: vec!["u".to_owned()],
            total_uncommited_files: 1,
            untracked_files: vec!["t".to_owned()],
            total_untracked_files: 2,
            unpushed_commits: vec!["p".to_owned()],
            total_unpushed_commits: 3,
        }),
        runtime: Some(wsman::WorkspaceRuntimeInfo {
            node_name: "node".to_owned(),
            pod_name: "pod".to_owned(),
            node_ip: "10.0.0.1".to_owned(),
        }),
        auth: Some(wsman::WorkspaceAuthentication {
            admission: wsman::AdmissionLevel::AdmitEveryone.into(),
            owner_token: "token".to_owned(),
        }),
        initializer_metrics: Some(wsman::InitializerMetrics {
            git: metric(1),
            file_download: metric(2),
            snapshot: metric(3),
            backup: metric(4),
            prebuild: metric(5),
            composite: metric(6),
        }),
        cluster: "eu".to_owned(),
        region: "europe".to_owned(),
        namespace: "workspaces".to_owned(),
        reachable: true,
        observed_at: None,
        draining: false,
        draining_until: None,
    };
    assert_eq!(status, expected);
}

#[test]
fn phases_are_those_that_clients_know() {
    use wsman::WorkspacePhase as Wire;
    let reported = [
        (Phase::Unknown, Wire::Unknown),
        (Phase::Pending, Wire::Pending),
        (Phase::Imagebuild, Wire::Pending),
        (Phase::Creating, Wire::Creating),
        (Phase::Initializing, Wire::Initializing),
        (Phase::Running, Wire::Running),
        (Phase::Stopping, Wire::Stopping),
        (Phase::Stopped, Wire::Stopped),
    ];
    for (phase, wire) in reported {
        assert_eq!(of_phase(phase), wire, "{phase:?}");
    }
}

#[test]
fn a_workspace_of_a_cluster_that_does_not_answer_keeps_its_phase_and_says_since_when() {
    let lost = Seen { reachable: false, observed_at: Some(at(60)), ..seen(view()) };
    let reported = status(&lost, true);
    assert_eq!(reported.phase(), wsman::WorkspacePhase::Stopping);
    assert_eq!((reported.reachable, reported.observed_at), (false, Some(timestamp(at(60)))));
    assert_eq!(reported.message, "cluster eu is unreachable, last seen 1970-01-01T00:01:00Z");
    let never = status(&Seen { observed_at: None, ..lost }, true);
    assert_eq!(never.message, "cluster eu is unreachable");
}

#[test]
fn only_workspaces_that_a_drain_stops_show_its_deadline() {
    let draining = Some(Notice { until: Some(at(90)) });
    let headless = status(&Seen { draining, ..seen(view()) }, true);
    assert_eq!((headless.draining, headless.draining_until), (true, None));
    let regular = status(&Seen { draining, ..seen(View { kind: Kind::Regular, ..view() }) }, true);
    assert_eq!((regular.draining, regular.draining_until), (true, Some(timestamp(at(90)))));
}

#[test]
fn the_encoded_status_is_the_status_wherever_the_workspace_is() {
    let there = seen(view());
    let unreachable = Seen { reachable: false, observed_at: Some(at(60)), ..there.clone() };
    let draining = Seen { draining: Some(Notice { until: Some(at(90)) }), ..there.clone() };
    // In this order: the first encodes what the others reuse.
    for seen in [there, unreachable, draining] {
        for with_token in [true, false] {
            let read = wsman::WorkspaceStatus::decode(&*encoded(&seen, with_token).encode_to_vec()).unwrap();
            assert_eq!(read, status(&seen, with_token));
            assert_eq!(read.auth.is_some_and(|auth| auth.owner_token.is_empty()), !with_token);
        }
    }
}

#[test]
fn what_cannot_be_written_is_said_after_the_message_in_both_forms() {
    let stuck =
        Seen { obstacle: Some("Cannot write.".into()), ..seen(View { message: "Pending".into(), ..view() }) };
    assert_eq!(status(&stuck, true).message, "Pending. Cannot write.");
    let read = wsman::WorkspaceStatus::decode(&*encoded(&stuck, true).encode_to_vec()).unwrap();
    assert_eq!(read, status(&stuck, true));
    let lost = Seen { reachable: false, ..stuck };
    assert_eq!(status(&lost, true).message, "cluster eu is unreachable");
}

#[test]
fn reports_about_content_say_how_it_went_and_when() {
    let content = content(&view());
    let report = |succeeded, seconds, message: &str| {
        let at = Some(timestamp(at(seconds)));
        Some(v1::ContentReport { succeeded, at, message: message.to_owned() })
    };
    assert_eq!(content.initialization, report(true, 4, ""));
    assert_eq!(content.backup, report(false, 5, "it stays there"));
    assert_eq!(content.progress, None);
    let nothing = super::content(&View { content: None, ..view() });
    assert_eq!(nothing, v1::DescribeContentResponse::default());
}
