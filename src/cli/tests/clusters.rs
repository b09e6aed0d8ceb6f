use std::collections::HashMap;
use std::fs::OpenOptions;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use serde_json::json;

use super::fake::Fake;
use super::{parse, run, spaceport};
use crate::flags::Environment;
use proto::spaceport::v1::check::Outcome;
use proto::spaceport::v1::cluster_status::Health;
use proto::spaceport::v1::compared_workspace::Standing;
use proto::spaceport::v1::drain::State;
use proto::spaceport::v1::handled_workspace::Outcome as Handled;
use proto::spaceport::v1::{
    Check, Cluster, ClusterSpec, ClusterStatus, ComparedWorkspace, DiffResponse, Drain, DrainCounts,
    DrainWorkspace, ForgetResponse, HandledWorkspace, StandingCount,
};

/// A complete kubeconfig.
const KUBECONFIG: &str = r#"{"contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}], "clusters": [{"name": "c",
    "cluster": {"server": "https://c"}}], "users": [{"name": "u", "user": {"token": "t0ken"}}]}"#;

fn cluster_file(folder: &tempfile::TempDir) -> String {
    file_of(folder, &["eu"])
}

fn file_of(folder: &tempfile::TempDir, names: &[&str]) -> String {
    let path = folder.path().join("eu.yaml");
    let document = |name: &&str| {
        format!(
            "name: {name}\nregion: europe\nkubeconfig: {{inline: '{}'}}\nnamespaces: [{{namespace: ws}}]\n",
            KUBECONFIG.replace('\n', "")
        )
    };
    std::fs::write(&path, names.iter().map(document).collect::<Vec<_>>().join("---\n")).unwrap();
    path.display().to_string()
}

