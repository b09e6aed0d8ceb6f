//! An acknowledged start never fails for a reason that the request alone shows.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use proto::contentservice::{
    CompositeInitializer, FileDownloadInitializer, FromBackupInitializer, GitAuthMethod, GitConfig,
    GitInitializer, SnapshotInitializer, WorkspaceInitializer, file_download_initializer::FileInfo,
    workspace_initializer::Spec,
};
use proto::wsman::{
    ControlPortRequest, EnvironmentVariable, GetWorkspacesRequest, GitSpec, PortSpec, StartWorkspaceRequest,
    StopWorkspacePolicy, StopWorkspaceRequest, UpdateSshKeyRequest, WorkspacePhase,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::story::{Client, Story, follow, is, refused, request, run, start, stop, story, until, watch};
use e2e::chaos::rng::Rng;

/// Requests of one run; the seed is fixed, so that a failure can be reproduced.
const CASES: usize = 150;
const SEED: u64 = 16;

/// Texts that some field rejects, and some that every field accepts.
const NASTY: [&str; 38] = [
    "",
    " ",
    "a",
    "A",
    "a-b",
    "a_b.c",
    "-a",
    "a-",
    "É",
    "日本",
    "a b",
    "a\tb",
    "a\nb",
    "a\r\nb",
    "a\0b",
    "\u{1b}[31m",
    "\u{7f}",
    "A=B",
    "$(HOME)",
    "$$",
    "$(A)$$(B)$",
    "..",
    "../a",
    "/a",
    "/workspace/a",
    "a/../b",
    "/",
    ".",
    "https://a.example/b?c=~~d",
    "a.example:5000/b/c:1",
    "a@sha256:0",
    "UPPER/x",
    "a:b:c",
    "1h",
    "-1h",
    "1ns",
    "\"'`\\",
    "{{ .ID }}",
];

fn nasty(rng: &mut Rng) -> String {
    match rng.below(40) {
        0 => "x".repeat(64),
        1 => "x".repeat(5000),
        2 => "ü".repeat(200),
        _ => rng.pick(&NASTY).copied().unwrap_or_default().to_owned(),
    }
}

/// Puts such texts into one to three fields.
fn spoil(rng: &mut Rng, request: &mut StartWorkspaceRequest) -> Vec<String> {
    (0..=rng.below(3)).map(|_| spoil_one(rng, request)).collect()
}

fn spoil_one(rng: &mut Rng, request: &mut StartWorkspaceRequest) -> String {
    let (text, other) = (nasty(rng), nasty(rng));
    let (metadata, spec) = (request.metadata.get_or_insert_default(), request.spec.get_or_insert_default());
    let variable = || EnvironmentVariable { name: text.clone(), value: other.clone(), secret: None };
    let git = |git: GitInitializer| Some(WorkspaceInitializer { spec: Some(Spec::Git(git)) });
    let remote = "https://example.org/a.git".to_owned();
    let field = rng.below(26);
    match field {
        0 => metadata.owner.clone_from(&text),
        1 => drop(metadata.annotations.insert(text.clone(), other.clone())),
        2 => drop(metadata.annotations.insert("example.org/a".to_owned(), text.clone())),
        3 => metadata.team = Some(text.clone()),
        4 => metadata.project = Some(text.clone()),
        5 => spec.workspace_image.clone_from(&text),
        6 => spec.ide_image.get_or_insert_default().web_ref.clone_from(&text),
        7 => spec.ide_image.get_or_insert_default().supervisor_ref.clone_from(&text),
        8 => spec.ide_image_layers.push(text.clone()),
        9 => spec.workspace_location.clone_from(&text),
        10 => spec.git = Some(GitSpec { username: text.clone(), email: other.clone() }),
        11 => spec.envvars.extend([variable(), EnvironmentVariable { name: "A".into(), ..variable() }]),
        12 => spec.sys_envvars.extend([variable(), EnvironmentVariable { name: "A".into(), ..variable() }]),
        13 => spec.ssh_public_keys.push(text.clone()),
        14 => spec.closed_timeout.clone_from(&text),
        15 => spec.maximum_lifetime = if text == "1h" { text.clone() } else { format!("{text}x") },
        16 => spec
            .ports
            .push(PortSpec { port: u32::try_from(rng.below(70_000)).unwrap_or(1), ..Default::default() }),
        17 => spec.initializer = git(GitInitializer { remote_uri: text.clone(), ..Default::default() }),
        18 => {
            let checkout_location = text.clone();
            spec.initializer =
                git(GitInitializer { remote_uri: remote, checkout_location, ..Default::default() });
        }
        19 => {
            let custom_config = BTreeMap::from([(text.clone(), other.clone())]);
            let config = GitConfig { custom_config, auth_password: other.clone(), ..Default::default() };
            let (remote_uri, config) = (remote, Some(config));
            spec.initializer = git(GitInitializer { remote_uri, config, ..Default::default() });
        }
        20 => {
            let backup = FromBackupInitializer { checkout_location: text.clone(), ..Default::default() };
            let initializer = vec![WorkspaceInitializer { spec: Some(Spec::Backup(backup)) }];
            let composite = Spec::Composite(CompositeInitializer { initializer });
            spec.initializer = Some(WorkspaceInitializer { spec: Some(composite) });
        }
        21 => {
            let snapshot = SnapshotInitializer { snapshot: format!("{text}@bucket"), ..Default::default() };
            spec.initializer = Some(WorkspaceInitializer { spec: Some(Spec::Snapshot(snapshot)) });
        }
        22 => {
            let file = |file_path: &str| FileInfo {
                url: remote.clone(),
                file_path: file_path.to_owned(),
                ..Default::default()
            };
            let download = FileDownloadInitializer {
                files: vec![file(&text), file(&other)],
                target_location: "files".to_owned(),
            };
            spec.initializer = Some(WorkspaceInitializer { spec: Some(Spec::Download(download)) });
        }
        23 => {
            let at = |folder: &str| {
                let (remote_uri, checkout_location) = (remote.clone(), folder.to_owned());
                git(GitInitializer { remote_uri, checkout_location, ..Default::default() })
            };
            let initializer = [&text, &other].into_iter().filter_map(|folder| at(folder)).collect();
            let composite = Spec::Composite(CompositeInitializer { initializer });
            spec.initializer = Some(WorkspaceInitializer { spec: Some(composite) });
        }
        24 => {
            let (authentication, auth_user) = (GitAuthMethod::BasicAuthOts.into(), text.clone());
            let config =
                GitConfig { authentication, auth_user, auth_ots: other.clone(), ..Default::default() };
            let (remote_uri, config) = (remote, Some(config));
            spec.initializer = git(GitInitializer { remote_uri, config, ..Default::default() });
        }
        _ => spec.timeout = if text == "1h" { text.clone() } else { format!("x{text}") },
    }
    format!("{field}: {text:?} {other:?}")
}

#[test]
fn whatever_a_start_holds_it_is_rejected_by_field_or_runs_and_stops() -> Result<()> {
    story("nasty", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let mut rng = Rng::new(SEED, "nasty");
        let (mut accepted, mut rejected) = (BTreeMap::new(), 0);
        for case in 0..CASES {
            let mut wanted = request(&format!("n{case}"), &[]);
            let what = spoil(&mut rng, &mut wanted);
            match client.start_workspace(wanted).await {
                Ok(_) => drop(accepted.insert(format!("n{case}"), what)),
                Err(status) => {
                    ensure!(status.code() == Code::InvalidArgument, "{what:?}: {status:?}");
                    let violations = status.get_details_bad_request().context("no details")?.field_violations;
                    ensure!(violations.iter().all(|one| !one.field.is_empty()), "{what:?}: {violations:?}");
                    ensure!(!violations.is_empty(), "{what:?} names no field");
                    rejected += 1;
                }
            }
        }
        ensure!(accepted.len() > 20 && rejected > 20, "{} accepted, {rejected} rejected", accepted.len());
        until("every accepted start to run", async || {
            for (id, phase, message) in phases(&mut client).await? {
                let what = accepted.get(&id);
                ensure!(phase == WorkspacePhase::Running, "{id} is {phase:?}: {message} {what:?}");
            }
            Ok(())
        })
        .await?;
        ensure!(phases(&mut client).await?.len() == accepted.len(), "some are gone");
        for id in accepted.keys() {
            let policy = StopWorkspacePolicy::Abort.into();
            client.stop_workspace(StopWorkspaceRequest { id: id.clone(), policy }).await?;
        }
        until("every one to be gone", async || {
            let left = phases(&mut client).await?;
            ensure!(left.is_empty(), "{} are left, such as {:?}", left.len(), left.first());
            Ok(())
        })
        .await
    })
}

