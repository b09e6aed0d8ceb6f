//! What every scenario does: start, stop and remove workspaces, create and delete bare pods, and record usage.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s::resources::Workspace;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use proto::{
    contentservice::{EmptyInitializer, WorkspaceInitializer, workspace_initializer},
    wsman::{Placement, StartWorkspaceRequest, StartWorkspaceSpec, StopWorkspaceRequest, WorkspaceMetadata},
};
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use super::{
    results::Output,
    scenarios::Scenario,
    stage::{FLOOR, Stage},
    table::Recorder,
    tracker::Moment,
    usage::Spent,
};
use e2e::harness::spaceport::NAMESPACE;

/// Concurrent calls of a burst.
pub const AT_ONCE: usize = 32;
/// Number of owners that workspaces are spread over.
pub const OWNERS: usize = 20;
/// Workspaces between two lines of progress.
const CHUNK: usize = 500;

/// Runs scenarios on a stage.
pub struct Bench {
    pub stage: Stage,
    pub record: Recorder,
    /// Live workspaces of [`Bench::populate`].
    pub live: usize,
    /// The current scenario.
    pub doing: Option<Scenario>,
    /// Scenarios that ran to their end.
    pub finished: Vec<Scenario>,
    output: Output,
    /// Template of a bare pod.
    pod: Value,
}

impl Bench {
    /// Runs one workspace on each cluster, unmeasured: it warms up everything, and its pod is the template of the bare
    /// ones.
    pub async fn new(stage: Stage, output: Output) -> Result<Self> {
        let mut bench = Self {
            stage,
            record: Recorder::default(),
            live: 0,
            doing: None,
            finished: Vec::new(),
            output,
            pod: Value::Null,
        };
        let names = ids("warm-up", bench.stage.fleet.clusters().len());
        for (at, name) in names.iter().enumerate() {
            let cluster = bench.stage.cluster(at)?.name().to_owned();
            bench.stage.client().start_workspace(request(name, 0, &cluster)).await?;
        }
        bench.stage.workspaces.wait(&names, Moment::Running).await?;
        bench.pod = bench.stage.pod_like("ws-warm-up-0").await?;
        bench.clear(&names).await?;
        Ok(bench)
    }

    /// Whether a scenario is wanted; if so it begins.
    pub fn begin(&mut self, wanted: &[Scenario], scenario: Scenario) -> bool {
        let is_wanted = wanted.contains(&scenario);
        if is_wanted {
            self.doing = Some(scenario);
        }
        is_wanted
    }

    /// Prints and stores the results of a scenario that ran to its end.
    pub fn done(&mut self, scenario: Scenario) -> Result<()> {
        self.finished.push(scenario);
        self.output.keep(&mut self.record, scenario, None)
    }

    /// Prints and stores the results so far of a scenario that failed.
    pub fn failed(&mut self, scenario: Scenario, error: &anyhow::Error) -> Result<()> {
        self.output.keep(&mut self.record, scenario, Some(&format!("{error:#}")))
    }

    /// Records CPU, memory and calls of a scenario; `of` distinguishes several blocks of one scenario.
    pub fn note_spent(&mut self, scenario: &str, of: &str, spent: &Spent) {
        self.record.calls(scenario, of, &spent.calls);
        for (program, seconds) in &spent.cpu {
            self.record.note(scenario, &format!("CPU of {program}{of}"), "s", *seconds);
        }
        for (program, mib) in &spent.memory {
            self.record.note(scenario, &format!("memory of {program}{of}"), "MiB", *mib);
        }
        let senders: BTreeSet<&String> = spent.calls.keys().map(|(sender, _)| sender).collect();
        for sender in senders {
            self.record.note(
                scenario,
                &format!("API calls of {sender}{of}"),
                "calls",
                spent.calls_of(sender),
            );
        }
    }

    /// Starts workspaces until `count` are live, as any client would: 32 calls at once, real starts with real pods.
    pub async fn populate(&mut self, count: usize) -> Result<()> {
        let begun = Instant::now();
        while self.live < count {
            let until = count.min(self.live + CHUNK);
            let names: Vec<String> = (self.live..until).map(|at| format!("live-{at}")).collect();
            self.start(&names).await?;
            self.stage.workspaces.wait(&names, Moment::Running).await?;
            self.live = until;
            eprintln!("{until} of {count} workspaces live ({:.0} s)", begun.elapsed().as_secs_f64());
        }
        // Late events and status writes.
        sleep(Duration::from_secs(2)).await;
        Ok(())
    }

    /// Starts workspaces, 32 at once; returns when each call began and how long it took.
    pub async fn start(&self, names: &[String]) -> Result<Vec<(Instant, Duration)>> {
        let calls = names.iter().enumerate().map(|(at, name)| {
            let (mut client, request) = (self.stage.client(), request(name, owner_of(name), ""));
            async move {
                let begun = Instant::now();
                client.start_workspace(request).await.with_context(|| format!("cannot start {name}"))?;
                anyhow::Ok((at, (begun, begun.elapsed())))
            }
        });
        at_once(calls).await
    }

