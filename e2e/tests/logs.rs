//! The log of a workspace's container, through the API and the command line. Simulated kubelets serve one file of each
//! cluster as the log of every container.

use std::io::Write as _;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::PostParams;
use proto::spaceport::v1::workspace_manager_client::WorkspaceManagerClient;
use proto::spaceport::v1::{LogsRequest, LogsResponse};
use proto::wsman::WorkspacePhase;
use serde_json::json;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::bulkheads::behind_proxy;
use crate::story::{
    SOON, Story, annotated, follow, is, refused, request, run, start, stop, story, until, watch,
};
use e2e::harness::spaceport::Replica;
use e2e::harness::{Answer, Cluster, Fault, Rule, annotations};

/// Adds lines to the log of every container of a cluster, as a container runtime writes them.
fn write(cluster: &Cluster, lines: &[&str]) -> Result<()> {
    let path = cluster.container_log();
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).context("cannot open the log")?;
    for line in lines {
        writeln!(file, "{:.9} stdout F {line}", jiff::Timestamp::now())?;
    }
    Ok(())
}

/// The API at one replica, for a client without a special role.
async fn api(story: &Story, replica: &Replica) -> Result<WorkspaceManagerClient<Channel>> {
    Ok(WorkspaceManagerClient::new(story.installation.client_channel(replica).await?))
}

fn of(id: &str) -> LogsRequest {
    LogsRequest { id: id.to_owned(), ..LogsRequest::default() }
}

/// The last line, and what follows it.
fn followed(id: &str) -> LogsRequest {
    LogsRequest { follow: true, tail: Some(1), ..of(id) }
}

/// Reads until a text has arrived.
async fn read_until(log: &mut Streaming<LogsResponse>, wanted: &str) -> Result<String> {
    let mut text = String::new();
    let reading = async {
        while !text.contains(wanted) {
            let piece = log.message().await?.context("it ended")?;
            text.push_str(&String::from_utf8(piece.content)?);
        }
        anyhow::Ok(())
    };
    timeout(SOON, reading).await.with_context(|| format!("{wanted:?} does not come"))??;
    Ok(text)
}

/// How a followed log ends.
async fn end(log: &mut Streaming<LogsResponse>) -> Result<Status> {
    let ending = async {
        loop {
            match log.message().await {
                Ok(Some(_)) => {}
                Ok(None) => anyhow::bail!("it ended without an error"),
                Err(status) => return Ok(status),
            }
        }
    };
    timeout(SOON, ending).await.context("it does not end")?
}

#[test]
fn a_log_is_read_and_followed_at_every_replica_and_by_the_command_line() -> Result<()> {
    story("logs", 2, &["eu-1"], async |story| {
        let cluster = story.cluster("eu-1")?;
        run(&mut story.client().await?, request("ws", &["europe"])).await?;
        write(cluster, &["one", "two", "the password is hunter2"])?;
        let whole = story.cli(&["workspace", "logs", "ws"]).await?;
        ensure!(
            whole.code == 0 && whole.stdout.ends_with("one\ntwo\nthe password is hunter2\n"),
            "{whole:?}"
        );
        for (flags, expected) in [
            (&["--tail", "1"][..], "the password is hunter2\n"),
            (&["--tail", "2", "--since", "1h"], "two\nthe password is hunter2\n"),
            (&["--previous"], "what ran before\n"),
        ] {
            let read = story.cli(&[&["workspace", "logs", "ws"], flags].concat()).await?;
            ensure!(read.code == 0 && read.stdout == expected, "{flags:?}: {read:?}");
        }
        for (replica, line) in story.replicas.iter().zip(["at the first", "at the second"]) {
            let mut log = api(story, replica).await?.logs(followed("ws")).await?.into_inner();
            read_until(&mut log, "\n").await?;
            write(cluster, &[line])?;
            let text = read_until(&mut log, line).await?;
            ensure!(text == format!("{line}\n"), "{text:?}");
        }
        for replica in &story.replicas {
            let logged =
                std::fs::read_to_string(story.installation.dir().join(format!("{}.log", replica.name)))?;
            ensure!(!logged.contains("hunter2"), "what a workspace wrote is in the log of {}", replica.name);
        }
        Ok(())
    })
}