fn token_of(kubeconfig: &[u8]) -> String {
    let read: serde_json::Value = serde_json::from_slice(kubeconfig).unwrap();
    read["users"][0]["user"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn register_sends_the_specification_and_the_kubeconfig() {
    let (server, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    let ran =
        spaceport(&server.serve().await, &format!("cluster register -f {}", cluster_file(&folder))).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("eu    europe"), "{}", ran.out);
    assert_eq!(ran.err, "registered eu\n");
    let request = server.0.lock().registered.remove(0);
    assert_eq!(request.spec.unwrap().namespaces[0].namespace, "ws");
    assert_eq!(token_of(&request.kubeconfig), "t0ken");
}

#[tokio::test]
async fn a_refusal_is_shown_with_its_details() {
    let (server, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    let metadata = HashMap::from([("cluster".to_owned(), "eu-old".to_owned())]);
    let mut details = ErrorDetails::with_error_info("ADDRESS_TAKEN", "spaceport.dev", metadata);
    details.add_bad_request_violation("kubeconfig", "names an API address that is registered");
    let refusal =
        Status::with_error_details(Code::AlreadyExists, "this API is registered as eu-old", details);
    server.0.lock().register_refusal = Some(refusal);
    let ran =
        spaceport(&server.serve().await, &format!("cluster register -f {}", cluster_file(&folder))).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    let expected = "\
spaceport: failed to register eu: ALREADY_EXISTS: this API is registered as eu-old
DETAIL         SUBJECT     DESCRIPTION
ADDRESS_TAKEN  cluster     eu-old
field          kubeconfig  names an API address that is registered
";
    assert_eq!(sorted(&ran.err), sorted(expected), "{}", ran.err);
}

#[tokio::test]
async fn of_several_clusters_each_is_reported_and_one_that_is_refused_keeps_no_other_away() {
    let (server, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    let line = format!("cluster register -f {}", file_of(&folder, &["eu", "us", "eu"]));
    server.0.lock().register_refusal = Some(Status::already_exists("eu is there with another weight"));
    let endpoint = server.serve().await;
    let ran = spaceport(&endpoint, &line).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.starts_with("spaceport: failed to register eu: ALREADY_EXISTS: eu is there"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("registered us\nregistered eu\n"), "{}", ran.err);
    assert!(ran.err.ends_with("spaceport: 1 of 3 clusters were not registered: eu\n"), "{}", ran.err);
    assert!(ran.out.contains("us    europe") && ran.out.contains("eu    europe"), "{}", ran.out);
    server.0.lock().unchanged = true;
    let ran = spaceport(&endpoint, &line).await;
    let reported = "eu is registered already, unchanged\nus is registered already, unchanged\neu is registered already, unchanged\n";
    assert_eq!((ran.code, ran.err.as_str()), (0, reported));
}

#[tokio::test]
async fn a_login_plugin_is_run_to_install_and_explained_elsewhere() {
    use std::os::unix::fs::PermissionsExt as _;
    let (server, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    let plugin = folder.path().join("plugin");
    let answer = r#"{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": {"token": "made"}}"#;
    std::fs::write(&plugin, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
    let exec = r#""exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "interactiveMode": "Never"}"#;
    let kubeconfig = folder.path().join("config");
    std::fs::write(&kubeconfig, KUBECONFIG.replace(r#""token": "t0ken""#, exec)).unwrap();
    let (endpoint, kubeconfig) = (server.serve().await, kubeconfig.display());
    let ran =
        spaceport(&endpoint, &format!("cluster install --kubeconfig {kubeconfig} --kube-context a")).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, "running the login plugin ./plugin\n"));
    assert_eq!(token_of(&server.0.lock().installed.remove(0).kubeconfig), "made");
    let register = format!("cluster register -f {} --kubeconfig {kubeconfig}", cluster_file(&folder));
    let ran = spaceport(&endpoint, &format!("{register} --install")).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(token_of(&server.0.lock().installed.remove(0).kubeconfig), "made");
    assert_eq!(server.0.lock().registered.remove(0).kubeconfig, b"made: here");
    for verb in [register, format!("cluster update eu --kubeconfig {kubeconfig}")] {
        let ran = spaceport(&endpoint, &verb).await;
        assert!(ran.code == 1 && ran.err.contains("--print-kubeconfig"), "{}", ran.err);
    }
    let wrong = format!("cluster install --kubeconfig {kubeconfig} --kube-context b");
    let ran = spaceport(&endpoint, &wrong).await;
    assert!(ran.code == 1 && ran.err.contains("has no context \"b\"; it has a"), "{}", ran.err);
    assert!(server.0.lock().installed.is_empty() && server.0.lock().registered.is_empty());
}

/// The server decides the order of details.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn a_wrong_file_never_reaches_the_server() {
    let (server, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    let path = folder.path().join("bad.yaml");
    std::fs::write(&path, "name: eu\nregoin: europe\n").unwrap();
    let ran = spaceport(&server.serve().await, &format!("cluster register -f {}", path.display())).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("regoin: is no known key") && ran.err.contains("region: is required"),
        "{}",
        ran.err
    );
    assert!(server.0.lock().registered.is_empty());
}

#[tokio::test]
async fn folders_and_endless_devices_are_rejected_and_a_pipe_is_read() {
    let (server, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    let endpoint = server.serve().await;
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("large"), vec![b'#'; 20 << 20]).unwrap();
    let of = |file: &str| {
        format!("name: eu\nregion: europe\nkubeconfig: {{file: {file}}}\nnamespaces: [{{namespace: ws}}]\n")
    };
    std::fs::write(path("endless.yaml"), of("/dev/zero")).unwrap();
    std::fs::write(path("folder.yaml"), of(".")).unwrap();
    for (file, expected) in [
        ("/dev/zero".into(), "/dev/zero is a device"),
        (folder.path().display().to_string(), "is a folder, not a file"),
        (
            path("large").display().to_string(),
            "is larger than 4 MiB, which is the most that a cluster file may have",
        ),
        (path("endless.yaml").display().to_string(), "kubeconfig: /dev/zero is a device"),
        (path("folder.yaml").display().to_string(), "is a folder, not a file"),
    ] {
        for verb in ["register", "doctor", "update eu"] {
            // `update` ignores the kubeconfig of a file.
            if verb == "update eu" && std::path::Path::new(&file).extension().is_some_and(|end| end == "yaml")
            {
                continue;
            }
            let ran = spaceport(&endpoint, &format!("cluster {verb} -f {file}")).await;
            assert!(ran.code == 1 && ran.err.contains(expected), "{verb} {file}: {}", ran.err);
        }
    }
    let kubeconfig = json!({
        "current-context": "c", "contexts": [{ "name": "c", "context": { "cluster": "k", "user": "u" } }],
        "clusters": [{ "name": "k", "cluster": { "server": "https://eu.example" } }],
        "users": [{ "name": "u", "user": { "token": "t" } }],
    });
    let cluster = json!({
        "name": "eu", "region": "europe", "kubeconfig": { "inline": kubeconfig.to_string() },
        "namespaces": [{ "namespace": "ws" }],
    })
    .to_string();
    let writer = crate::input::fifo(&path("pipe"), cluster.as_bytes().to_vec());
    let ran = spaceport(&endpoint, &format!("cluster register -f {}", path("pipe").display())).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    writer.join().unwrap().unwrap();
}

#[tokio::test]
async fn a_pipe_with_a_silent_writer_or_none_ends_at_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let pipe = path.display();
    let expected = format!("nothing came from {pipe} within 100ms: start what writes to it, name a file");
    let by_variable = Environment::default().with("SPACEPORT_CONFIG", pipe.to_string());
    for (line, environment) in [
        (format!("cluster register -f {pipe}"), Environment::default()),
        (format!("cluster update eu -f {pipe}"), Environment::default()),
        (format!("cluster doctor -f {pipe}"), Environment::default()),
        (format!("cluster update eu --kubeconfig {pipe}"), Environment::default()),
        (format!("cluster install --kubeconfig {pipe}"), Environment::default()),
        (format!("status --ca {pipe} --endpoint https://a.example"), Environment::default()),
        ("status".to_owned(), by_variable),
    ] {
        let ran = run(&format!("{line} --timeout 100ms"), &environment).await;
        assert!(ran.code == 1 && ran.err.contains(&expected), "{line}: {}", ran.err);
        // Opened for reading too, so that it does not wait for a reader.
        let silent_writer = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let ran = run(&format!("{line} --timeout 100ms"), &environment).await;
        assert!(ran.code == 1 && ran.err.contains(&expected), "{line}: {}", ran.err);
        drop(silent_writer);
    }
}

#[tokio::test]
async fn clusters_are_listed_and_shown_with_health_and_intent() {
    let server = Fake::default();
    let spec = ClusterSpec {
        name: "eu".to_owned(),
        region: "europe".to_owned(),
        cordoned: true,
        ..Default::default()
    };
    let status =
        ClusterStatus { health: Health::Lost.into(), reason: "no answer".to_owned(), ..Default::default() };
    server.0.lock().clusters.push(Cluster { spec: Some(spec), status: Some(status), version: 3 });
    let endpoint = server.serve().await;
    let ran = spaceport(&endpoint, "cluster list").await;
    assert!(ran.out.contains("eu    europe  LOST    cordoned"), "{}", ran.out);
    let ran = spaceport(&endpoint, "cluster show eu -o json").await;
    let view: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&view["status"]["health"], &view["version"]), (&"LOST".into(), &3.into()));
    let ran = spaceport(&endpoint, "cluster show us").await;
    assert_eq!((ran.code, ran.err.as_str()), (1, "spaceport: NOT_FOUND: cluster us is not registered\n"));
    let ran = spaceport(&endpoint, "cluster list --watch").await;
    assert!(ran.out.starts_with("PRESENT  eu  europe  LOST  cordoned  no answer"), "{}", ran.out);
    assert_eq!((ran.code, ran.err.as_str()), (1, "spaceport: the server ended the watch; run it again\n"));
}

/// A cluster with one workspace that matches its record, and one that is recorded in another place.
fn diff() -> DiffResponse {
    let row = |id: &str, standing: Standing| ComparedWorkspace {
        id: id.to_owned(),
        namespace: "ws".to_owned(),
        standing: standing.into(),
        owner: "jane".to_owned(),
        ..Default::default()
    };
    let count = |standing: Standing| StandingCount { standing: standing.into(), count: 1 };
    let stray = ComparedWorkspace { elsewhere: "us/ws".to_owned(), ..row("stray", Standing::Elsewhere) };
    DiffResponse {
        registered: true,
        counts: vec![count(Standing::Adopted), count(Standing::Elsewhere)],
        workspaces: vec![row("good", Standing::Adopted), stray],
        left_out: 0,
    }
}

#[tokio::test]
async fn a_cluster_is_compared_with_its_records_in_counts_and_lines() {
    let server = Fake::default();
    let endpoint = server.serve().await;
    let ran = spaceport(&endpoint, "cluster diff eu").await;
    assert!(
        ran.code == 1 && ran.err.contains("failed to compare eu with its records: NOT_FOUND"),
        "{}",
        ran.err
    );
    server.0.lock().diff = Some(diff());
    let ran = spaceport(&endpoint, "cluster diff eu").await;
    assert!(ran.out.starts_with("eu: 1 adopted, 1 elsewhere\nWORKSPACE  STANDING"), "{}", ran.out);
    assert!(ran.out.contains("stray") && ran.out.contains("recorded at us/ws"), "{}", ran.out);
    assert!(!ran.out.contains("good"), "{}", ran.out);
    let ran = spaceport(&endpoint, "cluster diff eu --all -o json").await;
    let view: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(view["workspaces"][0]["standing"], "ADOPTED");
    assert_eq!(view["workspaces"][1]["elsewhere"], "us/ws");
}

/// One workspace that can be adopted, and one of another manager that cannot.
fn strays() -> Vec<HandledWorkspace> {
    let of = |id: &str, outcome: Handled, reason: &str| HandledWorkspace {
        workspace: Some(ComparedWorkspace { id: id.to_owned(), ..Default::default() }),
        outcome: outcome.into(),
        reason: reason.to_owned(),
        takes_over: false,
        moves: false,
    };
    vec![of("stray", Handled::Planned, ""), of("theirs", Handled::Refused, "belongs to the manager other")]
}

#[tokio::test]
async fn adoption_shows_its_plan_and_carries_it_out_only_with_yes() {
    let server = Fake::default();
    let endpoint = server.serve().await;
    let ran = spaceport(&endpoint, "cluster adopt eu").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "nothing to adopt\n"));
    server.0.lock().strays = strays();
    let ran = spaceport(&endpoint, "cluster adopt eu --others").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, "nothing was changed; --yes would adopt 1 workspace\n"));
    assert!(ran.out.contains("WOULD ADOPT") && ran.out.contains("WOULD REFUSE"), "{}", ran.out);
    assert!(ran.out.contains("belongs to the manager other"), "{}", ran.out);
    let asked = std::mem::take(&mut server.0.lock().adopted);
    assert!(asked.iter().all(|one| one.dry_run) && asked[1].others, "{asked:?}");
    let ran = spaceport(&endpoint, "cluster adopt eu --yes -o json").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let view: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&view[0]["id"], &view[0]["outcome"]), (&"stray".into(), &"ADOPTED".into()));
    let asked = std::mem::take(&mut server.0.lock().adopted);
    assert_eq!((asked[0].dry_run, asked[1].dry_run), (true, false));
    assert_eq!(asked[1].workspaces, ["stray"]);
    // A named workspace that cannot be adopted is a failure.
    let ran = spaceport(&endpoint, "cluster adopt eu stray theirs --yes").await;
    assert!(ran.code == 1 && ran.err.ends_with("not adopted: theirs\n"), "{}", ran.err);
}

