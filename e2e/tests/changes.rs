//! Changes of a running workspace: timeouts, ports, admission, keys, snapshots; and how subscribers get them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http::Method;
use k8s::resources::Snapshot;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use proto::wsman::{
    AdmissionLevel, BackupWorkspaceRequest, ControlAdmissionRequest, ControlPortRequest,
    DeleteVolumeSnapshotRequest, MetadataFilter, PortProtocol, PortSpec, PortVisibility, SetTimeoutRequest,
    SubscribeRequest, SubscribeResponse, TakeSnapshotRequest, TimeoutType, UpdateSshKeyRequest,
    WorkspaceAuthentication, WorkspacePhase, WorkspaceStatus,
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::bulkheads::behind_proxy;
use crate::story::{
    Client, SOON, Story, annotated, describe, follow, forget, is, refused, request, run, start, story, until,
    watch,
};
use e2e::harness::annotations;
use e2e::harness::faults::{Answer, Rule};

/// If nothing arrives within this time, nothing will.
const QUIET: Duration = Duration::from_secs(2);

fn timeout_of(limit: TimeoutType, duration: &str) -> SetTimeoutRequest {
    SetTimeoutRequest { id: "ws".into(), duration: duration.into(), r#type: limit.into() }
}

fn port(number: u32, expose: bool) -> ControlPortRequest {
    let spec = PortSpec {
        port: number,
        visibility: PortVisibility::Public.into(),
        url: String::new(),
        protocol: PortProtocol::Https.into(),
    };
    ControlPortRequest { id: "ws".into(), expose, spec: Some(spec) }
}

fn admit(level: AdmissionLevel) -> ControlAdmissionRequest {
    ControlAdmissionRequest { id: "ws".into(), level: level.into() }
}

fn keys(keys: &[&str]) -> UpdateSshKeyRequest {
    UpdateSshKeyRequest { id: "ws".into(), keys: keys.iter().map(|key| (*key).to_owned()).collect() }
}

fn timeouts(status: &WorkspaceStatus) -> Option<(&str, &str)> {
    status.spec.as_ref().map(|spec| (spec.timeout.as_str(), spec.closed_timeout.as_str()))
}

fn ports(status: &WorkspaceStatus) -> &[PortSpec] {
    status.spec.as_ref().map(|spec| spec.exposed_ports.as_slice()).unwrap_or_default()
}

fn admission(status: &WorkspaceStatus) -> Option<AdmissionLevel> {
    status.auth.as_ref().map(WorkspaceAuthentication::admission)
}

/// Follows what a subscriber and Describe report of one workspace.
struct Seen {
    client: Client,
    stream: Streaming<SubscribeResponse>,
    version: u64,
}

impl Seen {
    async fn running(story: &Story) -> Result<Self> {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        let mut stream = watch(&mut client, "ws").await?;
        let version = settled(&mut stream).await?.status.context("no status")?.status_version;
        Ok(Self { client, stream, version })
    }

    /// Waits until a newer version that is as wanted is published; Describe must report the same.
    async fn becomes(&mut self, what: &str, wanted: impl Fn(&WorkspaceStatus) -> bool) -> Result<()> {
        let before = self.version;
        let newer = |status: &WorkspaceStatus| status.status_version > before && wanted(status);
        let seen = follow(&mut self.stream, newer).await.with_context(|| what.to_owned())?;
        self.version = seen.last().context("nothing was seen")?.status_version;
        let status = describe(&mut self.client, "ws").await?.context("it is gone")?;
        ensure!(wanted(&status) && status.status_version >= self.version, "{what}: {status:?}");
        Ok(())
    }
}

/// Reads until nothing more arrives; returns the last response.
async fn settled(stream: &mut Streaming<SubscribeResponse>) -> Result<SubscribeResponse> {
    let mut last = timeout(SOON, stream.message()).await.context("nothing came")??.context("it ended")?;
    while let Ok(next) = timeout(QUIET, stream.message()).await {
        last = next?.context("the stream ended")?;
    }
    Ok(last)
}

fn names_field(status: &Status, field: &str) -> Result<()> {
    let details = status.get_details_bad_request().context("no details")?;
    let fields: Vec<&str> = details.field_violations.iter().map(|bad| bad.field.as_str()).collect();
    ensure!(fields == [field], "{fields:?} instead of {field}: {}", status.message());
    ensure!(status.message().contains(field), "{}", status.message());
    Ok(())
}

#[test]
fn every_change_is_described_and_published_with_a_version_that_grows() -> Result<()> {
    story("changes", 1, &["eu-1"], async |story| {
        let mut seen = Seen::running(story).await?;

        seen.client.set_timeout(timeout_of(TimeoutType::WorkspaceTimeout, "90m")).await?;
        seen.becomes("the timeout", |status| timeouts(status) == Some(("1h30m0s", "0s"))).await?;
        seen.client.set_timeout(timeout_of(TimeoutType::ClosedTimeout, "5m")).await?;
        seen.becomes("the closed timeout", |status| timeouts(status) == Some(("1h30m0s", "5m0s"))).await?;

        seen.client.control_port(port(8080, true)).await?;
        let url = "https://8080-meta-ws.ws.spaceport.example";
        seen.becomes("the port", |status| {
            matches!(ports(status), [port] if port.port == 8080 && port.url == url
                && port.visibility() == PortVisibility::Public && port.protocol() == PortProtocol::Https)
        })
        .await?;
        seen.client.control_port(port(8080, false)).await?;
        seen.becomes("no port", |status| ports(status).is_empty()).await?;

        seen.client.control_admission(admit(AdmissionLevel::AdmitEveryone)).await?;
        seen.becomes("everyone", |status| admission(status) == Some(AdmissionLevel::AdmitEveryone)).await?;
        seen.client.control_admission(admit(AdmissionLevel::AdmitOwnerOnly)).await?;
        seen.becomes("the owner", |status| admission(status) == Some(AdmissionLevel::AdmitOwnerOnly)).await?;

        seen.client.update_ssh_key(keys(&["ssh-ed25519 AAAA jane"])).await?;
        seen.becomes("the keys", |status| status.phase() == WorkspacePhase::Running).await?;
        let resource = story.resources("eu-1")?.get("ws").await?;
        ensure!(resource.spec.ssh_public_keys == ["ssh-ed25519 AAAA jane"], "the keys of the resource");
        Ok(())
    })
}

#[test]
fn a_change_that_changes_nothing_writes_nothing() -> Result<()> {
    story("no-change", 1, &["eu-1"], async |story| {
        let mut seen = Seen::running(story).await?;
        seen.client.control_admission(admit(AdmissionLevel::AdmitEveryone)).await?;
        seen.becomes("everyone", |status| admission(status) == Some(AdmissionLevel::AdmitEveryone)).await?;
        seen.client.control_admission(admit(AdmissionLevel::AdmitEveryone)).await?;
        seen.client.control_port(port(9999, false)).await?;
        let more = timeout(QUIET, seen.stream.message()).await;
        ensure!(more.is_err(), "this was published: {more:?}");
        Ok(())
    })
}

#[test]
fn values_that_break_a_rule_are_refused_by_the_name_of_their_field() -> Result<()> {
    story("bad-values", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let bad = Code::InvalidArgument;
        for duration in ["", "soon", "-5m", "1us"] {
            let request = timeout_of(TimeoutType::WorkspaceTimeout, duration);
            names_field(&refused(client.set_timeout(request).await, bad)?, "duration")
                .with_context(|| format!("a timeout of {duration:?}"))?;
        }
        let unknown = SetTimeoutRequest { id: "ws".into(), duration: "5m".into(), r#type: 7 };
        names_field(&refused(client.set_timeout(unknown).await, bad)?, "type")?;
        for number in [0, 65_536] {
            names_field(&refused(client.control_port(port(number, true)).await, bad)?, "spec.port")?;
        }
        let none = ControlPortRequest { id: "ws".into(), expose: true, spec: None };
        names_field(&refused(client.control_port(none).await, bad)?, "spec")?;
        let unknown = ControlAdmissionRequest { id: "ws".into(), level: 7 };
        names_field(&refused(client.control_admission(unknown).await, bad)?, "level")?;
        names_field(&refused(client.update_ssh_key(keys(&[])).await, bad)?, "keys")?;
        refused(client.update_ssh_key(keys(&["ssh-rsa A"])).await, Code::NotFound)?;
        refused(client.control_port(port(80, true)).await, Code::NotFound)?;
        Ok(())
    })
}

#[test]
fn a_snapshot_is_waited_for_or_not_and_only_taken_of_what_runs() -> Result<()> {
    story("snapshots", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let take = |return_immediately| TakeSnapshotRequest { id: "ws".into(), return_immediately };
        refused(client.take_snapshot(take(false)).await, Code::NotFound)?;
        run(&mut client, request("ws", &[])).await?;
        let snapshots: Api<Snapshot> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let complete = async |url: &str| {
            let all = snapshots.list(&ListParams::default()).await?.items;
            let of_url = |snapshot: &&Snapshot| {
                snapshot.status.as_ref().and_then(|status| status.url.as_deref()) == Some(url)
            };
            let snapshot = all.iter().find(of_url).with_context(|| format!("no snapshot has {url}"))?;
            anyhow::Ok(snapshot.status.as_ref().is_some_and(|status| status.completed))
        };
        let waited = client.take_snapshot(take(false)).await?.into_inner().url;
        ensure!(complete(&waited).await?, "it answered before {waited} was complete");
        let at_once = client.take_snapshot(take(true)).await?.into_inner().url;
        ensure!(at_once != waited, "it is the first one");
        until("the second to be complete too", async || {
            ensure!(complete(&at_once).await?, "it is not");
            Ok(())
        })
        .await?;

        let hangs = annotated(request("new", &[]), annotations::INIT, "hang");
        let mut stream = watch(&mut client, "new").await?;
        start(&mut client, hangs).await?;
        follow(&mut stream, is(WorkspacePhase::Initializing)).await?;
        let early = TakeSnapshotRequest { id: "new".into(), return_immediately: true };
        let status = refused(client.take_snapshot(early).await, Code::FailedPrecondition)?;
        ensure!(status.message().contains("running"), "{}", status.message());
        Ok(())
    })
}

#[test]
fn a_failed_snapshot_is_reported_with_the_node_agents_reason_and_harms_nothing() -> Result<()> {
    story("bad-snapshot", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, annotated(request("ws", &[]), annotations::BACKUP, "fail")).await?;
        let take = |return_immediately| TakeSnapshotRequest { id: "ws".into(), return_immediately };
        let status = refused(client.take_snapshot(take(false)).await, Code::Internal)?;
        ensure!(status.message().contains("the snapshot failed: asked to fail"), "{}", status.message());
        // A call that does not wait for it gets the URL that it would have had, as in existing managers.
        let url = client.take_snapshot(take(true)).await?.into_inner().url;
        ensure!(url.contains("ws-"), "{url}");
        let status = describe(&mut client, "ws").await?.context("it is gone")?;
        let conditions = status.conditions.clone().context("no conditions")?;
        ensure!(status.phase() == WorkspacePhase::Running && conditions.failed.is_empty(), "{status:?}");
        forget(story, "ws", annotations::BACKUP).await?;
        client.take_snapshot(take(false)).await.context("a later snapshot is not taken")?;
        Ok(())
    })
}

