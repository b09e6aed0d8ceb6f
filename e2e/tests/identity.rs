//! How long a client's access lasts, and which workspaces it reaches.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use proto::registryfacade::GetImageSpecRequest;
use proto::registryfacade::spec_provider_client::SpecProviderClient;
use proto::spaceport::v1::workspace_manager_client::WorkspaceManagerClient as LogsClient;
use proto::spaceport::v1::{
    DescribeEndedRequest, ListRequest, LogsRequest, cluster_manager_client::ClusterManagerClient,
};
use proto::wsman::workspace_manager_client::WorkspaceManagerClient;
use proto::wsman::*;
use serde_json::json;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};

use crate::story::{Client, SOON, Story, refused, request, run, start, story, until};
use e2e::harness::pki::{Authority, Identity};

async fn client(story: &Story, identity: &Identity) -> Result<Client> {
    client_of(story, 0, identity).await
}

async fn client_of(story: &Story, replica: usize, identity: &Identity) -> Result<Client> {
    let endpoint = &story.replicas.get(replica).context("no manager")?.endpoint;
    Ok(WorkspaceManagerClient::new(story.installation.channel(endpoint, Some(identity)).await?))
}

async fn subscribe(client: &mut Client) -> Result<Streaming<SubscribeResponse>> {
    let request = SubscribeRequest { replay: true, ..SubscribeRequest::default() };
    Ok(client.subscribe(request).await?.into_inner())
}

/// The status with which a stream ends; skips its messages.
async fn end(stream: &mut Streaming<SubscribeResponse>) -> Result<Status> {
    let reading = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => bail!("the stream ended without an error"),
                Err(status) => return Ok(status),
            }
        }
    };
    timeout(SOON, reading).await.context("the stream goes on")?
}

#[test]
fn a_connection_ends_with_its_certificate_and_its_subscription_says_so() -> Result<()> {
    story("certificate-end", 1, &[], async |story| {
        let authority = story.installation.authority();
        let life = Duration::from_secs(8);
        let expires = Instant::now() + life;
        let user = authority.client_for("short-lived", &[], life)?;
        let boss = authority.client_for("short-lived-boss", &["spaceport:admin"], life)?;
        let mut user = client(story, &user).await?;
        let endpoint = &story.replicas.first().context("no manager")?.endpoint;
        let mut boss = ClusterManagerClient::new(story.installation.channel(endpoint, Some(&boss)).await?);
        boss.list(ListRequest {}).await?;
        let status = end(&mut subscribe(&mut user).await?).await?;
        ensure!(status.code() == Code::Unavailable, "{status}");
        ensure!(status.message().contains("has expired"), "{status}");
        let late = Instant::now().saturating_duration_since(expires);
        ensure!(late < Duration::from_secs(2), "it ended {late:?} after the certificate");
        ensure!(user.get_workspaces(GetWorkspacesRequest::default()).await.is_err(), "calls go on");
        ensure!(boss.list(ListRequest {}).await.is_err(), "calls of an admin go on");
        Ok(())
    })
}

