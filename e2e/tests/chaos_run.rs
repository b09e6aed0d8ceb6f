//! Three replicas on three clusters while replicas, etcd and a cluster are killed, frozen and cut off: nothing is lost,
//! nothing runs twice, and a closed cluster gets no workspaces.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::story::fleet;
use e2e::chaos::run::run;
use e2e::chaos::stage::{Ground, Stage};
use e2e::harness::node_agent::Pace;
use e2e::harness::spaceport::prepare_member;
use e2e::harness::{Audit, Cluster, ClusterOptions, NodeAgent};

/// Minimum time of the faults; extended until each has happened. `make chaos SEED= MINUTES=` runs any other time.
const TIME: Duration = Duration::from_secs(10);
const SEED: u64 = 7;

#[test]
fn whatever_dies_freezes_or_is_cut_off_nothing_is_lost_or_twice_and_what_was_closed_stays_closed()
-> Result<()> {
    e2e::harness::block_on(async {
        let (fleet, kubeconfigs) = fleet().await?;
        // Other stories use the shared clusters and etcd, so only its own cluster may be disturbed.
        let options = ClusterOptions { audit: Audit::Objects, ..ClusterOptions::named("chaos-1") };
        let ours = Cluster::boot(fleet.assets(), &fleet.dir().join("chaos-1"), options).await?;
        let ours = Arc::new(ours);
        let mut kubeconfigs = kubeconfigs.clone();
        kubeconfigs.insert(ours.name().to_owned(), prepare_member(&ours).await?);
        let _agent = NodeAgent::start(&ours.client(), Pace::default());
        let shared = ["eu-1", "us-1"].into_iter().map(|name| fleet.cluster(name).map(Arc::clone));
        let mut clusters = shared.collect::<Result<Vec<_>>>()?;
        clusters.push(Arc::clone(&ours));
        let ground = Ground {
            assets: fleet.assets(),
            dir: fleet.dir(),
            clusters,
            disturbable: vec![ours],
            kubeconfigs: &kubeconfigs,
        };
        let stage = Stage::set(ground, "chaos").await?;
        eprintln!("chaos: {}", run(stage, SEED, TIME).await?);
        Ok(())
    })
}
