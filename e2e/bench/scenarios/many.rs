//! Scenarios with many live workspaces: lists, idling, start of the process, and heartbeats.

use anyhow::{Result, ensure};
use futures::{StreamExt as _, stream};
use proto::wsman::{GetWorkspacesRequest, MarkActiveRequest, MetadataFilter};
use tokio::time::{Duration, Instant, sleep, sleep_until};

use crate::{
    tracker::Moment,
    work::{Bench, OWNERS, ms, number, request},
};

/// GetWorkspaces calls of each kind.
const LISTS: usize = 30;
/// Interval in which each workspace is reported as active.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Concurrent heartbeats.
const HEARTBEATS_AT_ONCE: usize = 64;
/// Interval of the starts that are tried while a process begins.
const TRY: Duration = Duration::from_millis(5);
/// Interval of the lists that are tried meanwhile, which cost it more.
const LOOK: Duration = Duration::from_millis(20);
/// A started process completes its own writes within this.
const SETTLED: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_mins(2);

impl Bench {
    /// In turn, all live workspaces, and those of one owner.
    pub async fn lists(&mut self) -> Result<()> {
        let live = self.live;
        for _ in 0..LISTS {
            for (what, must_match) in [("all", None), ("one owner of 20", Some(owner()))] {
                let expected = if must_match.is_some() { live.div_ceil(OWNERS) } else { live };
                let found = self.list(must_match).await?;
                let (found, took) = found;
                ensure!(found == expected, "GetWorkspaces ({what}) has {found} workspaces, not {expected}");
                self.record.note("list", &format!("GetWorkspaces at {live}, {what}"), "ms", ms(took));
            }
        }
        Ok(())
    }

    async fn list(&self, must_match: Option<MetadataFilter>) -> Result<(usize, Duration)> {
        let begun = Instant::now();
        let request = GetWorkspacesRequest { must_match, ..GetWorkspacesRequest::default() };
        let answer = self.stage.client().get_workspaces(request).await?;
        // Measure before the benchmark's own work: dropping thousands of messages takes milliseconds.
        let took = begun.elapsed();
        Ok((answer.into_inner().status.len(), took))
    }

    /// Cost while nothing happens.
    pub async fn idle(&mut self, window: Duration) -> Result<()> {
        let of = format!(", {} live, {} clusters", self.live, self.stage.fleet.clusters().len());
        eprintln!("idle{of}: {} s", window.as_secs());
        let meter = self.stage.meter()?;
        sleep(window).await;
        let spent = self.stage.spent(&meter, None)?;
        for (program, seconds) in &spent.cpu {
            let share = seconds * 100.0 / spent.seconds;
            self.record.note("idle", &format!("CPU of {program}{of}"), "%", share);
        }
        for program in ["manager", "standby"] {
            if let Some(mib) = spent.memory.get(program) {
                self.record.note("idle", &format!("memory of {program}{of}"), "MiB", *mib);
            }
        }
        self.record.calls("idle", &of, &spent.calls);
        let calls = spent.calls_of("manager") * 60.0 / spent.seconds;
        self.record.note("idle", &format!("manager's API calls a minute{of}"), "calls", calls);
        Ok(())
    }