#[tokio::test]
async fn discarding_names_what_it_did_not_discard() {
    let endpoint = Fake::default().serve().await;
    let ran = spaceport(&endpoint, "cluster discard eu a b").await;
    assert!(ran.code == 1 && ran.err.ends_with("not discarded: a, b\n"), "{}", ran.err);
    assert!(ran.out.contains("REFUSED  has a pod"), "{}", ran.out);
    let ran = spaceport(&endpoint, "cluster discard eu a --force").await;
    assert!(ran.code == 0 && ran.out.contains("DISCARDED"), "{}", ran.err);
}

#[tokio::test]
async fn workspaces_are_given_up_only_with_yes_and_a_reason_and_until_none_is_left() {
    let server = Fake::default();
    let endpoint = server.serve().await;
    let row = |id: &str| ComparedWorkspace {
        id: id.to_owned(),
        meta_id: format!("meta-{id}"),
        standing: Standing::Left.into(),
        ..Default::default()
    };
    let answer = |given_up: u32, left: &[&str]| ForgetResponse {
        given_up,
        left: u32::try_from(left.len()).unwrap(),
        workspaces: left.iter().map(|id| row(id)).collect(),
        left_out: 0,
    };
    let script = |answers: Vec<ForgetResponse>| server.0.lock().forgets = answers.into();
    script(vec![answer(0, &["a", "b"])]);
    let ran = spaceport(&endpoint, "cluster forget eu").await;
    assert!(ran.out.starts_with("eu: 2 workspaces recorded under this name\nWORKSPACE"), "{}", ran.out);
    assert!(!ran.out.contains("meta-b"), "{}", ran.out);
    let hint = "nothing was changed; --yes with --reason would give them up\n";
    assert_eq!((ran.code, ran.err.as_str()), (0, hint));
    script(vec![answer(0, &["a", "b"])]);
    let ran = spaceport(&endpoint, "cluster forget eu -o wide").await;
    assert!(ran.out.contains("meta-b"), "{}", ran.out);
    let line = |flags: &str| format!("spaceport cluster forget eu --endpoint {endpoint} {flags}");
    let parsed = |flags: &str| parse(line(flags).split_whitespace()).is_ok();
    assert_eq!([parsed("--yes"), parsed("--yes --reason fire")], [false, true]);

    script(vec![answer(1, &["b"]), answer(1, &[])]);
    let ran = spaceport(&endpoint, "cluster forget eu --yes --reason fire").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "eu: 2 workspaces given up, 0 left\n"), "{}", ran.err);
    script(vec![answer(0, &["b"])]);
    let ran = spaceport(&endpoint, "cluster forget eu --yes --reason fire").await;
    let refused = "spaceport: 1 workspace still recorded under eu: run it again\n";
    assert_eq!((ran.code, ran.err.as_str()), (1, refused));
    let asked = std::mem::take(&mut server.0.lock().forgotten);
    let asked: Vec<_> = asked.iter().map(|one| (one.reason.as_str(), one.dry_run)).collect();
    assert_eq!(asked, [("", true), ("", true), ("fire", false), ("fire", false), ("fire", false)]);
}