#[test]
fn an_old_connection_ends_and_its_client_goes_on_over_another() -> Result<()> {
    story("connection-age", 0, &[], async |story| {
        story.installation.overrides =
            json!({ "rpcServer": { "connections": { "maxAge": "3s", "grace": "1s" } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let user = story.installation.authority().client("user", &[])?;
        let mut client = client(story, &user).await?;
        for _ in 0..2 {
            let status = end(&mut subscribe(&mut client).await?).await?;
            ensure!(status.code() == Code::Unavailable && status.message().contains("age"), "{status}");
            // A call at the moment of the close is cancelled unsent, and repeated.
            until("a call over another connection", async || {
                client.get_workspaces(GetWorkspacesRequest::default()).await?;
                Ok(())
            })
            .await?;
        }
        Ok(())
    })
}

#[test]
fn connections_end_when_their_authority_is_not_trusted_any_more() -> Result<()> {
    story("authority-change", 0, &[], async |story| {
        let (old, bundle) = (story.installation.authority(), story.installation.dir().join("clients.pem"));
        let new = Authority::create(&story.installation.dir().join("new-clients"), "new-clients")?;
        std::fs::write(&bundle, format!("{}{}", old.ca_pem(), new.ca_pem()))?;
        let (before, after) = (old.client("before", &[])?, new.client("after", &[])?);
        story.installation.overrides = json!({ "rpcServer": { "tls": { "ca": bundle } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let (mut of_old, mut of_new) = (client(story, &before).await?, client(story, &after).await?);
        let (mut old_stream, mut new_stream) = (subscribe(&mut of_old).await?, subscribe(&mut of_new).await?);
        std::fs::write(&bundle, new.ca_pem())?;
        let status = end(&mut old_stream).await?;
        ensure!(status.message().contains("not trusted any more"), "{status}");
        ensure!(of_old.get_workspaces(GetWorkspacesRequest::default()).await.is_err(), "calls go on");
        let goes_on = timeout(Duration::from_secs(2), new_stream.message()).await;
        ensure!(goes_on.is_err(), "the stream of a client that is trusted ended: {goes_on:?}");
        of_new.get_workspaces(GetWorkspacesRequest::default()).await?;
        Ok(())
    })
}

#[test]
fn a_client_needs_the_organization_that_is_required() -> Result<()> {
    story("organization", 0, &[], async |story| {
        story.installation.overrides = json!({ "rpcServer": { "clients": { "organization": "staff" } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let authority = story.installation.authority();
        let (staff, guest) = (authority.client("a", &["staff"])?, authority.client("b", &["guests"])?);
        client(story, &staff).await?.get_workspaces(GetWorkspacesRequest::default()).await?;
        let outcome = client(story, &guest).await?.get_workspaces(GetWorkspacesRequest::default()).await;
        refused(outcome, Code::Unauthenticated)?;
        let listed = story.cli(&["cluster", "list"]).await?;
        ensure!(listed.code == 0, "admins need no other organization: {}", listed.stderr);
        Ok(())
    })
}

/// Code and message of a response.
fn outcome<T>(answer: Result<tonic::Response<T>, Status>) -> Result<(), (Code, String)> {
    answer.map(drop).map_err(|status| (status.code(), status.message().to_owned()))
}

async fn set_timeout(client: &mut Client, id: &str, duration: &str) -> Result<(), (Code, String)> {
    let request = SetTimeoutRequest {
        id: id.to_owned(),
        duration: duration.to_owned(),
        ..SetTimeoutRequest::default()
    };
    outcome(client.set_timeout(request).await)
}

/// Responses of every call about a workspace of this id.
async fn all_about(client: &mut Client, of: &str) -> Vec<Result<(), (Code, String)>> {
    let id = || of.to_owned();
    let spec = Some(PortSpec { port: 3000, ..PortSpec::default() });
    let active = MarkActiveRequest { id: id(), ..MarkActiveRequest::default() };
    let keys = vec!["ssh-ed25519 AAAA".to_owned()];
    vec![
        outcome(client.describe_workspace(DescribeWorkspaceRequest { id: id() }).await),
        outcome(client.mark_active(active).await),
        set_timeout(client, of, "1h").await,
        outcome(client.control_port(ControlPortRequest { id: id(), expose: true, spec }).await),
        outcome(client.control_admission(ControlAdmissionRequest { id: id(), level: 0 }).await),
        outcome(client.update_ssh_key(UpdateSshKeyRequest { id: id(), keys }).await),
        outcome(client.take_snapshot(TakeSnapshotRequest { id: id(), return_immediately: true }).await),
        outcome(client.stop_workspace(StopWorkspaceRequest { id: id(), policy: 0 }).await),
    ]
}

#[test]
fn a_scoped_client_reaches_the_workspaces_of_its_owners_alone() -> Result<()> {
    story("scopes", 0, &[], async |story| {
        story.installation.overrides = json!({ "rpcServer": { "clients": { "scopes": [
            { "commonName": "team-a", "owners": ["jane"] },
            { "commonName": "robot", "organization": "robots", "owners": ["jane"], "ownerTokens": false },
        ] } } });
        for n in 0..2 {
            story.replicas.push(story.installation.start(&format!("manager-{n}")).await?);
        }
        story.register("eu-1").await?;
        let mut all = story.client().await?;
        run(&mut all, request("hers", &[])).await?;
        let mut others = request("his", &[]);
        others.metadata.get_or_insert_default().owner = "bob".to_owned();
        run(&mut all, others.clone()).await?;

        let authority = story.installation.authority();
        let team = authority.client("team-a", &[])?;
        for replica in 0..2 {
            let mut client = client_of(story, replica, &team).await?;
            let listed = client.get_workspaces(GetWorkspacesRequest::default()).await?.into_inner().status;
            let ids: Vec<&str> = listed.iter().map(|status| status.id.as_str()).collect();
            ensure!(ids == ["hers"], "{ids:?}");
            let token = listed[0].auth.as_ref().map(|auth| auth.owner_token.is_empty());
            ensure!(token == Some(false), "the owner's token is missing");
            let unknown = all_about(&mut client, "unknown").await;
            let same = |answers: Vec<Result<(), (Code, String)>>, id: &str| -> Vec<_> {
                let words = |(code, text): (Code, String)| (code, text.replace(id, "ID"));
                answers.into_iter().map(|answer| answer.map_err(words)).collect()
            };
            let his = same(all_about(&mut client, "his").await, "his");
            ensure!(his == same(unknown, "unknown"), "what is not its own differs: {his:?}");
            ensure!(his.iter().all(|answer| matches!(answer, Err((Code::NotFound, _)))), "{his:?}");
        }
        let mut client = client(story, &team).await?;
        let status = refused(client.start_workspace(others).await, Code::PermissionDenied)?;
        ensure!(!status.message().contains("bob"), "{status}");
        let mut stream = subscribe(&mut client).await?;
        for (client, id) in [(&mut client, "hers"), (&mut all, "his")] {
            let changed = set_timeout(client, id, "2h").await;
            ensure!(changed.is_ok(), "the timeout of {id} is not changed: {changed:?}");
        }
        while let Ok(update) = timeout(Duration::from_secs(2), stream.message()).await {
            let status = update?.and_then(|update| update.status).context("the stream ended")?;
            ensure!(status.id == "hers", "an update of {}", status.id);
        }
        by_other_services(story, &team).await?;
        tokens_are_hidden(story).await
    })
}

async fn by_other_services(story: &Story, team: &Identity) -> Result<()> {
    let endpoint = &story.replicas.first().context("no manager")?.endpoint;
    let channel = story.installation.channel(endpoint, Some(team)).await?;
    let logs = LogsRequest { id: "his".to_owned(), ..LogsRequest::default() };
    refused(
        LogsClient::new(channel.clone()).logs(logs).await.map(|answer| answer.map(drop)),
        Code::NotFound,
    )?;
    let ended = DescribeEndedRequest { id: "his".to_owned() };
    refused(LogsClient::new(channel.clone()).describe_ended(ended).await, Code::NotFound)?;
    let mut specs = SpecProviderClient::new(channel.clone());
    refused(specs.get_image_spec(GetImageSpecRequest { id: "his".to_owned() }).await, Code::NotFound)?;
    specs.get_image_spec(GetImageSpecRequest { id: "hers".to_owned() }).await?;
    let builds = proto::builder::ListBuildsRequest {};
    let mut builder = proto::builder::image_builder_client::ImageBuilderClient::new(channel);
    refused(builder.list_builds(builds).await, Code::PermissionDenied)?;
    Ok(())
}

async fn tokens_are_hidden(story: &Story) -> Result<()> {
    let robot = story.installation.authority().client("robot", &["robots"])?;
    let mut robot = client(story, &robot).await?;
    let started = start(&mut robot, request("third", &[])).await?;
    ensure!(started.owner_token.is_empty(), "a token is shown to a robot that starts");
    let token = |status: Option<&WorkspaceStatus>| {
        status.and_then(|status| status.auth.as_ref()).map(|auth| auth.owner_token.clone())
    };
    let described = robot.describe_workspace(DescribeWorkspaceRequest { id: "hers".to_owned() }).await?;
    ensure!(token(described.into_inner().status.as_ref()) == Some(String::new()), "described");
    let listed = robot.get_workspaces(GetWorkspacesRequest::default()).await?.into_inner().status;
    ensure!(listed.iter().all(|status| token(Some(status)) == Some(String::new())), "listed");
    let update = subscribe(&mut robot).await?.message().await?.context("no update")?;
    ensure!(token(update.status.as_ref()) == Some(String::new()), "subscribed");
    Ok(())
}

#[test]
fn a_call_is_not_passed_on_to_a_server_that_is_no_replica() -> Result<()> {
    story("no-replica", 0, &[], async |story| {
        let plain = story.installation.authority().server("plain")?;
        story.installation.overrides =
            json!({ "rpcServer": { "tls": { "crt": plain.cert, "key": plain.key } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        story.installation.overrides = json!({});
        story.replicas.push(story.installation.start("manager-1").await?);
        let user = story.installation.authority().client("user", &[])?;
        let mut client = client_of(story, 1, &user).await?;
        let stop = StopWorkspaceRequest { id: "unknown".to_owned(), policy: 0 };
        let status = refused(client.stop_workspace(stop).await, Code::Unavailable)?;
        ensure!(status.message().contains("organization spaceport:replica"), "{status}");
        Ok(())
    })
}
