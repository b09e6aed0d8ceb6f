//! Effects of failures and their duration: takeover, one bad cluster of several, detection and recovery.

use anyhow::{Context as _, Result, ensure};
use futures::{FutureExt as _, future::join_all};
use tokio::time::{Duration, Instant, sleep};

use e2e::harness::Part;

use crate::{
    table::rank,
    tracker::Moment,
    work::{Bench, ids, ms, request},
};

/// Interval of reading a gauge.
const LOOK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_mins(2);
/// Starts that hang on the bad cluster meanwhile.
const HANGING: usize = 8;
/// Resamples for the interval of the difference.
const RESAMPLED: usize = 1000;

impl Bench {
    /// The leader is killed, or ends cleanly: time until the standby has acknowledged a start.
    pub async fn takeover(&mut self, rounds: usize) -> Result<()> {
        let alone = self.stage.replicas.len() == 1;
        if alone {
            self.stage.add_manager("standby").await?;
        }
        let live = self.live;
        for (round, clean) in (0..rounds).flat_map(|round| [(round, false), (round, true)]) {
            let (kind, name) = if clean { ("clean end", "handover") } else { ("kill -9", "takeover") };
            eprintln!("{name} with {live} live, round {} of {rounds}", round + 1);
            let name = format!("{name}-{live}-{round}");
            self.stage.swap();
            let begun = Instant::now();
            let (ended, started) = tokio::join!(
                async {
                    if clean {
                        self.stage.stop(1).await
                    } else {
                        self.stage.replicas[1].process.kill().await.map(drop)
                    }
                },
                async {
                    // Ask only after the signal is sent, so that the leader does not serve it.
                    sleep(LOOK).await;
                    self.until_started(&name, "", begun).await
                }
            );
            ended?;
            let what = format!("{kind}: until the first start, {live} live");
            self.record.note("takeover", &what, "ms", ms(started?));
            self.stage.start_again(1).await?;
            self.stage.ready(1).await?;
            self.stage.workspaces.wait(std::slice::from_ref(&name), Moment::Running).await?;
            self.clear(&[name]).await?;
        }
        if alone {
            // The tracker follows the first manager that was started; after an even number of rounds it leads again.
            self.stage.stop(1).await?;
            self.stage.replicas.truncate(1);
            self.stage.clients.truncate(1);
        }
        Ok(())
    }