async fn phases(client: &mut Client) -> Result<Vec<(String, WorkspacePhase, String)>> {
    let all = client.get_workspaces(GetWorkspacesRequest::default()).await?.into_inner().status;
    Ok(all
        .into_iter()
        .map(|status| {
            let (phase, failed) = (status.phase(), status.conditions.unwrap_or_default().failed);
            (status.id, phase, format!("{} {failed}", status.message))
        })
        .collect())
}

/// A request with a given meta id.
fn under(id: &str, meta: &str) -> StartWorkspaceRequest {
    let mut wanted = request(id, &[]);
    meta.clone_into(&mut wanted.metadata.get_or_insert_default().meta_id);
    wanted
}

#[test]
fn a_workspace_and_the_port_of_another_never_have_one_url() -> Result<()> {
    story("one-url", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        start(&mut client, under("a", "foo")).await?;
        let taken = refused(client.start_workspace(under("b", "3000-foo")).await, Code::AlreadyExists)?;
        ensure!(taken.message().contains('a'), "{}", taken.message());
        // Not a port of it, and a port of no workspace.
        start(&mut client, under("c", "80-3000-foo")).await?;
        start(&mut client, under("d", "123-bar")).await?;
        refused(client.start_workspace(under("e", "bar")).await, Code::AlreadyExists)?;
        for (id, freed) in [("a", under("f", "3000-bar")), ("d", under("g", "bar"))] {
            let policy = StopWorkspacePolicy::Abort.into();
            client.stop_workspace(StopWorkspaceRequest { id: id.to_owned(), policy }).await?;
            if id == "d" {
                until("the host to be free", async || start(&mut client, freed.clone()).await.map(drop))
                    .await?;
            }
        }
        refused(client.start_workspace(under("f", "3000-bar")).await, Code::AlreadyExists)?;
        refused(client.start_workspace(under("x-daemon", "x")).await, Code::InvalidArgument)?;
        Ok(())
    })
}

