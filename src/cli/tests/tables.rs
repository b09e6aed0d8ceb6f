//! Every table of every verb at 80 columns, compared with `tables.txt` (`UPDATE_EXPECT=1` rewrites it), with names of
//! the maximum length, long reasons, and wide characters.

use std::fmt::Write;
use std::path::Path;

use jiff::Timestamp;
use unicode_width::UnicodeWidthStr;

use crate::table::{Layout, Page, WIDTH};
use crate::view::{
    BackupView, BackupsView, CheckView, ClusterView, ContentView, DecisionView, DiffView, DrainView,
    ForecastView, ForgottenView, HandledView, InstalledView, LeaderView, NewestBackup, OpeningView,
    SnapshotView, StartedView, StatusPage, WorkspaceView,
};
use proto::spaceport::v1::check::Outcome;
use proto::spaceport::v1::cluster_status::Health;
use proto::spaceport::v1::compared_workspace::Standing;
use proto::spaceport::v1::condition::State as Holds;
use proto::spaceport::v1::drain::State;
use proto::spaceport::v1::drain_workspace::Fate;
use proto::spaceport::v1::handled_workspace::Outcome as Handled;
use proto::spaceport::v1::installed_object::Outcome::{Changed, Created, Unchanged};
use proto::spaceport::v1::*;
use proto::wsman::{
    InitializerMetric, InitializerMetrics, PortSpec, StartWorkspaceRequest, StartWorkspaceResponse,
    WorkspaceConditions, WorkspaceMetadata, WorkspacePhase, WorkspaceRuntimeInfo, WorkspaceSpec,
    WorkspaceStatus,
};

const NOW: i64 = 1_800_000_000;
const UUID: &str = "5f0e9b9e-3a5c-4c43-9d0b-6f7e7a3f1c11";
const OWNER: &str = "9c8d7e6f-0a1b-4c2d-8e3f-4a5b6c7d8e9f";
/// A name of the maximum length.
const LONGEST: &str = "the-cluster-of-the-northern-datacentre-with-the-longest-name-ab";
const REFUSED: &str = "namespaces \"workspaces\" is forbidden: User \"system:serviceaccount:spaceport-system:spaceport\" \
                       cannot get resource \"namespaces\" in API group \"\" at the cluster scope";
const URL: &str =
    "https://8080-gitpodio-template-typescript-react-0123456789.ws-eu-northern.gitpod.example.com/";

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "messages hold options")]
fn ago(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: NOW - seconds, nanos: 123_456_789 })
}

fn condition(kind: &str, state: Holds, reason: &str, message: &str) -> Condition {
    Condition {
        r#type: kind.into(),
        state: state.into(),
        reason: reason.into(),
        message: message.into(),
        since: ago(3_700),
    }
}

fn cluster(name: &str, region: &str, health: Health) -> Cluster {
    let namespace = NamespaceSpec { namespace: "workspaces".into(), ..NamespaceSpec::default() };
    Cluster {
        spec: Some(ClusterSpec {
            name: name.into(),
            region: region.into(),
            weight: 50,
            max_weight: 100,
            labels: [("tier".to_owned(), "gold".to_owned())].into(),
            namespaces: vec![namespace],
            ..ClusterSpec::default()
        }),
        status: Some(ClusterStatus {
            health: health.into(),
            since: ago(90_000),
            last_seen: ago(2),
            server_version: "v1.36.2".into(),
            api_server: "https://k8s.example.com:6443".into(),
            workspaces: 1234,
            ..ClusterStatus::default()
        }),
        version: 4711,
    }
}

fn lost() -> Cluster {
    let mut lost = cluster("us-1", "north-america", Health::Lost);
    let status = lost.status.get_or_insert_default();
    status.reason = format!("no answer for 1m: {REFUSED}");
    status.maintenance = vec![NamespaceMaintenance { namespace: "workspaces".into(), until: ago(-7_200) }];
    status.drain = State::Draining.into();
    status.conditions = vec![
        condition("Available", Holds::False, "Lost", &format!("no answer for 1m: {REFUSED}")),
        condition("CanarySeen", Holds::Unknown, "Standby", "the first renewal is pending"),
    ];
    lost
}

