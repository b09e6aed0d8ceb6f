//! Objects that are too large are rejected before anything is created, and accepted ones can be changed, stopped and
//! deleted.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use domain::secret::Secret;
use http::Method;
use k8s::convert::budget;
use k8s::resources::Workspace;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use member::apply::{Purpose, Writer};
use proto::contentservice::{
    CompositeInitializer, GitConfig, GitInitializer, WorkspaceInitializer, workspace_initializer,
};
use proto::wsman::{
    ControlPortRequest, EnvironmentVariable, PortSpec, SetTimeoutRequest, StartWorkspaceRequest,
    StartWorkspaceSpec, UpdateSshKeyRequest, WorkspacePhase,
};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::bulkheads::behind_proxy;
use crate::story::{
    Client, Story, follow, is, nothing_is_left, refused, request, run, smallest_spec, start, stop, story,
    until, watch,
};
use e2e::harness::{Answer, Rule};

const MIB: usize = 1024 * 1024;

fn text(length: usize) -> String {
    "x".repeat(length)
}

fn with(id: &str, change: impl FnOnce(&mut StartWorkspaceSpec)) -> StartWorkspaceRequest {
    let mut request = request(id, &[]);
    change(request.spec.get_or_insert_default());
    request
}

fn variables(count: usize, length: usize) -> Vec<EnvironmentVariable> {
    let variable = |at| EnvironmentVariable { name: format!("A{at}"), value: text(length), secret: None };
    (0..count).map(variable).collect()
}

fn from_git(change: impl FnOnce(&mut GitInitializer)) -> WorkspaceInitializer {
    let remote_uri = "https://example.org/a.git".to_owned();
    let mut git = GitInitializer { remote_uri, ..GitInitializer::default() };
    change(&mut git);
    WorkspaceInitializer { spec: Some(workspace_initializer::Spec::Git(git)) }
}

/// Contents of this many repositories, each with a long branch.
fn of_many(count: usize) -> WorkspaceInitializer {
    let one = |at| {
        from_git(|git| (git.clone_taget, git.checkout_location) = (text(8000), format!("repository-{at}")))
    };
    let composite = CompositeInitializer { initializer: (0..count).map(one).collect() };
    WorkspaceInitializer { spec: Some(workspace_initializer::Spec::Composite(composite)) }
}

/// Field and rule of a rejection.
fn named(status: &Status) -> Result<(String, String)> {
    let details = status.get_details_bad_request().with_context(|| status.message().to_owned())?;
    let violation = details.field_violations.into_iter().next().context("no field")?;
    Ok((violation.field, violation.description))
}

#[test]
fn a_start_whose_objects_are_too_large_is_refused_by_the_field_and_makes_nothing() -> Result<()> {
    story("too-large", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let mut annotated = request("ws", &[]);
        let annotations = &mut annotated.metadata.get_or_insert_default().annotations;
        annotations.insert("example.org/a".to_owned(), text(255 * 1024));
        let password = |git: &mut GitInitializer| {
            git.config = Some(GitConfig { auth_password: text(MIB + 1), ..GitConfig::default() });
        };
        let cases = [
            // Seen in production: accepted, and then never changeable again.
            ("spec.sys_envvars", with("ws", |spec| spec.sys_envvars = variables(13, 120_000))),
            ("spec.envvars", with("ws", |spec| spec.envvars = variables(1, 128 * 1024))),
            ("spec.envvars", with("ws", |spec| spec.envvars = variables(10, 120_000))),
            ("spec.ssh_public_keys", with("ws", |spec| spec.ssh_public_keys = vec![text(MIB)])),
            ("spec.initializer", with("ws", |spec| spec.initializer = Some(of_many(100)))),
            ("spec.initializer", with("ws", |spec| spec.initializer = Some(from_git(password)))),
            ("metadata.annotations", annotated),
        ];
        for (field, request) in cases {
            let status = refused(client.start_workspace(request).await, Code::InvalidArgument)?;
            let (named, rule) = named(&status)?;
            ensure!(named.starts_with(field), "{named} instead of {field}: {rule}");
        }
        ensure!(
            story.resources("eu-1")?.list(&ListParams::default()).await?.items.is_empty(),
            "one was made"
        );
        nothing_is_left(story).await?;
        run(&mut client, request("ws", &[])).await.map(drop)
    })
}

