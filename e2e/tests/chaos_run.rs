//! Three replicas on three clusters while replicas are killed, frozen and cut off: nothing is lost, nothing is twice.

use std::time::Duration;

use anyhow::Result;

use crate::chaos::{run::run, stage::Stage};
use crate::story::fleet;

/// Of the faults alone. `make chaos SEED= MINUTES=` has any other.
const TIME: Duration = Duration::from_secs(25);
const SEED: u64 = 7;

#[test]
fn whatever_replica_dies_freezes_or_is_cut_off_nothing_is_lost_and_nothing_is_twice() -> Result<()> {
    crate::harness::block_on(async {
        let (fleet, kubeconfigs) = fleet().await?;
        let stage = Stage::set(fleet, kubeconfigs, "chaos").await?;
        eprintln!("chaos: {}", run(stage, SEED, TIME).await?);
        Ok(())
    })
}