    /// Restarts the manager's process, alone: time until it lists all, time until it accepts a start, and what it
    /// writes meanwhile.
    pub async fn restart(&mut self, rounds: usize) -> Result<()> {
        for standby in 1..self.stage.replicas.len() {
            self.stage.stop(standby).await?;
        }
        for round in 0..rounds {
            let live = self.live;
            eprintln!("process start with {live} live, round {} of {rounds}", round + 1);
            self.stage.stop(0).await?;
            let begun = Instant::now();
            self.stage.start_again(0).await?;
            let name = format!("again-{live}-{round}");
            let meter = self.stage.meter()?;
            let give_up = begun + PATIENCE;
            // A list of all costs as much as loading them, so it is tried only once those of one owner are there.
            let all = async {
                for (owner, expected) in [(Some(owner()), live.div_ceil(OWNERS)), (None, live)] {
                    while !self.list(owner.clone()).await.is_ok_and(|(found, _)| found >= expected) {
                        ensure!(Instant::now() < give_up, "not all workspaces are shown after {PATIENCE:?}");
                        sleep(LOOK).await;
                    }
                }
                anyhow::Ok(begun.elapsed())
            };
            let start = self.until_started(&name, "", begun);
            let (all, start) = tokio::try_join!(all, start)?;
            sleep(SETTLED).await;
            let spent = self.stage.spent(&meter, Some(&name))?;
            self.record.calls("restart", &format!("{live} live, round {}", round + 1), &spent.calls);
            self.record.note("restart", &format!("until all {live} are shown"), "ms", ms(all));
            self.record.note("restart", &format!("until the first start, {live} live"), "ms", ms(start));
            let what = format!("manager's writes to clusters, {live} live");
            self.record.note("restart", &what, "calls", spent.writes());
            let what = format!("manager's reads of clusters, {live} live");
            self.record.note("restart", &what, "calls", spent.reads());
            self.record.note("restart", &format!("manager's CPU, {live} live"), "s", spent.cpu["manager"]);
            self.record.note(
                "restart",
                &format!("manager's memory, {live} live"),
                "MiB",
                spent.memory["manager"],
            );
            self.stage.workspaces.wait(std::slice::from_ref(&name), Moment::Running).await?;
            self.clear(&[name]).await?;
            let floor = format!("bare lists of {live} workspaces and their pods");
            self.record.note("restart", &floor, "ms", ms(self.bare_lists().await?));
            self.record.floor("restart", &format!("until all {live} are shown"), &floor);
        }
        for standby in 1..self.stage.replicas.len() {
            self.stage.start_again(standby).await?;
            self.stage.ready(standby).await?;
        }
        Ok(())
    }

    /// Repeats a start with the first manager until it is acknowledged; returns the time since `begun`.
    pub async fn until_started(&self, name: &str, cluster: &str, begun: Instant) -> Result<Duration> {
        let mut client = self.stage.client();
        loop {
            match client.start_workspace(request(name, 0, cluster)).await {
                Ok(_) => return Ok(begun.elapsed()),
                Err(status) => ensure!(begun.elapsed() < PATIENCE, "no start is acknowledged: {status}"),
            }
            sleep(TRY).await;
        }
    }

    /// Reports every live workspace as active each 30 s, evenly spread, for a while.
    pub async fn heartbeats(&mut self, window: Duration) -> Result<()> {
        let (live, begun) = (self.live, Instant::now());
        let apart = HEARTBEAT.div_f64(number(live));
        let beats = (window.as_secs_f64() / apart.as_secs_f64()).floor();
        eprintln!("{beats} heartbeats of {live} workspaces in {} s", window.as_secs());
        let meter = self.stage.meter()?;
        let calls = stream::iter((0u32..).take_while(|at| f64::from(*at) < beats)).map(|at| {
            let mut client = self.stage.client();
            async move {
                sleep_until(begun + apart * at).await;
                let id = format!("live-{}", usize::try_from(at)? % live);
                let asked = Instant::now();
                client.mark_active(MarkActiveRequest { id, ..MarkActiveRequest::default() }).await?;
                anyhow::Ok(asked.elapsed())
            }
        });
        let outcomes: Vec<_> = calls.buffer_unordered(HEARTBEATS_AT_ONCE).collect().await;
        let spent = self.stage.spent(&meter, None)?;
        let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        for took in outcomes.into_iter().flatten() {
            self.record.note("heartbeats", &format!("MarkActive, {live} live"), "ms", ms(took));
        }
        self.record.note("heartbeats", "heartbeats that failed", "", number(failed));
        self.record.note("heartbeats", "manager's writes a heartbeat", "calls", spent.writes() / beats);
        let each = spent.cpu["manager"] * 1000.0 / beats;
        self.record.note("heartbeats", "manager's CPU, a heartbeat", "ms", each);
        self.record.note("heartbeats", "seconds it took", "s", spent.seconds);
        self.note_spent("heartbeats", "", &spent);
        Ok(())
    }
}

/// One of the owners that workspaces get in turn.
fn owner() -> MetadataFilter {
    MetadataFilter { owner: "owner-0".to_owned(), ..MetadataFilter::default() }
}