#[test]
fn a_snapshot_is_waited_for_through_broken_connections_and_not_when_it_is_gone_or_never_comes() -> Result<()>
{
    story("lost-snapshots", 1, &[], async |story| {
        let proxy = behind_proxy(story, "eu-1").await?;
        let mut client = story.client().await?;
        let snapshots: Api<Snapshot> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let take = |id: &str| {
            let (mut client, id) = (client.clone(), id.to_owned());
            let request = TakeSnapshotRequest { id, return_immediately: false };
            tokio::spawn(async move { client.take_snapshot(request).await })
        };
        let made = async |of: &str| {
            let mut name = None;
            until("the snapshot to be made", async || {
                let all = snapshots.list(&ListParams::default()).await?.items;
                name =
                    all.into_iter().find(|one| one.spec.workspace_id == of).and_then(|one| one.metadata.name);
                ensure!(name.is_some(), "there is none");
                Ok(())
            })
            .await?;
            name.context("no name")
        };
        let slow = annotated(request("slow", &[]), annotations::BACKUP_DELAY_MS, "3000");
        let never = annotated(request("never", &[]), annotations::BACKUP, "hang");
        for wanted in [slow, never] {
            run(&mut client.clone(), wanted).await?;
        }
        // The response to the creation is lost, also on the retry; then the watch of the snapshot breaks.
        proxy.rules(vec![Rule::of(Method::POST, "/snapshots", Answer::Lose)]);
        let mut lost = proxy.injected();
        let taking = take("slow");
        timeout(SOON, lost.wait_for(|count| *count > 1)).await.context("no two answers were lost")??;
        proxy.rules(Vec::new());
        made("slow").await?;
        proxy.reset();
        let url = taking.await?.context("the broken watch")?.into_inner().url;
        ensure!(url.contains("slow-"), "{url}");

        let taking = take("never");
        snapshots.delete(&made("never").await?, &DeleteParams::default()).await?;
        let status = refused(taking.await?, Code::Internal)?;
        ensure!(status.message().contains("the snapshot failed: it was deleted"), "{}", status.message());
        let never = TakeSnapshotRequest { id: "never".into(), return_immediately: true };
        let status = refused(client.take_snapshot(never).await, Code::Internal)?;
        ensure!(status.message().contains("did not get there within 10s"), "{}", status.message());
        Ok(())
    })
}