/// Its health says nothing of what its conditions say.
fn refusing() -> Cluster {
    let mut refusing = cluster("eu-2", "europe", Health::Available);
    let message = "webhook \"policy.example.com\" rejects pods: image is not signed";
    refusing.status.get_or_insert_default().conditions = vec![
        condition("Available", Holds::True, "Answers", ""),
        condition("PodsAccepted", Holds::False, "Refused", message),
        condition("Synced", Holds::False, "Lagging", "is 40 s behind"),
    ];
    refusing
}

fn clusters() -> Vec<Cluster> {
    vec![
        cluster("eu-1", "europe", Health::Available),
        lost(),
        cluster(LONGEST, "アジア太平洋", Health::Connecting),
    ]
}

fn checks() -> Vec<CheckView> {
    let check = |name: &str, outcome: Outcome, detail: &str, remedy: &str| {
        let [name, detail, remedy] = [name, detail, remedy].map(str::to_owned);
        CheckView::from(Check { name, outcome: outcome.into(), detail, remedy })
    };
    let rights =
        "spaceport cluster install --kubeconfig ADMIN, or apply clusters/member/rbac.yaml there again";
    vec![
        check("login", Outcome::Ok, "system:serviceaccount:spaceport-system:spaceport", ""),
        check("permissions", Outcome::Failed, &format!("{REFUSED}; {REFUSED}"), rights),
        check("clock", Outcome::Warning, "1.5 s behind", "set the clock by NTP"),
        check("secret-references", Outcome::Skipped, &format!("secret {}", "s".repeat(63)), ""),
    ]
}

fn installed() -> Vec<InstalledView> {
    let object = |kind: &str, namespace: &str, name: &str, outcome: installed_object::Outcome| {
        let [kind, namespace, name] = [kind, namespace, name].map(str::to_owned);
        InstalledView::from(InstalledObject { kind, namespace, name, outcome: outcome.into() })
    };
    vec![
        object("CustomResourceDefinition", "", "workspaces.workspace.gitpod.io", Unchanged),
        object("ValidatingAdmissionPolicyBinding", "", "spaceport-fence-namespaced", Changed),
        object("Role", "workspace-secrets", "spaceport", Created),
        object("NetworkPolicy", "workspaces", "workspace-deny-ingress", Created),
        object("RoleBinding", &"n".repeat(63), "spaceport", Created),
    ]
}

fn compared(id: &str, standing: Standing) -> ComparedWorkspace {
    ComparedWorkspace {
        id: id.into(),
        namespace: "workspaces".into(),
        standing: standing.into(),
        meta_id: "gitpodio-template-0123456789".into(),
        owner: OWNER.into(),
        phase: "INITIALIZING".into(),
        at: ago(90_061),
        ..ComparedWorkspace::default()
    }
}

fn foreign() -> ComparedWorkspace {
    let manager = "ws-manager-mk2-of-the-first-installation".to_owned();
    ComparedWorkspace { manager, deleting: true, ..compared(UUID, Standing::OtherInstallation) }
}

fn diff() -> DiffView {
    let count = |standing: Standing, count| StandingCount { standing: standing.into(), count };
    let elsewhere = "us-1/workspaces".to_owned();
    DiffView::new(
        "eu-1".into(),
        DiffResponse {
            registered: true,
            counts: vec![count(Standing::Adopted, 1200), count(Standing::OtherInstallation, 1)],
            workspaces: vec![
                foreign(),
                ComparedWorkspace { elsewhere, ..compared("demo-1", Standing::Elsewhere) },
                compared(&"w".repeat(63), Standing::Unknown),
            ],
            left_out: 7,
        },
    )
}

fn handled(is_plan: bool) -> Vec<HandledView> {
    let of = |workspace, outcome: Handled, reason: &str, takes_over| {
        let (workspace, reason) = (Some(workspace), reason.to_owned());
        let outcome = outcome.into();
        HandledView::from(HandledWorkspace { workspace, outcome, reason, takes_over, moves: false })
    };
    let done = if is_plan { Handled::Planned } else { Handled::Adopted };
    let why = "its meta id belongs to workspace demo-7 on cluster us-1 by now, which is still live";
    vec![
        of(foreign(), done, "", true),
        of(compared("demo-1", Standing::Unknown), Handled::Refused, why, false),
    ]
}

