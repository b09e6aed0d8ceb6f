//! Bytes in resources: base64 that every reader decodes, and definitions of earlier versions that rejected changes.

use anyhow::{Context as _, Result, ensure};
use k8s::resources::{Initializer, Workspace};
use k8s_openapi::ByteString;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use proto::contentservice::{
    FileDownloadInitializer, GitInitializer, WorkspaceInitializer, file_download_initializer,
    workspace_initializer::Spec,
};
use proto::wsman::{
    ControlPortRequest, PortSpec, SetTimeoutRequest, StartWorkspaceRequest, UpdateSshKeyRequest,
    WorkspacePhase,
};
use serde_json::{Value, json};

use crate::outage::register_private;
use crate::story::{
    Client, Story, describe, follow, is, nothing_is_left, request, run, start, stop, story, until, watch,
};
use e2e::harness::{Cluster, ClusterOptions};

/// A resource as programs write it, without a controller that changes it.
fn by_hand(name: &str, initializer: &Value) -> Value {
    json!({
        "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace",
        "metadata": { "name": name, "finalizers": ["gitpod.io/finalizer"] },
        "spec": {
            "ownership": { "owner": "joe", "workspaceID": "meta" }, "type": "Regular", "class": "c",
            "image": { "workspace": { "ref": "image" }, "ide": { "web": "", "supervisor": "" } },
            "initializer": initializer, "workspaceLocation": "", "admission": { "level": "Owner" }, "ports": [],
        },
    })
}

/// Bytes whose base64 has every letter and every padding, and some random ones.
fn samples() -> Result<Vec<Vec<u8>>> {
    let mut samples: Vec<Vec<u8>> = vec![
        vec![],
        vec![0xff],
        vec![0xfb, 0xef],
        vec![0xff, 0xff, 0xff],
        b"?X-Sig=~~a".to_vec(),
        b"https://bitbucket.example.com/scm/~jane/repo.git".to_vec(),
        (0..=255).cycle().take(3 * 256).collect(),
        vec![0xfb; 500_000],
    ];
    let mut runner = TestRunner::deterministic();
    let any_bytes = vec(any::<u8>(), 0..200);
    for _ in 0..32 {
        let tree = any_bytes.new_tree(&mut runner).map_err(|reason| anyhow::anyhow!("{reason}"))?;
        samples.push(tree.current());
    }
    Ok(samples)
}