#[tokio::test]
async fn intent_and_deregistration() {
    let server = Fake::default();
    let endpoint = server.serve().await;
    let ran = spaceport(&endpoint, "cluster cordon eu us -o yaml").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, "cordoned eu\ncordoned us\n"));
    assert!(ran.out.contains("cordoned: true"), "{}", ran.out);
    let ran = spaceport(&endpoint, "cluster uncordon eu").await;
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (1, "spaceport: failed to uncordon eu: NOT_FOUND: no such cluster\n")
    );
    let ran = spaceport(&endpoint, "cluster deregister eu").await;
    assert!(ran.err.contains("FAILED_PRECONDITION: 3 workspaces"), "{}", ran.err);
    assert_eq!(spaceport(&endpoint, "cluster deregister eu --force").await.code, 0);
}

#[tokio::test]
async fn maintenance_has_an_end_and_is_shown_as_intent() {
    let endpoint = Fake::default().serve().await;
    let until = "--until 2999-01-01T00:00:00Z";
    let ran = spaceport(&endpoint, &format!("cluster maintenance on eu {until}")).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, "eu is under maintenance until 2999-01-01T00:00:00Z\n"));
    assert!(ran.out.contains("  maintenance  "), "{}", ran.out);
    let ran = spaceport(&endpoint, "cluster maintenance on eu --for 2h --namespace b").await;
    assert!(ran.code == 0 && ran.out.contains("maintenance of b"), "{}", ran.out);
    let ran = spaceport(&endpoint, "cluster maintenance off eu").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, "maintenance of eu ended\n"));
    assert!(ran.out.contains("active"), "{}", ran.out);
    let ends = |flags: &str| {
        let line = format!("spaceport cluster maintenance on eu --endpoint {endpoint} {flags}");
        parse(line.split_whitespace()).is_ok()
    };
    let both = format!("{until} --for 2h");
    assert_eq!([ends(""), ends(until), ends("--for 2h"), ends(&both)], [false, true, true, false]);
}