    /// Requests the stop of workspaces, 32 at once.
    pub async fn stop(&self, names: &[String]) -> Result<()> {
        let calls = names.iter().map(|name| {
            let mut client = self.stage.client();
            async move {
                let request = StopWorkspaceRequest { id: name.clone(), policy: 0 };
                client.stop_workspace(request).await.with_context(|| format!("cannot stop {name}"))?;
                anyhow::Ok(())
            }
        });
        stream::iter(calls).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Stops workspaces and waits until they are STOPPED on the stream and their resources are gone.
    pub async fn clear(&self, names: &[String]) -> Result<()> {
        self.stop(names).await?;
        self.stage.workspaces.wait(names, Moment::Gone).await?;
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        for cluster in self.stage.fleet.clusters() {
            let resources: Api<Workspace> = Api::namespaced(cluster.client(), NAMESPACE);
            loop {
                let left = resources.list_metadata(&ListParams::default()).await?;
                let mut left = left.items.iter().filter_map(|object| object.metadata.name.as_deref());
                if !left.any(|name| names.contains(name)) {
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// The API of bare pods in each cluster.
    fn pods(&self) -> Vec<Api<Pod>> {
        let clusters = self.stage.fleet.clusters().iter();
        clusters.map(|cluster| Api::namespaced(cluster.client(), FLOOR)).collect()
    }

    /// A bare pod.
    pub fn pod_named(&self, name: &str) -> Result<Pod> {
        let mut pod = self.pod.clone();
        pod["metadata"]["name"] = Value::from(name);
        Ok(serde_json::from_value(pod)?)
    }

    /// Creates bare pods on all clusters in turn, 32 at once; returns when each call began and how long it took.
    pub async fn create_pods(&self, names: &[String]) -> Result<Vec<(Instant, Duration)>> {
        let pods = self.pods();
        let calls = names.iter().enumerate().map(|(at, name)| {
            let pods = &pods[at % pods.len()];
            async move {
                let pod = self.pod_named(name)?;
                let begun = Instant::now();
                pods.create(&PostParams::default(), &pod).await.context("cannot create a pod")?;
                anyhow::Ok((at, (begun, begun.elapsed())))
            }
        });
        at_once(calls).await
    }

    /// Deletes the bare pods of one [`Bench::create_pods`], 32 at once; returns when each was gone.
    pub async fn delete_pods(&self, names: &[String]) -> Result<Vec<Instant>> {
        let pods = self.pods();
        let calls = names.iter().enumerate().map(|(at, name)| {
            let pods = &pods[at % pods.len()];
            async move {
                pods.delete(name, &DeleteParams::default()).await.context("cannot delete a pod")?;
                anyhow::Ok(())
            }
        });
        stream::iter(calls).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        self.stage.pods.wait(names, Moment::Gone).await
    }
}

/// Runs numbered work, 32 at once; returns the outcomes by number.
async fn at_once<T, F: Future<Output = Result<(usize, T)>>>(work: impl Iterator<Item = F>) -> Result<Vec<T>> {
    let mut done: Vec<(usize, T)> = stream::iter(work).buffer_unordered(AT_ONCE).try_collect().await?;
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, outcome)| outcome).collect())
}

/// Owners rotate with the number at the end of a name.
fn owner_of(name: &str) -> usize {
    let number = name.rsplit('-').next().and_then(|number| number.parse::<usize>().ok());
    number.unwrap_or_default() % OWNERS
}

/// A start, restricted to `cluster` unless that is empty.
pub fn request(id: &str, owner: usize, cluster: &str) -> StartWorkspaceRequest {
    let initializer =
        WorkspaceInitializer { spec: Some(workspace_initializer::Spec::Empty(EmptyInitializer {})) };
    let placement = Placement { cluster: cluster.to_owned(), ..Placement::default() };
    StartWorkspaceRequest {
        id: id.to_owned(),
        service_prefix: format!("meta-{id}"),
        metadata: Some(WorkspaceMetadata {
            owner: format!("owner-{owner}"),
            meta_id: format!("meta-{id}"),
            ..WorkspaceMetadata::default()
        }),
        spec: Some(StartWorkspaceSpec {
            workspace_image: "image:1".to_owned(),
            workspace_location: "/".to_owned(),
            initializer: Some(initializer),
            placement: Some(placement).filter(|it| !it.cluster.is_empty()),
            ..StartWorkspaceSpec::default()
        }),
        r#type: 0,
    }
}

/// Numbered names.
pub fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

/// The only element of a list.
pub fn first<T>(list: Vec<T>) -> Result<T> {
    list.into_iter().next().context("nothing was done")
}

pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

pub fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Milliseconds until the last of several moments.
pub fn until_last(begun: Instant, times: &[Instant]) -> f64 {
    ms(times.iter().max().map(|last| last.duration_since(begun)).unwrap_or_default())
}

/// Reports progress on standard error.
pub fn tell(at: usize, count: usize, what: &str) {
    if at.is_multiple_of(10) {
        eprintln!("{what}: {at} of {count}");
    }
}