fn drain(state: State) -> DrainView {
    let workspace = |id: &str, fate: Fate, room: &str, no_room: &str| DrainWorkspace {
        id: id.into(),
        owner: OWNER.into(),
        fate: fate.into(),
        due_at: ago(-900),
        room: room.into(),
        no_room: no_room.into(),
    };
    let full = "us-1 has no capacity for class g1-large: no node has 16 Gi of memory left; ap-1 is cordoned";
    let unsaved = |id: &str, accepted| UnsavedWorkspace {
        id: id.into(),
        reason: "the node agent answered 507 Insufficient Storage three times".into(),
        at: ago(600),
        accepted,
    };
    DrainView::from(Drain {
        cluster: "eu-1".into(),
        state: state.into(),
        reason: if state == State::Planned { String::new() } else { "storage refuses backups".into() },
        started_at: ago(600),
        deadline_at: ago(-7_200),
        estimated_end: ago(-3_600),
        rate_per_minute: 30,
        max_concurrent: 10,
        counts: Some(DrainCounts {
            total: 40,
            left: 31,
            left_alone: 20,
            finishing: 5,
            due: 3,
            no_room: 1,
            stopping: 2,
            ..DrainCounts::default()
        }),
        workspaces: vec![
            workspace(UUID, Fate::LeftAlone, "us-1", ""),
            workspace("demo-1", Fate::NoRoom, "", full),
            DrainWorkspace { due_at: None, ..workspace("demo-2", Fate::Stopping, "us-1", "") },
        ],
        unsaved: if state == State::Planned {
            vec![]
        } else {
            vec![unsaved(UUID, false), unsaved("b", true)]
        },
        ..Drain::default()
    })
}

fn status() -> StatusPage {
    let overview = |cluster: Cluster, used: u64, drain| ClusterOverview {
        cluster: Some(cluster),
        capacity: Some(ClusterCapacity {
            known: true,
            nodes: 120,
            usable_nodes: 118,
            cpu_milli: 1000,
            cpu_milli_taken: used,
            memory: 1000,
            memory_taken: used / 2,
            rooms: [("g1-large".to_owned(), 12), ("g1-standard".to_owned(), 340)].into(),
            ..ClusterCapacity::default()
        }),
        phases: [("RUNNING".to_owned(), 1230), ("STOPPING".to_owned(), 4)].into(),
        drain,
    };
    let drain = Drain {
        cluster: "us-1".into(),
        state: State::Draining.into(),
        counts: Some(DrainCounts { total: 40, left: 31, ..DrainCounts::default() }),
        estimated_end: ago(-3_600),
        reason: "paused by itself: storage refuses backups, 10 of them in the last minute".into(),
        ..Drain::default()
    };
    let replica = |name: &str| Replica { name: name.into(), ..Replica::default() };
    let [eu, us, ap] = clusters().try_into().unwrap();
    StatusPage::from(GetStatusResponse {
        answered_by: "spaceport-manager-0".into(),
        leader: "spaceport-manager-1".into(),
        leading_since: ago(90_000),
        replicas: (0..5).map(|at| replica(&format!("spaceport-manager-{at}"))).collect(),
        clusters: vec![overview(eu, 250, None), overview(us, 900, Some(drain)), overview(ap, 0, None)],
        phases: [("RUNNING".to_owned(), 3690), ("STOPPING".to_owned(), 12)].into(),
        strays: 2,
        left: [("old".to_owned(), 3)].into(),
    })
}