#[test]
fn a_url_that_cannot_exist_is_rejected_at_the_start_and_when_a_port_opens() -> Result<()> {
    story("long-host", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let meta = "m".repeat(59);
        let port = |port| PortSpec { port, ..PortSpec::default() };
        let mut wanted = under("ws", &meta);
        wanted.spec.get_or_insert_default().ports = vec![port(80), port(3000)];
        let status = refused(client.start_workspace(wanted.clone()).await, Code::InvalidArgument)?;
        ensure!(status.message().contains("spec.ports[1].port"), "{}", status.message());
        wanted.spec.get_or_insert_default().ports.pop();
        start(&mut client, wanted).await?;
        let open = |number, expose| ControlPortRequest { id: "ws".into(), expose, spec: Some(port(number)) };
        let status = refused(client.control_port(open(3000, true)).await, Code::InvalidArgument)?;
        ensure!(status.message().contains("63 is the limit"), "{}", status.message());
        client.control_port(open(81, true)).await?;
        client.control_port(open(3000, false)).await?;
        let two = UpdateSshKeyRequest { id: "ws".into(), keys: vec!["a\nb".into()] };
        refused(client.update_ssh_key(two).await, Code::InvalidArgument)?;
        let nul = StopWorkspaceRequest { id: "a\0".into(), policy: 0 };
        refused(client.stop_workspace(nul).await, Code::InvalidArgument)?;
        Ok(())
    })
}

#[test]
fn a_dollar_reaches_the_container_as_written() -> Result<()> {
    story("dollars", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let mut wanted = request("ws", &[]);
        let (username, email) = ("$(GITPOD_HOST) $$".to_owned(), "a@b".to_owned());
        wanted.spec.get_or_insert_default().git = Some(GitSpec { username, email });
        run(&mut client, wanted).await?;
        let pods: Api<Pod> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let pod = pods.get("ws-ws").await?.spec.context("no spec")?;
        let env = pod.containers.into_iter().flat_map(|container| container.env.unwrap_or_default());
        let mut named = env.filter(|variable| variable.name == "GITPOD_GIT_USER_NAME");
        let value = named.next().and_then(|variable| variable.value);
        ensure!(value.as_deref() == Some("$$(GITPOD_HOST) $$$$"), "{value:?}");
        let mut stream = watch(&mut client, "ws").await?;
        stop(&mut client, "ws").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        Ok(())
    })
}

#[test]
fn a_region_that_no_cluster_has_and_a_variable_without_a_name_are_warnings() -> Result<()> {
    story("no-region", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let known = start(&mut client, request("known", &["europe"])).await?;
        ensure!(known.warnings.is_empty(), "{:?}", known.warnings);
        let mut nameless = request("nameless", &[]);
        nameless.spec.get_or_insert_default().envvars = vec![EnvironmentVariable::default()];
        let started = start(&mut client, nameless).await?;
        let said = "1 of spec.envvars has no name and is left out: spec.envvars[0]";
        ensure!(started.warnings == [said], "{:?}", started.warnings);
        let wanted = ["workspace", "start", "--image", "image:1", "--region", "europ", "--region", "europe"];
        let output = story.cli(&wanted).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        ensure!(output.stderr.contains("warning: no cluster is in region europ"), "{}", output.stderr);
        Ok(())
    })
}

#[test]
fn a_cluster_whose_workspaces_could_not_start_is_refused_with_the_limit() -> Result<()> {
    story("unfit", 1, &["eu-1"], async |story| {
        let register = async |story: &Story, change: &dyn Fn(&mut serde_json::Value)| {
            let path = story.installation.cluster_file("us-1", "europe", &story.kubeconfigs["us-1"])?;
            let mut file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
            change(&mut file["namespaces"][0]);
            std::fs::write(&path, file.to_string())?;
            story.cli(&["cluster", "register", "-f", &path.to_string_lossy()]).await
        };
        let long = "https://{{ .WorkspacePort }}-{{ .Prefix }}-aaaaaaaaaaaaaaaaaaaaa.example";
        for (key, value, limit) in [
            ("namespace", "x".repeat(39), "at most 38 letters"),
            ("portUrlTemplate", long.to_owned(), "63 is the limit"),
            ("registryFacadeHost", "https://reg.example.com".to_owned(), "must be a registry"),
            ("seccompProfile", "/etc/profile.json".to_owned(), "seccompProfile"),
        ] {
            let output = register(story, &|namespace| namespace[key] = value.clone().into()).await?;
            ensure!(output.code != 0 && output.stderr.contains(limit), "{key}: {}", output.stderr);
        }
        Ok(())
    })
}
