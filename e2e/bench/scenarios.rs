//! The scenarios, each beside its floor.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::Value;
use spaceport::cluster::resources::Workspace;
use spaceport::proto::{
    contentservice::{EmptyInitializer, WorkspaceInitializer, workspace_initializer},
    wsman::{
        GetWorkspacesRequest, MetadataFilter, StartWorkspaceRequest, StartWorkspaceSpec,
        StopWorkspaceRequest, WorkspaceMetadata,
    },
};
use tokio::time::{Duration, Instant, sleep};

use super::{
    stage::{FLOOR, Stage},
    table::Row,
    tracker::Moment,
    usage,
};
use crate::harness::spaceport::NAMESPACE;

const AT_ONCE: usize = 32;
const OWNERS: usize = 20;
/// GetWorkspaces calls of each kind.
const LISTS: usize = 30;
/// Lifecycles that API calls are counted over.
const COUNTED: usize = 10;

/// Runs scenarios on a stage.
pub struct Bench<'a> {
    stage: &'a Stage,
    /// What a bare pod is made from.
    pod: Value,
    pods: Api<Pod>,
    resources: Api<Workspace>,
    /// What was measured.
    pub rows: Vec<Row>,
}

impl<'a> Bench<'a> {
    /// Runs one workspace, unmeasured: it warms up everything and its pod is the pattern of the bare ones.
    pub async fn new(stage: &'a Stage) -> Result<Self> {
        let client = stage.cluster.client();
        let mut bench = Self {
            stage,
            pod: Value::Null,
            pods: Api::namespaced(client.clone(), FLOOR),
            resources: Api::namespaced(client, NAMESPACE),
            rows: Vec::new(),
        };
        let names = ids("warm-up", 1);
        bench.start(&names).await?;
        stage.workspaces.wait(&names, Moment::Running).await?;
        bench.pod = stage.pod_like("ws-warm-up-0").await?;
        bench.clear(&names).await?;
        Ok(bench)
    }

    /// a. One at a time, a workspace and a bare pod in turn.
    pub async fn one_at_a_time(&mut self, count: usize) -> Result<()> {
        let (mut calls, mut running, mut posts, mut pods) = (vec![], vec![], vec![], vec![]);
        let (names, floor) = (ids("one", count), ids("one-pod", count));
        for at in 0..count {
            tell(at, count, "one at a time");
            let (name, pod) = (&names[at..=at], &floor[at..=at]);
            let (begun, took) = first(self.start(name).await?)?;
            calls.push(ms(took));
            let up = first(self.stage.workspaces.wait(name, Moment::Running).await?)?;
            running.push(ms(up - begun));
            let (begun, took) = first(self.create_pods(pod).await?)?;
            posts.push(ms(took));
            let up = first(self.stage.pods.wait(pod, Moment::Running).await?)?;
            pods.push(ms(up - begun));
        }
        let post = Row::new("one", "bare pod: POST", "ms", posts);
        let pod = Row::new("one", "bare pod: POST to Running", "ms", pods);
        self.rows.push(Row::new("one", "StartWorkspace", "ms", calls).over(&post));
        self.rows.push(Row::new("one", "start to RUNNING on the stream", "ms", running).over(&pod));
        self.rows.extend([post, pod]);
        self.clear(&names).await?;
        self.delete_pods(&floor).await.map(drop)
    }

    /// b, c, d. A burst of starts, lists while they live, a stop of all; then the same with bare pods; and again.
    pub async fn crowd(&mut self, count: usize, rounds: usize) -> Result<()> {
        let mut of: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for round in 0..rounds {
            eprintln!("burst of {count}, round {} of {rounds}: workspaces", round + 1);
            self.crowd_of_workspaces(&ids(&format!("burst-{round}"), count), &mut of).await?;
            eprintln!("burst of {count}, round {} of {rounds}: bare pods", round + 1);
            self.crowd_of_pods(&ids(&format!("burst-pod-{round}"), count), &mut of).await?;
        }
        let mut row = |scenario, key: &str, measure: &str, unit| {
            Row::new(scenario, measure, unit, of.remove(key).unwrap_or_default())
        };
        let all = row("burst", "pods running", &format!("{count} bare pods: until all Running"), "ms");
        let each = row("burst", "pod running", "bare pod: POST to Running", "ms");
        let gone = row("stop", "pods gone", &format!("{count} bare pods: delete until all gone"), "ms");
        let rows = [
            row("burst", "running", &format!("{count} starts: until all RUNNING"), "ms").over(&all),
            row("burst", "each", "start to RUNNING on the stream", "ms").over(&each),
            row("burst", "call", "StartWorkspace", "ms"),
            row("burst", "rate", "StartWorkspace", "1/s"),
            row("burst", "cpu", "manager's CPU, a start", "ms"),
            row("burst", "memory", "manager's resident memory, all RUNNING", "MiB"),
            row("list", "whole", &format!("GetWorkspaces, all {count}"), "ms"),
            row("list", "owner", &format!("GetWorkspaces, one owner of {OWNERS}"), "ms"),
            row("stop", "gone", &format!("{count} stops: until all gone"), "ms").over(&gone),
            row("stop", "cpu of stop", "manager's CPU, a stop", "ms"),
        ];
        self.rows.extend(rows);
        self.rows.extend([all, each, gone]);
        Ok(())
    }