fn workspace(id: &str, phase: WorkspacePhase, cluster: &str) -> WorkspaceStatus {
    WorkspaceStatus {
        id: id.into(),
        metadata: Some(WorkspaceMetadata {
            meta_id: "gitpodio-template-0123456789".into(),
            owner: OWNER.into(),
            started_at: ago(90_000),
            ..WorkspaceMetadata::default()
        }),
        spec: Some(WorkspaceSpec {
            class: "g1-standard".into(),
            url: URL.into(),
            workspace_image: "registry.example.com/library/workspace-full:2026-01-02".into(),
            exposed_ports: vec![PortSpec { port: 8080, url: URL.into(), ..PortSpec::default() }],
            ..WorkspaceSpec::default()
        }),
        phase: phase.into(),
        message: format!("Waits for its pod: {REFUSED}"),
        cluster: cluster.into(),
        region: "north-america".into(),
        reachable: cluster != "us-1",
        observed_at: ago(182),
        conditions: Some(WorkspaceConditions {
            failed: "the image cannot be pulled".into(),
            first_user_activity: ago(60),
            ..WorkspaceConditions::default()
        }),
        runtime: Some(WorkspaceRuntimeInfo { pod_name: format!("ws-{UUID}"), ..Default::default() }),
        ..WorkspaceStatus::default()
    }
}

fn workspaces() -> Vec<WorkspaceView> {
    let running = |id: &str| workspace(id, WorkspacePhase::Running, "eu-1");
    let all = [
        running("demo-1"),
        running(UUID),
        workspace("demo-2", WorkspacePhase::Running, "us-1"),
        workspace(&"w".repeat(63), WorkspacePhase::Initializing, "ap-1"),
    ];
    all.into_iter().map(WorkspaceView::from).collect()
}

fn report(succeeded: bool, seconds: i64, message: &str) -> ContentReport {
    ContentReport { succeeded, at: ago(seconds), message: message.into() }
}

fn backup(kind: WorkspaceBackupKind, object: &str, size: u64) -> WorkspaceBackup {
    WorkspaceBackup {
        kind: kind.into(),
        generation: 3,
        sequence: 14,
        made_at: ago(182),
        size,
        format: "zst".into(),
        snapshot: format!("{OWNER}/workspaces/{UUID}/{object}@gitpod-prod-user-{OWNER}"),
        instance_id: "demo-1".into(),
        agent: "node-1".into(),
        ..WorkspaceBackup::default()
    }
}

fn backups() -> BackupsView {
    let damaged = WorkspaceBackup {
        problem: "its archive is not in the store".into(),
        made_at: ago(90_000),
        ..backup(WorkspaceBackupKind::Head, "archives/3-13.tar.zst", 1234)
    };
    let unreadable = WorkspaceBackup {
        kind: WorkspaceBackupKind::Head.into(),
        problem: "store s3:content, bucket b, object o: the head is not valid: it is no JSON".into(),
        ..WorkspaceBackup::default()
    };
    let newest = backup(WorkspaceBackupKind::Head, "archives/3-14.tar.zst", 5 << 30);
    let snapshot = backup(WorkspaceBackupKind::Snapshot, "snapshot-1800000000000000000.tar.zst", 1);
    let all = [WorkspaceBackup { newest: true, ..newest }, damaged, unreadable, snapshot];
    BackupsView {
        owner: OWNER.into(),
        meta_id: UUID.into(),
        backups: all.into_iter().map(BackupView::from).collect(),
    }
}

fn restored() -> WorkspaceView {
    let metric = |millis: i32, size| {
        let duration = Some(prost_types::Duration { seconds: 12, nanos: millis * 1_000_000 });
        Some(InitializerMetric { duration, size })
    };
    let metrics = InitializerMetrics {
        git: metric(345, 3 << 20),
        file_download: metric(0, 12_345),
        composite: metric(999, (3 << 20) + 12_345),
        ..InitializerMetrics::default()
    };
    let reports = DescribeContentResponse {
        initialization: Some(report(true, 3_700, "")),
        progress: Some(report(true, 5, "writing the archive, 1.2 GiB")),
        ..DescribeContentResponse::default()
    };
    let newest = BackupView::from(backup(WorkspaceBackupKind::Head, "archives/3-14.tar.zst", 5 << 30));
    let content = ContentView::new(Some(&metrics), reports, NewestBackup::Is(Box::new(newest)));
    WorkspaceView::from(workspace("demo-1", WorkspacePhase::Running, "eu-1")).with_content(content)
}