#[tokio::test]
async fn an_update_names_what_it_changes_and_nothing_else() {
    let (server, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    let endpoint = server.serve().await;
    let flags = "--weight 7 --label a=b --remove-label c --constraint permission=p --version 3";
    let ran = spaceport(&endpoint, &format!("cluster update eu {flags}")).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, "updated eu\n"));
    let request = server.0.lock().updates.remove(0);
    assert_eq!(request.update_mask.unwrap().paths, ["weight", "labels.a", "labels.c"]);
    assert_eq!((request.version, request.add_constraints.len(), request.kubeconfig.len()), (3, 1, 0));
    let ran = spaceport(&endpoint, &format!("cluster update eu -f {}", cluster_file(&folder))).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let paths = server.0.lock().updates.remove(0).update_mask.unwrap().paths;
    assert!(paths.contains(&"namespaces".to_owned()) && !paths.contains(&"cordoned".to_owned()), "{paths:?}");
    for wrong in ["", "--version 0 --weight 1", "--constraint x", "--label =x", "--region Not_One"] {
        let line = format!("spaceport cluster update eu --endpoint {endpoint} {wrong}");
        let refused = match parse(line.split_whitespace()) {
            Err(_) => true,
            Ok(_) => spaceport(&endpoint, &format!("cluster update eu {wrong}")).await.code == 2,
        };
        assert!(refused, "{wrong}");
    }
    let ran = spaceport(&endpoint, &format!("cluster update us -f {}", cluster_file(&folder))).await;
    assert!(ran.code == 2 && ran.err.contains("is about cluster eu, not us"), "{}", ran.err);
    assert!(server.0.lock().updates.is_empty());
}

