//! One cluster hangs, is slow, throttles, fails, resets connections or is gone: the others work as before, and starts
//! that were sent to it are settled there. No time is asserted: the calls to the bad cluster hang while the others are
//! answered.

use anyhow::{Context as _, Result, bail, ensure};
use http::Method;
use proto::wsman::{StartWorkspaceRequest, StartWorkspaceResponse};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::story::{SOON, Story, request, run, start, story, until};
use e2e::harness::{Answer, Fault, Proxy, Rule};

/// Fault of the cluster.
enum Trouble {
    /// Of connections.
    Of(Fault),
    /// Of calls.
    Calls(Answer),
    /// Connections are accepted and reset.
    Reset,
}

/// Where starts that were sent to the cluster end up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// There: at first it is unknown whether they arrived.
    Stay,
    /// Where the response says; without one they stay.
    AsAnswered,
}

#[test]
fn hung_and_slow_clusters_change_nothing_for_the_others_and_keep_their_starts() -> Result<()> {
    let drip = Fault::Drip { bytes: 1, every: std::time::Duration::from_millis(500) };
    troubles(
        "bulkhead-slow",
        &[
            ("hung", Trouble::Calls(Answer::Hold), End::Stay),
            ("silent", Trouble::Of(Fault::BlackHole), End::Stay),
            ("dripping", Trouble::Of(drip), End::Stay),
        ],
    )
}

#[test]
fn throttling_failing_and_refusing_clusters_change_nothing_for_the_others() -> Result<()> {
    troubles(
        "bulkhead-fails",
        &[
            // Its first starts are rejected and move; those that honor Retry-After may go there later.
            ("throttling", Trouble::Calls(Answer::Throttle(1)), End::AsAnswered),
            // Starts in flight when it begins to fail stay; later ones dry-run there first, and move.
            ("failing", Trouble::Calls(Answer::Status(500)), End::AsAnswered),
            ("refusing", Trouble::Of(Fault::Refuse), End::AsAnswered),
            ("resetting", Trouble::Reset, End::AsAnswered),
        ],
    )
}

fn troubles(name: &str, troubles: &[(&str, Trouble, End)]) -> Result<()> {
    story(name, 0, &[], async |story| {
        begin(story).await?;
        story.register("us-1").await?;
        let proxy = behind_proxy(story, "eu-1").await?;
        for (name, trouble, end) in troubles {
            bad_for_a_while(story, &proxy, name, trouble, *end)
                .await
                .with_context(|| format!("a {name} cluster"))?;
        }
        Ok(())
    })
}

/// A manager that judges health within seconds instead of a minute.
pub async fn begin(story: &mut Story) -> Result<()> {
    story.installation.overrides = json!({ "federation": { "health": {
        "probe": "1s", "deadline": "1s", "lostAfter": "4s", "recoverAfter": "1s", "holdDownMax": "1s",
    } } });
    story.replicas.push(story.installation.start("manager-0").await?);
    Ok(())
}

/// Registers a shared cluster through a proxy.
pub async fn behind_proxy(story: &Story, cluster: &str) -> Result<Proxy> {
    let proxy = Proxy::of_cluster(story.cluster(cluster)?).await?;
    story.register_through(cluster, &proxy).await?;
    Ok(proxy)
}

async fn bad_for_a_while(
    story: &Story,
    proxy: &Proxy,
    name: &str,
    trouble: &Trouble,
    end: End,
) -> Result<()> {
    let mut client = story.client().await?;
    inflict(story, proxy, trouble).await?;
    let sent = send(story, name, 4).await?;
    for n in 0..3 {
        let there = run(&mut client, request(&format!("{name}-other-{n}"), &["north-america"])).await?;
        ensure!(there.cluster == "us-1", "it is on {}", there.cluster);
    }
    if *trouble_of(trouble) == Answer::Throttle(1) {
        // It responds, so it is available; only its starts go elsewhere, or wait as long as it asks.
        story.available("eu-1").await?;
    } else {
        unavailable(story, "eu-1").await?;
        let passed = start(&mut client, request(&format!("{name}-passed"), &["europe"])).await?;
        ensure!(passed.cluster == "us-1", "it was placed on {}", passed.cluster);
    }
    if matches!(trouble, Trouble::Calls(Answer::Hold)) {
        ensure!(*proxy.held().borrow() > 0, "no call hung all the while");
    }
    proxy.heal().await?;
    story.available("eu-1").await?;
    for (request, call) in sent {
        let first = timeout(SOON, call).await.context("a start hangs")??;
        settled(story, request, first, end).await?;
    }
    Ok(())
}

/// The injected answer, if there is one.
fn trouble_of(trouble: &Trouble) -> &Answer {
    match trouble {
        Trouble::Calls(answer) => answer,
        Trouble::Of(_) | Trouble::Reset => &Answer::Hold,
    }
}

async fn inflict(story: &Story, proxy: &Proxy, trouble: &Trouble) -> Result<()> {
    match trouble {
        Trouble::Of(fault) => proxy.set(*fault).await,
        Trouble::Calls(answer) => {
            proxy.rules(vec![Rule::all(*answer)]);
            Ok(())
        }
        Trouble::Reset => {
            let pid = story.replicas.first().context("no manager")?.process.pid();
            proxy.set_for(pid, Fault::Refuse);
            Ok(())
        }
    }
}

type Call = JoinHandle<Result<StartWorkspaceResponse, Status>>;