#[test]
fn a_followed_log_goes_on_at_another_replica_where_it_broke_off() -> Result<()> {
    story("logs-on", 2, &["ap-1"], async |story| {
        let cluster = story.cluster("ap-1")?;
        run(&mut story.client().await?, request("ws", &[])).await?;
        write(cluster, &["before"])?;
        let first = story.replicas.first().context("no manager")?;
        let mut log = api(story, first).await?.logs(followed("ws")).await?.into_inner();
        let mut text = read_until(&mut log, "before\n").await?;
        write(cluster, &["one", "two"])?;
        let mut resume_token = String::new();
        while !text.ends_with("two\n") {
            let piece = timeout(SOON, log.message()).await.context("no more comes")??.context("it ended")?;
            text += &String::from_utf8(piece.content)?;
            resume_token = piece.resume_token;
        }
        first.process.kill().await?;
        ensure!(
            timeout(SOON, log.message()).await.context("it does not end")?.is_err(),
            "it ended without an error"
        );
        write(cluster, &["meanwhile", "and more"])?;
        ensure!(!resume_token.is_empty(), "there is no resume token");
        let second = story.replicas.get(1).context("no other manager")?;
        let on = LogsRequest { resume_token, ..followed("ws") };
        let mut log = api(story, second).await?.logs(on).await?.into_inner();
        text += &read_until(&mut log, "and more\n").await?;
        write(cluster, &["after"])?;
        text += &read_until(&mut log, "after\n").await?;
        ensure!(text == "before\none\ntwo\nmeanwhile\nand more\nafter\n", "{text:?}");
        let bad = LogsRequest { resume_token: "x".to_owned(), ..followed("ws") };
        let status = refused(
            api(story, second).await?.logs(bad).await.map(|_| tonic::Response::new(())),
            Code::InvalidArgument,
        )?;
        ensure!(status.message().contains("resume_token"), "{status:?}");
        Ok(())
    })
}

#[test]
fn a_followed_log_ends_with_its_cluster_and_with_the_replica_and_says_so() -> Result<()> {
    story("logs-end", 0, &[], async |story| {
        story.installation.overrides = json!({ "federation": { "health": { "probe": "500ms", "deadline": "500ms", "lostAfter": "3s" } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        // The log of the other cluster, through a proxy.
        let proxy = behind_proxy(story, "us-1").await?;
        run(&mut story.client().await?, request("ws", &[])).await?;
        write(story.cluster("us-1")?, &["first"])?;
        let replica = story.replicas.first().context("no manager")?;
        let mut log = api(story, replica).await?.logs(followed("ws")).await?.into_inner();
        read_until(&mut log, "\n").await?;
        proxy.set(Fault::BlackHole).await?;
        let status = end(&mut log).await?;
        ensure!(status.code() == Code::Unavailable, "{status:?}");
        ensure!(status.message().ends_with("cluster us-1 is unreachable"), "{}", status.message());
        let outcome = api(story, replica).await?.logs(of("ws")).await;
        refused(outcome.map(|_| tonic::Response::new(())), Code::Unavailable)?;
        proxy.heal().await?;

        let mut log = None;
        until("the cluster to be reachable again", async || {
            log = Some(api(story, replica).await?.logs(followed("ws")).await?.into_inner());
            Ok(())
        })
        .await?;
        let mut log = log.context("no log")?;
        read_until(&mut log, "\n").await?;
        replica.process.stop(SOON).await?;
        let status = end(&mut log).await?;
        ensure!(
            status.code() == Code::Unavailable && status.message().contains("is shutting down"),
            "{status:?}"
        );
        Ok(())
    })
}

#[test]
fn reasons_why_a_log_cannot_be_read_are_reported() -> Result<()> {
    story("logs-not", 1, &[], async |story| {
        let proxy = behind_proxy(story, "eu-1").await?;
        let mut client = story.client().await?;
        let sentence = async |id: &str, code: Code, wanted: &str| {
            for follow in [false, true] {
                let mut api = api(story, story.replicas.first().context("no manager")?).await?;
                let outcome = api.logs(LogsRequest { follow, ..of(id) }).await;
                let status = refused(outcome.map(|_| tonic::Response::new(())), code)?;
                ensure!(status.message().contains(wanted), "{}", status.message());
            }
            anyhow::Ok(())
        };
        sentence("nobody", Code::NotFound, "workspace nobody does not exist").await?;
        sentence("", Code::InvalidArgument, "id: ").await?;
        let mut stream = watch(&mut client, "waits").await?;
        start(&mut client, annotated(request("waits", &["europe"]), annotations::POD, "image-pull-error"))
            .await?;
        follow(&mut stream, |status| status.message.contains("failed to pull")).await?;
        let waits = "workspace waits: its container has not started yet: ";
        sentence("waits", Code::FailedPrecondition, waits).await?;
        let reported = story.cli(&["workspace", "logs", "waits"]).await?;
        ensure!(
            reported.code == 1 && reported.stdout.is_empty() && reported.stderr.contains(waits),
            "{reported:?}"
        );

        run(&mut client, request("ws", &["europe"])).await?;
        let log = |call: &http::request::Parts| call.uri.path().ends_with("/log");
        proxy.rules(vec![Rule::new(log, Answer::Status(500))]);
        sentence("ws", Code::Unavailable, "the apiserver rejected it (500 InternalError)").await?;
        proxy.rules(Vec::new());

        let roles: Api<Role> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let mut role = roles.get("spaceport").await?;
        for rule in role.rules.iter_mut().flatten() {
            rule.resources.iter_mut().flatten().for_each(|resource| {
                if resource == "pods/log" {
                    "pods/nothing".clone_into(resource);
                }
            });
        }
        roles.replace("spaceport", &PostParams::default(), &role).await?;
        until("the right to be gone", async || {
            sentence("ws", Code::FailedPrecondition, "apply clusters/member/rbac.yaml in cluster eu-1").await
        })
        .await?;

        let mut stream = watch(&mut client, "ws").await?;
        stop(&mut client, "ws").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        sentence("ws", Code::NotFound, "workspace ws does not exist").await
    })
}