fn kept() -> WorkspaceView {
    let why = "store s3:content, bucket gitpod-content: there is no such bucket (fault of the configuration); the content \
               stays on node node-7.eu-north.example.com in /var/gitpod/workspaces/demo-1";
    let reports = DescribeContentResponse {
        initialization: Some(report(true, 3_700, "")),
        backup: Some(report(false, 61, why)),
        ..DescribeContentResponse::default()
    };
    let content = ContentView::new(None, reports, NewestBackup::NotKnown("the store does not answer".into()));
    WorkspaceView::from(workspace("demo-1", WorkspacePhase::Stopping, "eu-1")).with_content(content)
}

fn forecast(reason: &str, placed: u32) -> ForecastView {
    let forecast = |name: &str, placed: u32| ClusterForecast {
        cluster: name.into(),
        placed,
        refuses_from: if placed > 0 { placed + 1 } else { 1 },
        reason: reason.into(),
        ..ClusterForecast::default()
    };
    let clusters = vec![forecast("eu-1", placed), forecast("us-1", 0)];
    ForecastView::from(ForecastPlacementResponse { clusters, left_over: 3 })
}

#[test]
fn a_cluster_that_is_the_last_choice_is_named_with_the_reason() {
    let one = |name: &str, placed, last_choice: &str| ClusterForecast {
        cluster: name.into(),
        placed,
        last_choice: last_choice.into(),
        ..ClusterForecast::default()
    };
    let clusters = vec![one("eu-1", 0, "its rules rejected the last starts"), one("us-1", 1, "")];
    let view = ForecastView::from(ForecastPlacementResponse { clusters, left_over: 0 });
    let json = serde_json::to_value(&view).unwrap();
    assert_eq!(json["clusters"]["eu-1"]["lastChoice"], "its rules rejected the last starts");
    assert!(json["clusters"]["us-1"].get("lastChoice").is_none());
    let table = format!("{:?}", view.table());
    assert!(table.contains("last choice: its rules rejected the last starts"), "{table}");
}

fn decision() -> DecisionView {
    let score = PlacementScore { load: 123_456, headroom: 420, spread: 1234, ..PlacementScore::default() };
    let verdict = |name: &str, score, reason: &str| ClusterVerdict {
        cluster: name.into(),
        score,
        reason: reason.into(),
        ..ClusterVerdict::default()
    };
    let verdicts = vec![
        verdict("eu-1", Some(score), ""),
        verdict("us-1", Some(score), ""),
        verdict("ap-1", None, "is in region asia, which is not among those required"),
    ];
    DecisionView::from(PlacementDecision {
        at: ago(61),
        placed: "eu-1".into(),
        verdicts,
        left_out: 5,
        ..PlacementDecision::default()
    })
}

fn forgotten() -> ForgottenView {
    let mut view = ForgottenView::new("eu-1".into());
    let workspaces = vec![compared(UUID, Standing::Left), compared("demo-1", Standing::Left)];
    view.add(ForgetResponse { given_up: 0, left: 2, workspaces, left_out: 0 });
    view
}

fn leader() -> LeaderView {
    LeaderView::from(LeaderResponse {
        replica: "spaceport-manager-1".into(),
        address: "https://spaceport-manager-1.spaceport-manager.spaceport.svc.cluster.local:8080".into(),
        epoch: 7,
        since: ago(90_000),
        answered_by: "spaceport-manager-0".into(),
        installation: UUID.into(),
        incarnation: 1,
        ..LeaderResponse::default()
    })
}