/// Starts that prefer the bad cluster, under way.
async fn send(story: &Story, name: &str, count: usize) -> Result<Vec<(StartWorkspaceRequest, Call)>> {
    let mut sent = Vec::new();
    for n in 0..count {
        let request = request(&format!("{name}-{n}"), &["europe"]);
        let (mut client, call) = (story.client().await?, request.clone());
        let call = tokio::spawn(async move { Ok(client.start_workspace(call).await?.into_inner()) });
        sent.push((request, call));
    }
    Ok(sent)
}

/// Whatever the first call returned, the repeated one is answered, and the workspace is on one cluster.
async fn settled(
    story: &Story,
    request: StartWorkspaceRequest,
    first: Result<StartWorkspaceResponse, Status>,
    end: End,
) -> Result<()> {
    let mut client = story.client().await?;
    let id = request.id.clone();
    let mut again = None;
    until("the repeated start to be answered", async || {
        again = Some(start(&mut client, request.clone()).await?);
        Ok(())
    })
    .await?;
    let again = again.context("no answer")?;
    let expected = match (&first, end) {
        (_, End::Stay) | (Err(_), End::AsAnswered) => "eu-1",
        (Ok(answer), End::AsAnswered) => &answer.cluster,
    };
    ensure!(again.cluster == expected, "{id} is on {}, after {first:?}", again.cluster);
    match &first {
        Ok(answer) => ensure!(*answer == again, "the repeated call got another answer"),
        Err(status) => ensure!(status.code() == Code::Unavailable, "{status:?}"),
    }
    on_one_cluster(story, &id, expected).await
}

async fn on_one_cluster(story: &Story, id: &str, expected: &str) -> Result<()> {
    for cluster in ["eu-1", "us-1"] {
        let found = story.resources(cluster)?.get_opt(id).await?.is_some();
        ensure!(found == (cluster == expected), "{id} on {cluster}: {found}");
    }
    Ok(())
}

async fn unavailable(story: &Story, cluster: &str) -> Result<()> {
    let replica = story.replicas.first().context("no manager")?;
    let gauge = format!("spaceport_cluster_health{{cluster=\"{cluster}\",health=\"Available\"}} 0");
    until("the cluster to be unavailable", async || {
        let metrics = e2e::harness::spaceport::get(&format!("{}/metrics", replica.health)).await?;
        ensure!(metrics.contains(&gauge), "{cluster} is available to {}", replica.name);
        Ok(())
    })
    .await
}

#[test]
fn a_refused_repeat_of_a_start_without_an_answer_does_not_make_a_second_workspace() -> Result<()> {
    story("bulkhead-repeat", 0, &[], async |story| {
        begin(story).await?;
        story.register("us-1").await?;
        let proxy = behind_proxy(story, "eu-1").await?;
        let mut client = story.client().await?;
        // The manager must learn of the workspace neither by the response nor by its watch.
        let watches = Rule::new(
            |call| call.uri.query().is_some_and(|query| query.contains("watch=true")),
            Answer::Quiet,
        );
        // Dry runs pass, so that the leader does not learn of the fault by its own.
        let creation = |answer| {
            let creates = |call: &http::request::Parts| {
                let is_dry = call.uri.query().is_some_and(|query| query.contains("dryRun"));
                call.method == Method::POST && call.uri.path().ends_with("/workspaces") && !is_dry
            };
            Rule::new(creates, answer)
        };
        proxy.rules(vec![watches.clone()]);
        let mut begun = proxy.injected();
        let before = *begun.borrow();
        proxy.reset();
        timeout(SOON, begun.wait_for(|count| *count > before))
            .await
            .context("no watch is opened again")??;
        // No start goes to a cluster whose watch fails; these watches do not fail.
        story.available("eu-1").await?;
        proxy.rules(vec![watches.clone(), creation(Answer::Lose)]);
        let request = request("ws", &["europe"]);
        let lost = client.start_workspace(request.clone()).await.err().context("there was an answer")?;
        ensure!(lost.code() == Code::Unavailable, "{lost:?}");
        on_one_cluster(story, "ws", "eu-1").await?;
        proxy.rules(vec![watches, creation(Answer::Throttle(1))]);
        for _ in 0..2 {
            match client.start_workspace(request.clone()).await {
                Err(status) if status.code() == Code::Unavailable => {}
                other => bail!("it exists, but that cannot be known: {other:?}"),
            }
        }
        proxy.heal().await?;
        settled(story, request, Err(lost), End::Stay).await
    })
}

#[test]
fn joining_and_leaving_again_and_again_leaves_nothing_behind() -> Result<()> {
    const ROUNDS: usize = 25;
    story("bulkhead-leaks", 0, &[], async |story| {
        begin(story).await?;
        let proxy = Proxy::of_cluster(story.cluster("eu-1")?).await?;
        let manager = story.replicas.first().context("no manager")?.process.pid();
        let mut settled = 0;
        for round in 0..ROUNDS {
            story.register_through("eu-1", &proxy).await?;
            let output = story.cli(&["cluster", "deregister", "eu-1"]).await?;
            ensure!(output.code == 0, "{}", output.stderr);
            timeout(SOON, proxy.open().wait_for(|open| *open == 0))
                .await
                .with_context(|| format!("round {round}: connections of a cluster that left are open"))??;
            // What is opened once and kept is open by now.
            if round == 4 {
                settled = open_files(manager)?;
            }
        }
        until("no more open files than at first", async || {
            let now = open_files(manager)?;
            ensure!(now <= settled, "{now} open files, and {settled} after the first rounds");
            Ok(())
        })
        .await?;
        let replica = story.replicas.first().context("no manager")?;
        let metrics = e2e::harness::spaceport::get(&format!("{}/metrics", replica.health)).await?;
        ensure!(!metrics.contains("eu-1"), "metrics of a removed cluster: {metrics}");
        Ok(())
    })
}

fn open_files(pid: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}