    async fn crowd_of_workspaces(&self, names: &[String], of: &mut BTreeMap<&str, Vec<f64>>) -> Result<()> {
        let count = number(names.len());
        let manager = self.stage.manager()?;
        let (begun, cpu) = (Instant::now(), usage::cpu_seconds(manager)?);
        let calls = self.start(names).await?;
        let called = begun.elapsed();
        let up = self.stage.workspaces.wait(names, Moment::Running).await?;
        let used = usage::cpu_seconds(manager)? - cpu;
        let mut note = |key, value| of.entry(key).or_default().push(value);
        note("running", ms(until_last(begun, &up)));
        note("rate", count / called.as_secs_f64());
        note("cpu", used * 1000.0 / count);
        note("memory", usage::resident_mib(manager)?);
        for ((begun, took), up) in calls.iter().zip(&up) {
            note("call", ms(*took));
            note("each", ms(up.duration_since(*begun)));
        }
        self.lists(names.len(), of).await?;
        let (begun, cpu) = (Instant::now(), usage::cpu_seconds(manager)?);
        self.clear(names).await?;
        of.entry("gone").or_default().push(ms(begun.elapsed()));
        let used = usage::cpu_seconds(manager)? - cpu;
        of.entry("cpu of stop").or_default().push(used * 1000.0 / count);
        Ok(())
    }

    async fn crowd_of_pods(&self, names: &[String], of: &mut BTreeMap<&str, Vec<f64>>) -> Result<()> {
        let begun = Instant::now();
        let calls = self.create_pods(names).await?;
        let up = self.stage.pods.wait(names, Moment::Running).await?;
        let mut note = |key, value| of.entry(key).or_default().push(value);
        note("pods running", ms(until_last(begun, &up)));
        for ((begun, _), up) in calls.iter().zip(&up) {
            note("pod running", ms(up.duration_since(*begun)));
        }
        let begun = Instant::now();
        let gone = self.delete_pods(names).await?;
        note("pods gone", ms(until_last(begun, &gone)));
        Ok(())
    }

    /// d. All that live, and those of one owner.
    async fn lists(&self, live: usize, of: &mut BTreeMap<&str, Vec<f64>>) -> Result<()> {
        let mut client = self.stage.client.clone();
        let owner = MetadataFilter { owner: "owner-0".to_owned(), ..MetadataFilter::default() };
        for _ in 0..LISTS {
            let filters = [("whole", None, live), ("owner", Some(owner.clone()), live.div_ceil(OWNERS))];
            for (key, must_match, expected) in filters {
                let begun = Instant::now();
                let request = GetWorkspacesRequest { must_match, ..GetWorkspacesRequest::default() };
                let found = client.get_workspaces(request).await?.into_inner().status.len();
                of.entry(key).or_default().push(ms(begun.elapsed()));
                ensure!(found == expected, "GetWorkspaces ({key}) has {found} workspaces, not {expected}");
            }
        }
        Ok(())
    }