/// Every page by its verb.
fn pages() -> Vec<(&'static str, Page)> {
    let now = now();
    let clusters: Vec<ClusterView> =
        clusters().into_iter().chain([refusing()]).map(ClusterView::from).collect();
    let started = StartedView::new(
        &StartWorkspaceRequest { id: UUID.into(), ..StartWorkspaceRequest::default() },
        StartWorkspaceResponse { cluster: "eu-1".into(), url: URL.into(), ..Default::default() },
        Some(WorkspacePhase::Running.into()),
    );
    let opened = OpeningView::from(IncarnationOpening {
        incarnation: 2,
        at: ago(61),
        by: "admin@example.com".into(),
        reason: "etcd restored from the backup of 02:00".into(),
    });
    let snapshot = SnapshotView { id: UUID.into(), url: format!("{URL}snapshot"), complete: false };
    vec![
        ("status", status().page(now)),
        ("cluster list", ClusterView::table(&clusters, now).into()),
        ("cluster show", clusters[1].details(now).into()),
        ("cluster doctor", CheckView::table(&checks()).into()),
        ("cluster install", InstalledView::table(&installed(), false).into()),
        ("cluster install --dry-run", InstalledView::table(&installed(), true).into()),
        ("cluster diff", diff().table(now).into()),
        ("cluster adopt", HandledView::table(&handled(true), true).into()),
        ("cluster adopt --yes", HandledView::table(&handled(false), false).into()),
        ("cluster drain --dry-run", drain(State::Planned).page(now)),
        ("cluster drain show", drain(State::Draining).page(now)),
        (
            "cluster explain",
            forecast("has no capacity for class g1-large: 16 Gi of memory are missing", 12).table().into(),
        ),
        ("cluster explain --cluster nope", forecast("is not the requested cluster nope", 0).table().into()),
        ("cluster forget", forgotten().table(now).into()),
        ("cluster leader", leader().details(now).into()),
        ("cluster incarnation open", opened.details(now).into()),
        ("workspace start", started.details().into()),
        ("workspace list", WorkspaceView::table(&workspaces(), now).into()),
        ("workspace show", workspaces().remove(2).details(now).into()),
        ("workspace show (content)", restored().details(now).into()),
        ("workspace show (a failed backup)", kept().details(now).into()),
        ("workspace backups", backups().table(now).into()),
        ("workspace explain", decision().page(now)),
        ("workspace snapshot", snapshot.table().into()),
    ]
}

/// Lines of verbs that follow changes.
fn lines(layout: Layout) -> Vec<(&'static str, String)> {
    let cluster = ClusterView::from(lost()).line("OBSERVED", layout);
    let workspaces = workspaces();
    let workspaces: Vec<String> = workspaces.iter().map(|one| one.line(now(), layout)).collect();
    vec![
        ("cluster list --watch", cluster + "\n"),
        ("cluster drain wait", drain(State::Draining).progress(now(), layout) + "\n"),
        ("workspace watch", workspaces.join("\n") + "\n"),
    ]
}

fn texts(layout: Layout) -> Vec<(&'static str, String)> {
    let pages = pages().into_iter().map(|(verb, page)| (verb, page.render(layout)));
    pages.chain(lines(layout)).collect()
}

#[test]
fn every_table_looks_as_it_should_at_80_columns() {
    let mut text = String::new();
    for (verb, table) in texts(Layout::Fit(WIDTH)) {
        writeln!(text, "$ spaceport {verb}\n{table}").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables.txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "UPDATE_EXPECT=1 rewrites {}", path.display());
}

#[test]
fn no_line_is_wider_than_the_terminal_but_a_word_that_cannot_be_broken() {
    for width in [40, 60, WIDTH, 132] {
        for (verb, text) in texts(Layout::Fit(width)) {
            for line in text.lines() {
                let is_word = line.split_whitespace().count() == 1;
                assert!(line.width() <= width || is_word, "{verb} at {width}: {line}");
            }
        }
    }
}

#[test]
fn wide_shows_a_row_a_line_and_nothing_less() {
    for ((verb, narrow), (_, wide)) in texts(Layout::Fit(WIDTH)).into_iter().zip(texts(Layout::Wide)) {
        let lost = |word: &&str| !wide.contains(word.trim_end_matches(':')) && !word.ends_with("00Z");
        let lost: Vec<&str> = narrow.split_whitespace().filter(lost).collect();
        // Labels below rows are titles of columns.
        let lost: Vec<&str> =
            lost.into_iter().filter(|word| !wide.contains(&word.to_uppercase().replace(':', ""))).collect();
        assert!(lost.is_empty(), "{verb} -o wide lacks {lost:?}\n{wide}");
        assert!(wide.lines().count() <= narrow.lines().count(), "{verb}");
    }
}