#[tokio::test]
async fn doctor_fails_where_a_check_did() {
    let server = Fake::default();
    let endpoint = server.serve().await;
    let check = |name: &str, outcome: Outcome| Check {
        name: name.to_owned(),
        outcome: outcome.into(),
        detail: "as seen".to_owned(),
        ..Check::default()
    };
    let ran = spaceport(&endpoint, "cluster doctor nope").await;
    let expected = "spaceport: failed to check cluster nope: NOT_FOUND: no such cluster\n";
    assert_eq!((ran.code, ran.err.as_str()), (1, expected));
    server.0.lock().checks = vec![check("login", Outcome::Ok), check("clock", Outcome::Warning)];
    let ran = spaceport(&endpoint, "cluster doctor eu").await;
    assert!(ran.code == 0 && ran.out.contains("clock  WARNING  as seen"), "{}", ran.out);
    let ran = spaceport(&endpoint, "cluster doctor eu -o wide").await;
    assert!(ran.out.starts_with("CHECK  OUTCOME  DETAIL   REMEDY\n"), "{}", ran.out);
    server.0.lock().checks.push(check("permissions", Outcome::Failed));
    let ran = spaceport(&endpoint, "cluster doctor eu").await;
    assert_eq!((ran.code, ran.err.as_str()), (1, "spaceport: 1 of 3 checks failed: permissions\n"));
    let ran = spaceport(&endpoint, "cluster doctor eu -o json").await;
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error["error"]["message"], "1 of 3 checks failed: permissions");
    assert!(ran.code == 1 && serde_json::from_str::<serde_json::Value>(&ran.out).is_ok(), "{}", ran.out);
}

#[tokio::test]
async fn install_makes_a_login_and_registers_with_it() {
    let (server, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    let endpoint = server.serve().await;
    let ran = spaceport(&endpoint, &format!("cluster register --install -f {}", cluster_file(&folder))).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(token_of(&server.0.lock().installed.remove(0).kubeconfig), "t0ken");
    assert_eq!(server.0.lock().registered.remove(0).kubeconfig, b"made: here");
    let admin = folder.path().join("admin");
    std::fs::write(&admin, KUBECONFIG).unwrap();
    let line = format!("cluster install --kubeconfig {} --namespace a:b", admin.display());
    let ran = spaceport(&endpoint, &line).await;
    assert!(ran.code == 0 && ran.out.contains("Namespace ws  CREATED"), "{}", ran.out);
    let ran = spaceport(&endpoint, &format!("{line} --dry-run")).await;
    assert!(ran.out.contains("Namespace ws  WOULD CREATE"), "{}", ran.out);
    assert_eq!((ran.code, ran.err.as_str()), (0, "nothing was changed\n"));
    // In JSON the outcomes of a plan keep their names.
    let ran = spaceport(&endpoint, &format!("{line} --dry-run -o json")).await;
    assert!(ran.out.contains("\"outcome\": \"CREATED\""), "{}", ran.out);
    let ran = spaceport(&endpoint, &format!("{line} --print-kubeconfig")).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "made: here\n"));
    let line = format!("spaceport {line}x:b --endpoint {endpoint} --namespace a:a");
    assert!(parse(line.split_whitespace()).is_err());
}

fn drain(state: State, left: u32) -> Drain {
    let counts = DrainCounts { total: 4, left, left_alone: left, ..Default::default() };
    Drain { cluster: "eu".to_owned(), state: state.into(), counts: Some(counts), ..Default::default() }
}