    /// API calls of a lifecycle, one workspace after the other and nothing else going on.
    pub async fn calls(&mut self) -> Result<()> {
        let client = self.stage.cluster.client();
        let before = usage::requests(&client).await?;
        for (at, name) in ids("counted", COUNTED).iter().enumerate() {
            tell(at, COUNTED, "API calls of a lifecycle");
            let name = std::slice::from_ref(name);
            self.start(name).await?;
            self.stage.workspaces.wait(name, Moment::Running).await?;
            self.stop(name).await?;
            self.stage.workspaces.wait(name, Moment::Gone).await?;
        }
        // Events may trail.
        sleep(Duration::from_secs(1)).await;
        let after = usage::requests(&client).await?;
        let mut of: BTreeMap<&str, f64> = BTreeMap::new();
        for (request, count) in after {
            let each = (count - before.get(&request).copied().unwrap_or_default()) / number(COUNTED);
            if each > 0.0 {
                let sender = usage::sender(&request);
                *of.entry(sender).or_default() += each;
                let shown = if sender.is_empty() { "several" } else { sender };
                self.rows.push(Row::new("calls", &format!("{request} ({shown})"), "calls", vec![each]));
            }
        }
        let own = of.get("manager").copied().unwrap_or_default();
        let most = own + of.get("").copied().unwrap_or_default();
        self.rows.push(Row::new("calls", "manager's, at least", "calls", vec![own]));
        self.rows.push(Row::new("calls", "manager's, at most", "calls", vec![most]));
        Ok(())
    }

    /// Starts workspaces, 32 at once; when each call began and how long it took.
    async fn start(&self, names: &[String]) -> Result<Vec<(Instant, Duration)>> {
        let calls = names.iter().enumerate().map(|(at, name)| {
            let (mut client, request) = (self.stage.client.clone(), request(name, at % OWNERS));
            async move {
                let begun = Instant::now();
                client.start_workspace(request).await.with_context(|| format!("cannot start {name}"))?;
                anyhow::Ok((at, (begun, begun.elapsed())))
            }
        });
        at_once(calls).await
    }

    async fn stop(&self, names: &[String]) -> Result<()> {
        let calls = names.iter().map(|name| {
            let mut client = self.stage.client.clone();
            async move {
                let request = StopWorkspaceRequest { id: name.clone(), policy: 0 };
                client.stop_workspace(request).await.with_context(|| format!("cannot stop {name}"))?;
                anyhow::Ok(())
            }
        });
        stream::iter(calls).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Stops workspaces and waits until they are STOPPED on the stream and their resources are gone.
    async fn clear(&self, names: &[String]) -> Result<()> {
        self.stop(names).await?;
        self.stage.workspaces.wait(names, Moment::Gone).await?;
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        loop {
            let left = self.resources.list_metadata(&ListParams::default()).await?;
            let mut left = left.items.iter().filter_map(|object| object.metadata.name.as_deref());
            if !left.any(|name| names.contains(name)) {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn create_pods(&self, names: &[String]) -> Result<Vec<(Instant, Duration)>> {
        let calls = names.iter().enumerate().map(|(at, name)| async move {
            let mut pod = self.pod.clone();
            pod["metadata"]["name"] = Value::from(name.as_str());
            let pod: Pod = serde_json::from_value(pod)?;
            let begun = Instant::now();
            self.pods.create(&PostParams::default(), &pod).await.context("cannot create a pod")?;
            anyhow::Ok((at, (begun, begun.elapsed())))
        });
        at_once(calls).await
    }

    async fn delete_pods(&self, names: &[String]) -> Result<Vec<Instant>> {
        let calls = names.iter().map(|name| async move {
            self.pods.delete(name, &DeleteParams::default()).await.context("cannot delete a pod")?;
            anyhow::Ok(())
        });
        stream::iter(calls).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        self.stage.pods.wait(names, Moment::Gone).await
    }
}

/// Does numbered work, 32 at once whatever takes long; the outcomes by number.
async fn at_once<T, F: Future<Output = Result<(usize, T)>>>(work: impl Iterator<Item = F>) -> Result<Vec<T>> {
    let mut done: Vec<(usize, T)> = stream::iter(work).buffer_unordered(AT_ONCE).try_collect().await?;
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, outcome)| outcome).collect())
}

fn request(id: &str, owner: usize) -> StartWorkspaceRequest {
    let initializer =
        WorkspaceInitializer { spec: Some(workspace_initializer::Spec::Empty(EmptyInitializer {})) };
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
            ..StartWorkspaceSpec::default()
        }),
        r#type: 0,
    }
}

fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

fn first<T>(list: Vec<T>) -> Result<T> {
    list.into_iter().next().context("nothing was done")
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn until_last(begun: Instant, times: &[Instant]) -> Duration {
    times.iter().max().map(|last| last.duration_since(begun)).unwrap_or_default()
}

fn tell(at: usize, count: usize, what: &str) {
    if at.is_multiple_of(10) {
        eprintln!("{what}: {at} of {count}");
    }
}