/// A start of exactly the budget: annotations, base64, and characters that an apiserver encodes as six.
async fn at_the_edge(client: &mut Client, id: &str) -> Result<StartWorkspaceRequest> {
    let mut wanted = request(id, &[]);
    let annotations = &mut wanted.metadata.get_or_insert_default().annotations;
    annotations.extend((0..100).map(|at| (format!("example.org/a-{at}"), text(1800))));
    let spec = wanted.spec.get_or_insert_default();
    spec.initializer = Some(of_many(25));
    spec.ports = (1..=50).map(|port| PortSpec { port, ..PortSpec::default() }).collect();
    spec.ssh_public_keys = vec!["<&>".repeat(10_000), text(MIB)];
    let status = refused(client.start_workspace(wanted.clone()).await, Code::InvalidArgument)?;
    let (field, rule) = named(&status)?;
    ensure!(field == "spec.ssh_public_keys", "{field}: {rule}");
    let size: usize = rule
        .split_once("would have ")
        .and_then(|(_, rest)| rest.split([',', ' ']).next())
        .and_then(|size| size.parse().ok())
        .with_context(|| rule.clone())?;
    let fits = MIB - (size - budget::STARTED);
    let set = |wanted: &mut StartWorkspaceRequest, length| {
        if let Some(key) = wanted.spec.as_mut().and_then(|spec| spec.ssh_public_keys.last_mut()) {
            *key = text(length);
        }
    };
    // Times and nonces differ by some bytes between starts.
    set(&mut wanted, fits + 64);
    refused(client.start_workspace(wanted.clone()).await, Code::InvalidArgument)?;
    set(&mut wanted, fits - 64);
    Ok(wanted)
}

async fn stored(story: &Story, id: &str) -> Result<usize> {
    let path = format!("/apis/workspace.gitpod.io/v1/namespaces/{}/workspaces/{id}", story.namespace);
    let request = http::Request::get(path).body(Vec::new())?;
    Ok(story.cluster("eu-1")?.client().request_text(request).await?.len())
}

#[test]
fn a_workspace_at_the_edge_of_the_budget_runs_and_can_be_changed_stopped_and_deleted() -> Result<()> {
    story("edge", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let wanted = at_the_edge(&mut client, "ws").await?;
        run(&mut client, wanted).await?;
        let size = stored(story, "ws").await?;
        ensure!(size < budget::STARTED + 32 * 1024, "{size} bytes are stored");

        // Ports and keys up to their own limit, which leaves space for a timeout and a stop.
        let keys = |length| UpdateSshKeyRequest { id: "ws".into(), keys: vec![text(length)] };
        let port = |port| {
            let spec = Some(PortSpec { port, ..PortSpec::default() });
            ControlPortRequest { id: "ws".into(), expose: true, spec }
        };
        client.control_port(port(8080)).await?;
        let status = refused(client.update_ssh_key(keys(3 * MIB / 2)).await, Code::InvalidArgument)?;
        ensure!(named(&status)?.0 == "keys", "{}", status.message());
        let (mut fits, mut too_many) = (1, MIB);
        while too_many - fits > 100 {
            let length = usize::midpoint(fits, too_many);
            match client.update_ssh_key(keys(length)).await {
                Ok(_) => fits = length,
                Err(status) if status.code() == Code::InvalidArgument => too_many = length,
                Err(status) => return Err(status.into()),
            }
        }
        let status = refused(client.control_port(port(8081)).await, Code::InvalidArgument)?;
        ensure!(named(&status)?.0 == "spec.port", "{}", status.message());
        let timeout = SetTimeoutRequest { id: "ws".into(), duration: "90m".into(), r#type: 0 };
        client.set_timeout(timeout).await?;
        let size = stored(story, "ws").await?;
        ensure!(size < budget::RESOURCE + 64 * 1024, "{size} bytes are stored");
        client.update_ssh_key(keys(1)).await?;

        let mut stream = watch(&mut client, "ws").await?;
        stop(&mut client, "ws").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        nothing_is_left(story).await?;

        // Created by hand, at the limit that ports and keys may reach.
        let wanted = at_the_edge(&mut client, "by-hand").await?;
        run(&mut client, wanted).await?;
        story.resources("eu-1")?.delete("by-hand", &DeleteParams::default()).await?;
        nothing_is_left(story).await
    })
}