#[tokio::test]
async fn a_drain_is_planned_begun_waited_for_and_changed() {
    let server = Fake::default();
    let endpoint = server.serve().await;
    let ran = spaceport(&endpoint, "cluster drain eu").await;
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (1, "spaceport: failed to drain eu: FAILED_PRECONDITION: no capacity\n")
    );
    let workspace =
        DrainWorkspace { id: "ws".to_owned(), no_room: "us is full".to_owned(), ..Default::default() };
    server.0.lock().drain = Some(Drain { workspaces: vec![workspace], ..drain(State::Draining, 1) });
    let ran = spaceport(&endpoint, "cluster drain eu --dry-run --rate 6/min --idle 5m").await;
    assert!(ran.out.contains("state:       PLANNED") && ran.out.contains("none: us is full"), "{}", ran.out);
    assert!(ran.out.contains("6/min") && ran.out.contains("idle:        5m0s"), "{}", ran.out);
    server.0.lock().drain_states = vec![drain(State::Draining, 3), drain(State::Drained, 0)];
    let ran = spaceport(&endpoint, "cluster drain start eu --wait").await;
    let expected = "[######..................] 1/4  draining  3 left: 3 left alone\n\
        [########################] 4/4  drained\n";
    assert_eq!((ran.code, ran.err.as_str()), (0, expected));
    let ran = spaceport(&endpoint, "cluster drain accept eu ws-1 ws-2").await;
    assert!(ran.out.contains("Accept") && ran.out.contains("ws-2"), "{}", ran.out);
    for wrong in [
        "cluster drain",
        "cluster drain eu --rate 0",
        "cluster drain accept eu",
        "cluster drain eu --idle 0s",
    ] {
        let line = format!("spaceport {wrong} --endpoint {endpoint}");
        assert!(parse(line.split_whitespace()).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn status_shows_who_leads_what_is_left_and_what_is_wrong_on_one_page() {
    use proto::spaceport::v1::condition::State as Holds;
    use proto::spaceport::v1::{
        ClusterCapacity, ClusterOverview, Condition, DrainCounts, GetStatusResponse, Replica,
    };
    let condition = |kind: &str, state: Holds, reason: &str| Condition {
        r#type: kind.to_owned(),
        state: state.into(),
        reason: reason.to_owned(),
        message: "because".to_owned(),
        since: None,
    };
    let cluster = Cluster {
        spec: Some(ClusterSpec { name: "eu".into(), region: "europe".into(), ..ClusterSpec::default() }),
        status: Some(ClusterStatus {
            health: Health::Available.into(),
            drain: State::Draining.into(),
            conditions: vec![
                condition("Available", Holds::True, ""),
                condition("Writable", Holds::Unknown, "Standby"),
                condition("CanarySeen", Holds::False, "NotWritten"),
            ],
            ..ClusterStatus::default()
        }),
        version: 1,
    };
    let capacity = ClusterCapacity {
        known: true,
        nodes: 3,
        usable_nodes: 2,
        cpu_milli: 8000,
        cpu_milli_taken: 2000,
        rooms: [("small".to_owned(), 12)].into(),
        ..ClusterCapacity::default()
    };
    let drain = Drain {
        cluster: "eu".into(),
        state: State::Draining.into(),
        counts: Some(DrainCounts { total: 9, left: 4, ..DrainCounts::default() }),
        ..Drain::default()
    };
    let server = Fake::default();
    server.0.lock().status = GetStatusResponse {
        answered_by: "b".into(),
        leader: "a".into(),
        replicas: ["a", "b"].map(|name| Replica { name: name.into(), ..Replica::default() }).into(),
        clusters: vec![ClusterOverview {
            cluster: Some(cluster),
            capacity: Some(capacity),
            phases: [("RUNNING".to_owned(), 4)].into(),
            drain: Some(drain),
        }],
        phases: [("RUNNING".to_owned(), 4)].into(),
        left: [("old".to_owned(), 3)].into(),
        ..GetStatusResponse::default()
    };
    let ran = spaceport(&server.serve().await, "status").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    for part in [
        "a, b",
        "3 of old, which is not registered",
        "4: 4 running",
        "2/3",
        "25%",
        "12 small",
        "drain draining",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert!(ran.out.contains("CanarySeen") && ran.out.contains("NotWritten: because"), "{}", ran.out);
    assert!(!ran.out.contains("Writable"), "an unknown condition is no fault: {}", ran.out);
    assert!(ran.out.contains("DRAINING  4 of 9"), "{}", ran.out);
    let ran = spaceport(&server.serve().await, "status -o json").await;
    let page: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((page["leader"].as_str(), page["clusters"][0]["name"].as_str()), (Some("a"), Some("eu")));
}