#[test]
fn calls_without_a_contract_with_node_agents_are_unimplemented_with_the_reason() -> Result<()> {
    story("unimplemented", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let backup = BackupWorkspaceRequest { id: "ws".into() };
        let status = refused(client.backup_workspace(backup).await, Code::Unimplemented)?;
        ensure!(status.message().contains("contract"), "{}", status.message());
        let delete = DeleteVolumeSnapshotRequest { id: "ws".into(), ..Default::default() };
        let status = refused(client.delete_volume_snapshot(delete).await, Code::Unimplemented)?;
        ensure!(status.message().contains("volumes"), "{}", status.message());
        Ok(())
    })
}

#[test]
fn a_subscriber_that_comes_back_with_its_token_gets_what_it_missed_and_no_more() -> Result<()> {
    story("resume", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        run(&mut client, request("other", &[])).await?;
        let replay = SubscribeRequest { replay: true, ..SubscribeRequest::default() };
        let mut stream = client.subscribe(replay).await?.into_inner();
        let token = settled(&mut stream).await?.resume_token;
        ensure!(!token.is_empty(), "no token was given");
        drop(stream);

        client.control_admission(admit(AdmissionLevel::AdmitEveryone)).await?;
        let resume = SubscribeRequest { resume_token: token, ..SubscribeRequest::default() };
        let mut stream = client.subscribe(resume.clone()).await?.into_inner();
        let Some(answer) = timeout(SOON, stream.message()).await.context("nothing came")?? else {
            bail!("the stream ended")
        };
        let status = answer.status.context("no status")?;
        ensure!(status.id == "ws" && admission(&status) == Some(AdmissionLevel::AdmitEveryone), "{status:?}");
        ensure!(answer.resume_token != resume.resume_token, "the token stayed");
        let more = timeout(QUIET, stream.message()).await;
        ensure!(more.is_err(), "more came: {more:?}");

        let must_match = Some(MetadataFilter { owner: "joe".into(), ..MetadataFilter::default() });
        let others = SubscribeRequest { must_match, ..resume };
        let mut stream = client.subscribe(others).await?.into_inner();
        let more = timeout(QUIET, stream.message()).await;
        ensure!(more.is_err(), "another owner's change came: {more:?}");

        let nonsense = SubscribeRequest { resume_token: "nonsense".into(), ..SubscribeRequest::default() };
        let outcome = client.subscribe(nonsense).await.map(|answer| answer.map(drop));
        let status = refused(outcome, Code::OutOfRange)?;
        ensure!(status.message().contains("replay"), "{}", status.message());
        Ok(())
    })
}