/// All writes to a workspace in its life, in order.
fn changes() -> [(bool, Value); 8] {
    let condition = |kind: &str, message: &str| {
        json!({ "type": kind, "status": "True", "reason": "Unknown", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z" })
    };
    let created = json!([condition("Deployed", "")]);
    let stopped = json!([condition("Deployed", ""), condition("StoppedByRequest", "30s")]);
    [
        (true, json!({ "status": { "podStarts": 1, "phase": "Pending", "conditions": created } })),
        (true, json!({ "status": { "lastActivity": "2026-01-01T00:00:00.000001Z" } })),
        (false, json!({ "spec": { "timeout": { "time": "1h30m0.5s", "closed": "0" } } })),
        (
            false,
            json!({ "spec": { "ports": [{ "port": 8080, "protocol": "Https", "visibility": "Everyone" }] } }),
        ),
        (false, json!({ "spec": { "sshPublicKeys": ["ssh-ed25519 AAAA jane"] } })),
        (false, json!({ "spec": { "admission": { "level": "Everyone" } } })),
        (false, json!({ "metadata": { "annotations": { "a": "b" } } })),
        (true, json!({ "status": { "conditions": stopped } })),
    ]
}

async fn live_and_end(api: &Api<Workspace>, name: &str, bytes: &[u8]) -> Result<()> {
    let initializer = json!(Initializer(ByteString(bytes.to_vec())));
    let object: Workspace = serde_json::from_value(by_hand(name, &initializer))?;
    let params = PatchParams::default();
    let made = api.create(&PostParams::default(), &object).await.context("creation")?;
    ensure!(made.spec.initializer.0.0 == bytes, "other bytes are stored");
    for (of_status, change) in changes() {
        let patch = Patch::Merge(&change);
        let changed = if of_status {
            api.patch_status(name, &params, &patch).await
        } else {
            api.patch(name, &params, &patch).await
        };
        changed.with_context(|| change.to_string())?;
    }
    api.delete(name, &DeleteParams::default()).await.context("deletion")?;
    let over = json!({ "status": { "phase": "Stopped", "podDeletionTime": "2026-01-01T00:00:00Z" } });
    let ended = api.patch_status(name, &params, &Patch::Merge(&over)).await.context("the end")?;
    ensure!(ended.spec.initializer.0.0 == bytes, "the bytes changed");
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    api.patch(name, &params, &free).await.context("the finalizer")?;
    ensure!(api.get_opt(name).await?.is_none(), "it is still there");
    Ok(())
}

#[test]
fn any_initializer_lives_through_every_change_and_the_end_of_its_workspace() -> Result<()> {
    story("any-bytes", 0, &[], async |story| {
        let api = story.resources("eu-1")?;
        let samples = samples()?;
        for (at, some) in samples.chunks(8).enumerate() {
            let lives = some.iter().enumerate().map(async |(n, bytes)| {
                let reported = || {
                    format!("an initializer of {} bytes: {:?}", bytes.len(), &bytes[..bytes.len().min(40)])
                };
                live_and_end(&api, &format!("ws-{at}-{n}"), bytes).await.with_context(reported)
            });
            futures::future::try_join_all(lives).await?;
        }
        Ok(())
    })
}

#[test]
fn resources_that_no_reader_could_decode_are_rejected_by_the_apiserver() -> Result<()> {
    story("bad-base64", 0, &[], async |story| {
        let client = story.cluster("eu-1")?.client();
        let path = format!("/apis/workspace.gitpod.io/v1/namespaces/{}/workspaces", story.namespace);
        let create = async |initializer: &Value| {
            let body = serde_json::to_vec(&by_hand("ws", initializer))?;
            let request =
                http::Request::post(format!("{path}?dryRun=All")).header("content-type", "application/json");
            anyhow::Ok(client.request_text(request.body(body)?).await)
        };
        for good in ["", "CgA=", "AA==", "+/+/", "AAAA"] {
            create(&json!(good)).await?.with_context(|| good.to_owned())?;
        }
        // Without padding, of the URL alphabet, with non-canonical trailing bits, and no base64 at all.
        let longest = "A".repeat(1024 * 1024 + 4);
        for bad in [
            "A", "AA", "AAA", "AA=", "A===", "====", "AAAA=", "-_-_", "AB==", "AAB=", "AA A", "AAAA\n", "é",
            &longest,
        ] {
            match create(&json!(bad)).await? {
                Err(kube::Error::Api(status)) if status.code == 422 => {}
                other => anyhow::bail!("{:?} gets {:?}", &bad[..bad.len().min(9)], other.err()),
            }
        }
        Ok(())
    })
}

fn with_initializer(mut request: StartWorkspaceRequest, of: Spec) -> StartWorkspaceRequest {
    if let Some(spec) = &mut request.spec {
        spec.initializer = Some(WorkspaceInitializer { spec: Some(of) });
    }
    request
}

fn from_git(id: &str, regions: &[&str]) -> StartWorkspaceRequest {
    let remote_uri = "https://bitbucket.example.com/scm/~jane/~~~/repo.git?>>>".to_owned();
    with_initializer(
        request(id, regions),
        Spec::Git(GitInitializer { remote_uri, ..GitInitializer::default() }),
    )
}

fn from_download(id: &str) -> StartWorkspaceRequest {
    let files =
        ["?X-Sig=~~a", "?X-Sig=~~ab", "?X-Sig=~~abc"].map(|query| file_download_initializer::FileInfo {
            url: format!("https://bucket.example.com/file{query}"),
            file_path: format!("file{}", query.len()),
            digest: format!("sha256:{}", "0".repeat(64)),
        });
    let download = FileDownloadInitializer { files: files.to_vec(), target_location: String::new() };
    with_initializer(request(id, &[]), Spec::Download(download))
}

async fn set_timeout(client: &mut Client, id: &str) -> Result<(), tonic::Status> {
    let request = SetTimeoutRequest { id: id.to_owned(), duration: "90m".to_owned(), r#type: 0 };
    client.set_timeout(request).await.map(drop)
}

#[test]
fn a_workspace_of_a_url_with_tildes_is_changed_and_stopped() -> Result<()> {
    story("tildes", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        for (id, request) in [("git", from_git("git", &[])), ("download", from_download("download"))] {
            run(&mut client, request).await?;
            let stored = serde_json::to_value(story.resources("eu-1")?.get(id).await?.spec.initializer)?;
            let has = |letter| stored.as_str().is_some_and(|text| text.contains(letter));
            ensure!(has('+') || has('/'), "{stored} has the same base64 in both alphabets");
            set_timeout(&mut client, id).await?;
            let spec = Some(PortSpec { port: 8080, ..PortSpec::default() });
            client.control_port(ControlPortRequest { id: id.to_owned(), expose: true, spec }).await?;
            let keys = vec!["ssh-ed25519 AAAA jane".to_owned()];
            client.update_ssh_key(UpdateSshKeyRequest { id: id.to_owned(), keys }).await?;
            let mut stream = watch(&mut client, id).await?;
            stop(&mut client, id).await?;
            follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        }
        nothing_is_left(story).await
    })
}

/// Outcome of the check `definitions`, with detail and remedy.
async fn definitions(story: &Story, cluster: &str) -> Result<(String, String)> {
    let output = story.cli(&["cluster", "doctor", "-o", "json", cluster]).await?;
    let checks: Vec<Value> = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
    let check = checks.iter().find(|check| check["name"] == "definitions").context("no such check")?;
    Ok((check["outcome"].as_str().unwrap_or_default().to_owned(), check.to_string()))
}

#[test]
fn a_definition_of_an_earlier_version_is_told_by_doctor_and_install_frees_the_workspaces_that_were_stuck()
-> Result<()> {
    story("old-definition", 1, &[], async |story| {
        let folder = story.installation.dir().join("solo-5");
        let solo = Cluster::boot(story.fleet.assets(), &folder, ClusterOptions::named("solo-5")).await?;
        let _agent = register_private(story, &solo, "solo").await?;
        let (outcome, check) = definitions(story, "solo-5").await?;
        ensure!(outcome == "OK", "{check}");
        let earlier = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/workspaces-with-format-byte.yaml");
        solo.apply_file(std::path::Path::new(earlier)).await?;
        let (outcome, check) = definitions(story, "solo-5").await?;
        ensure!(outcome == "FAILED" && check.contains("spec.initializer as standard base64"), "{check}");
        ensure!(check.contains("spaceport cluster install"), "{check}");

        let mut client = story.client().await?;
        let workspaces: Api<Workspace> = Api::namespaced(solo.client(), &story.namespace);
        for id in ["waits", "stops", "goes"] {
            start(&mut client, from_git(id, &["solo"])).await?;
        }
        until("changes to be refused", async || {
            let refused = set_timeout(&mut client, "waits").await;
            ensure!(refused.is_err(), "it can be changed");
            Ok(())
        })
        .await?;
        // The apiserver accepts a deletion, but then no removal of a finalizer.
        workspaces.delete("goes", &DeleteParams::default()).await?;
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        let freed = workspaces.patch("goes", &PatchParams::default(), &free).await;
        ensure!(freed.is_err(), "its finalizer can be removed");
        ensure!(stop(&mut client, "stops").await.is_err(), "it can be stopped");
        let stuck = describe(&mut client, "waits").await?.context("it is not known")?;
        ensure!(stuck.phase() != WorkspacePhase::Running, "{stuck:?}");

        let kubeconfig = solo.kubeconfig().to_string_lossy().into_owned();
        let pair = format!("{}:{}", story.namespace, story.secrets_namespace);
        let install =
            ["cluster", "install", "--kubeconfig", &kubeconfig, "--namespace", &pair, "--force-conflicts"];
        let output = story.cli(&install).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let (outcome, check) = definitions(story, "solo-5").await?;
        ensure!(outcome == "OK", "{check}");

        // Nobody changes them: the controller reconciles them again by itself.
        let mut stream = watch(&mut client, "waits").await?;
        follow(&mut stream, is(WorkspacePhase::Running)).await?;
        set_timeout(&mut client, "waits").await?;
        for id in ["waits", "stops"] {
            stop(&mut client, id).await?;
        }
        until("everything to be gone", async || {
            let left = workspaces.list(&ListParams::default()).await?.items;
            ensure!(left.is_empty(), "{} are left", left.len());
            Ok(())
        })
        .await
    })
}