    /// One cluster hangs in every other round: starts on the others.
    pub async fn bad_cluster(&mut self, rounds: usize, starts: usize) -> Result<()> {
        let others: Vec<String> =
            self.stage.fleet.clusters().iter().skip(1).map(|it| it.name().to_owned()).collect();
        let bad = self.stage.cluster(0)?.clone();
        let (mut well, mut ill) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            eprintln!("one bad cluster among {}: round {} of {rounds}", others.len() + 1, round + 1);
            self.until(bad.name(), "Available", true).await?;
            well.extend(self.on_others(&format!("well-{round}"), &others, starts).await?);
            bad.pause(Part::ApiServer).await?;
            let names = ids(&format!("hangs-{round}"), HANGING);
            let hanging = join_all(names.iter().map(|name| {
                let (mut client, request) = (self.stage.client(), request(name, 0, bad.name()));
                let begun = Instant::now();
                // The result of the start does not matter.
                async move { client.start_workspace(request).await.map_or_else(drop, drop) }
                    .map(move |()| begun.elapsed())
            }));
            let prefix = format!("ill-{round}");
            let (answered, measured) = tokio::join!(hanging, self.on_others(&prefix, &others, starts));
            bad.resume(Part::ApiServer).await?;
            ill.extend(measured?);
            for took in answered {
                let what = "StartWorkspace on the one that hangs, until an error";
                self.record.note("bad-cluster", what, "ms", ms(took));
            }
        }
        for (what, samples) in [("all clusters available", &well), ("one cluster hangs", &ill)] {
            for sample in samples {
                self.record.note("bad-cluster", &format!("StartWorkspace, {what}"), "ms", *sample);
            }
        }
        self.record.floor(
            "bad-cluster",
            "StartWorkspace, one cluster hangs",
            "StartWorkspace, all clusters available",
        );
        let (low, high) = difference_of_p99(&well, &ill);
        self.record.note("bad-cluster", "p99 more while one hangs, 95 % interval: from", "ms", low);
        self.record.note("bad-cluster", "p99 more while one hangs, 95 % interval: to", "ms", high);
        Ok(())
    }

    /// Starts one workspace after the other, on each cluster in turn; returns how long the calls took.
    async fn on_others(&self, prefix: &str, others: &[String], starts: usize) -> Result<Vec<f64>> {
        let mut took = Vec::with_capacity(starts);
        let names = ids(prefix, starts);
        for (name, cluster) in names.iter().zip(others.iter().cycle()) {
            let begun = Instant::now();
            self.stage.client().start_workspace(request(name, 0, cluster)).await?;
            took.push(ms(begun.elapsed()));
        }
        self.stage.workspaces.wait(&names, Moment::Running).await?;
        self.stop(&names).await?;
        self.stage.workspaces.wait(&names, Moment::Gone).await?;
        Ok(took)
    }

    /// How soon it is detected that a cluster does not respond, and that it responds again.
    pub async fn detection(&mut self, whole: bool) -> Result<()> {
        let last = self.stage.fleet.clusters().len() - 1;
        let (hangs, refuses) = (self.stage.cluster(last)?.clone(), self.stage.cluster(last - 1)?.clone());
        let apiserver = refuses.process(Part::ApiServer).context("no apiserver")?;
        let begun = Instant::now();
        apiserver.kill().await?;
        self.until(refuses.name(), "Available", false).await?;
        self.seen("killed, so that it refuses: until no more starts are placed", begun);
        refuses.start_apiserver().await?;
        let begun = Instant::now();
        hangs.pause(Part::ApiServer).await?;
        let seen = self.until_lost(hangs.name(), begun, whole).await;
        let begun = Instant::now();
        hangs.resume(Part::ApiServer).await?;
        seen?;
        if whole {
            self.until(hangs.name(), "Available", true).await?;
            self.seen("answers again: until starts are placed", begun);
        }
        Ok(())
    }

    async fn until_lost(&mut self, hangs: &str, begun: Instant, whole: bool) -> Result<()> {
        self.until(hangs, "Available", false).await?;
        self.seen("hangs: until no more starts are placed", begun);
        if whole {
            self.until(hangs, "Lost", true).await?;
            self.seen("hangs: until its workspaces are shown as unreachable", begun);
        }
        Ok(())
    }

    fn seen(&mut self, what: &str, begun: Instant) {
        eprintln!("{what}: {} s", begun.elapsed().as_secs());
        self.record.note("detection", what, "ms", ms(begun.elapsed()));
    }

    /// Waits until a cluster has this health, or has not.
    async fn until(&self, cluster: &str, health: &str, wanted: bool) -> Result<()> {
        let begun = Instant::now();
        while self.stage.is(cluster, health).await? != wanted {
            let what = if wanted { "does not become" } else { "stays" };
            ensure!(begun.elapsed() < PATIENCE, "{cluster} {what} {health}");
            sleep(LOOK).await;
        }
        Ok(())
    }
}

/// The 95 % interval of the difference of the second p99 to the first, by resampling.
fn difference_of_p99(first: &[f64], second: &[f64]) -> (f64, f64) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut resampled = |samples: &[f64]| {
        let mut drawn: Vec<f64> = (0..samples.len())
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = usize::try_from(state >> 33).unwrap_or_default() % samples.len();
                samples[at]
            })
            .collect();
        drawn.sort_by(f64::total_cmp);
        rank(&drawn, 99)
    };
    let mut differences: Vec<f64> = (0..RESAMPLED).map(|_| resampled(second) - resampled(first)).collect();
    differences.sort_by(f64::total_cmp);
    (differences[RESAMPLED / 40], differences[RESAMPLED - 1 - RESAMPLED / 40])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_zero_for_the_same_samples_and_not_for_slower_ones() {
        let samples: Vec<f64> = (0..200).map(f64::from).collect();
        let slower: Vec<f64> = samples.iter().map(|sample| sample + 100.0).collect();
        let (low, high) = difference_of_p99(&samples, &samples);
        assert!(low <= 0.0 && high >= 0.0, "{low} to {high}");
        let (low, high) = difference_of_p99(&samples, &slower);
        assert!(low > 50.0 && high < 150.0, "{low} to {high}");
    }
}