#[test]
fn a_start_with_as_many_variables_as_are_taken_gets_its_pod() -> Result<()> {
    story("many-variables", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let mut count = 7000;
        until("a start to be taken", async || {
            let many = with("ws", |spec| spec.envvars = variables(count, 1));
            if let Err(status) = client.start_workspace(many).await {
                // On a busy machine the leader may lose its term meanwhile.
                count -= if status.code() == Code::InvalidArgument { 500 } else { 0 };
                return Err(status.into());
            }
            Ok(())
        })
        .await?;
        let mut stream = watch(&mut client, "ws").await?;
        follow(&mut stream, is(WorkspacePhase::Running)).await?;
        let pods = kube::Api::<Pod>::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let pod = pods.get("ws-ws").await?;
        let env = pod.spec.and_then(|spec| spec.containers.into_iter().next()).and_then(|one| one.env);
        ensure!(env.is_some_and(|env| env.len() > count), "{count} variables are missing");
        stop(&mut client, "ws").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await.map(drop)
    })
}

fn writer(story: &Story) -> Result<Writer> {
    Ok(Writer::new(
        "eu-1".parse()?,
        story.namespace.parse()?,
        story.cluster("eu-1")?.client(),
        Duration::from_secs(20),
        "maintenance".to_owned(),
        Arc::new(|| true),
    ))
}

#[test]
fn every_too_large_of_an_apiserver_and_its_etcd_is_a_definite_refusal() -> Result<()> {
    story("forms", 0, &[], async |story| {
        let writer = writer(story)?;
        let of = |keys: usize, annotations: usize| -> Result<Workspace> {
            let mut spec = smallest_spec("meta");
            spec["sshPublicKeys"] = json!([text(keys)]);
            Ok(serde_json::from_value(json!({
                "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace",
                "metadata": { "name": "ws", "annotations": { "a": text(annotations) } },
                "spec": spec,
            }))?)
        };
        let too_large = |what: &str, error: Option<member::Error>| {
            let error = error.with_context(|| format!("{what} is stored"))?;
            ensure!(matches!(error, member::Error::TooLarge { .. }), "{what}: {error}");
            ensure!(error.is_definite_refusal(), "{what}: {error}");
            Ok(())
        };
        let cases = [
            ("above etcd's limit", of(3 * MIB / 2, 0)?),
            ("above that of etcd's client", of(5 * MIB / 2, 0)?),
            ("above the apiserver's", of(7 * MIB / 2, 0)?),
            ("with too long annotations", of(0, 256 * 1024)?),
        ];
        for (what, workspace) in cases {
            too_large(what, writer.create_workspace(&workspace).await.err())?;
        }
        let mut long = of(0, 0)?;
        long.spec.initializer.0.0 = vec![0; MIB];
        too_large("a too long initializer", writer.create_workspace(&long).await.err())?;
        writer.create_workspace(&of(MIB, 0)?).await?;
        let keys = json!({ "spec": { "sshPublicKeys": [text(3 * MIB / 2)] } });
        too_large("a change above etcd's limit", writer.patch_spec("ws", None, keys).await.err())?;

        let content = Secret::new([("a".to_owned(), text(MIB + 1))].into());
        let purpose = Purpose { workspace: "ws", installation: "i", placed_at: jiff::Timestamp::now() };
        let put = writer.put_secret(&story.namespace.parse()?, "ws-env", purpose, &content).await;
        too_large("a Secret", put.err())?;
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "pod" },
            "spec": { "containers": [{ "name": "c", "image": "i", "command": [text(7 * MIB / 4)] }] },
        }))?;
        too_large("a pod", writer.create_pod(&pod).await.err())
    })
}

#[test]
fn a_cluster_that_stores_less_than_others_is_passed_over_and_where_there_is_no_other_the_field_is_named()
-> Result<()> {
    story("small-cluster", 1, &[], async |story| {
        let proxy = behind_proxy(story, "eu-1").await?;
        let mut client = story.client().await?;
        // The response of a proxy in front of an apiserver with a limit of 1 MB.
        proxy.rules(vec![Rule::of(Method::POST, "/workspaces", Answer::Status(413))]);
        let large = |id: &str| with(id, |spec| spec.ssh_public_keys = vec![text(MIB / 2)]);
        let status = refused(client.start_workspace(large("ws")).await, Code::InvalidArgument)?;
        let (field, rule) = named(&status)?;
        ensure!(field == "spec.ssh_public_keys" && rule.contains("eu-1"), "{field}: {rule}");
        nothing_is_left(story).await?;
        story.register("us-1").await?;
        let there = start(&mut client, large("ws")).await?;
        ensure!(there.cluster == "us-1", "it is on {}", there.cluster);
        until("the id to be known", async || {
            ensure!(crate::story::describe(&mut client, "ws").await?.is_some(), "it is not");
            Ok(())
        })
        .await
    })
}
