//! One record per workspace id, one live workspace per meta id.

use prometheus::core::Collector as _;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_claims_of_one_meta_id_exactly_one_wins() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    for round in 0..10 {
        let claim = |n: usize| {
            let (store, term) = (leader.store.clone(), term.clone());
            async move {
                Ok::<_, anyhow::Error>(
                    store.claim(&term, &record(&format!("w{round}-{n}"), &format!("m{round}"))?).await?,
                )
            }
        };
        let claims = futures::future::try_join_all((0..8).map(claim)).await?;
        let winners: Vec<_> = (0..8).filter(|n| matches!(claims[*n], Claim::Claimed { .. })).collect();
        ensure!(winners.len() == 1, "{claims:?}");
        let winner: WorkspaceId = format!("w{round}-{}", winners[0]).parse()?;
        let lost = |claim: &&Claim| **claim == Claim::MetaTaken { workspace: winner.clone() };
        ensure!(claims.iter().filter(lost).count() == 7, "{claims:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_claims_of_one_workspace_id_exactly_one_wins() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let claim = |n: usize| {
        let (store, term) = (leader.store.clone(), term.clone());
        async move { Ok::<_, anyhow::Error>(store.claim(&term, &record("w", &format!("m{n}"))?).await?) }
    };
    let claims = futures::future::try_join_all((0..8).map(claim)).await?;
    ensure!(claims.iter().filter(|claim| matches!(claim, Claim::Claimed { .. })).count() == 1, "{claims:?}");
    ensure!(claims.iter().filter(|claim| matches!(claim, Claim::IdTaken(..))).count() == 7, "{claims:?}");
    // The losers' meta ids are free.
    let free = futures::future::try_join_all((0..8).map(async |n| {
        Ok::<_, anyhow::Error>(leader.store.claim(&term, &record(&format!("x{n}"), &format!("m{n}"))?).await?)
    }))
    .await?;
    ensure!(free.iter().filter(|claim| matches!(claim, Claim::Claimed { .. })).count() == 7, "{free:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_lives_and_its_meta_id_is_held_exactly_as_long() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let store = &leader.store;
    let a = record("a", "m")?;
    let placed = claimed(store, &term, &a).await?;
    let confirmed = store.confirm(&term, &a, placed).await?;
    let late = store.confirm(&term, &a, placed).await;
    ensure!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
    let second = store.claim(&term, &record("b", "m")?).await?;
    ensure!(second == Claim::MetaTaken { workspace: "a".parse()? });
    let (at, expires) = (jiff::Timestamp::from_second(100)?, jiff::Timestamp::from_second(200)?);
    store.end(&term, &a, confirmed, at, expires).await?;
    let ended = store.placement(&a.workspace).await?.context("no record")?;
    ensure!(ended.value.state == RecordState::Ended { at, expires });
    // The id is still taken, the meta id is free.
    ensure!(
        store.claim(&term, &record("a", "m")?).await?
            == Claim::IdTaken(Box::new(ended.value.clone()), ended.version)
    );
    claimed(store, &term, &record("b", "m")?).await?;
    ensure!(store.live_placements(&"eu".parse()?).await? == 1);
    // The meta id is b's now, so changes of a do not affect it.
    let over =
        store.claim_over(&term, &PlacementRecord { generation: 2, ..a.clone() }, ended.version).await?;
    ensure!(over == Claim::MetaTaken { workspace: "b".parse()? });
    ensure!(store.sweep_expired(&term, jiff::Timestamp::from_second(199)?).await? == 0);
    ensure!(store.sweep_expired(&term, expires).await? == 1);
    ensure!(store.placement(&a.workspace).await?.is_none());
    ensure!(store.claim(&term, &record("c", "m")?).await? == Claim::MetaTaken { workspace: "b".parse()? });
    Ok(())
}

/// Number of reads of etcd.
fn reads(store: &Store) -> u64 {
    let families = store.meter().collect();
    let requests = families.iter().filter(|family| family.name() == "spaceport_etcd_request_seconds");
    let metrics = requests.flat_map(prometheus::proto::MetricFamily::get_metric);
    let reads = metrics.filter(|metric| metric.get_label().iter().any(|label| label.value() == "read"));
    reads.map(|metric| metric.get_histogram().get_sample_count()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_lists_all_records_once_however_many_have_expired() -> Result<()> {
    const ENDED: usize = 250;
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let store = &leader.store;
    let (at, expires) = (jiff::Timestamp::from_second(100)?, jiff::Timestamp::from_second(200)?);
    let ended = (0..ENDED).map(async |n| {
        let record = record(&format!("w{n}"), &format!("m{n}"))?;
        let version = claimed(store, &term, &record).await?;
        anyhow::Ok(store.end(&term, &record, version, at, expires).await?)
    });
    futures::future::try_join_all(ended).await?;
    claimed(store, &term, &record("live", "live")?).await?;
    let before = reads(store);
    let removed = store.sweep_expired(&term, expires).await?;
    ensure!(removed == ENDED, "{removed} were removed");
    let lists = reads(store) - before;
    ensure!(lists == 1, "{lists} reads for a page of records");
    ensure!(store.live_placements(&"eu".parse()?).await? == 1, "the live one");
    ensure!(store.placement(&"w0".parse()?).await?.is_none(), "one was left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_made_nothing_moves_or_is_forgotten() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let store = &leader.store;
    let a = record("a", "m")?;
    let version = claimed(store, &term, &a).await?;
    let moved = PlacementRecord { cluster: "us".parse()?, ..a.clone() };
    let unknown = store.reclaim(&term, &moved, version).await;
    ensure!(matches!(unknown, Err(Error::ClusterNotFound { .. })), "{unknown:?}");
    store.create_cluster(&term, &sealer()?, &cluster("us")?).await?;
    let version = store.reclaim(&term, &moved, version).await?;
    let late = store.reclaim(&term, &a, version - 1).await;
    ensure!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
    ensure!(store.placement(&a.workspace).await?.context("no record")?.value.cluster.as_str() == "us");
    store.forget(&term, &moved, version).await?;
    claimed(store, &term, &record("b", "m")?).await?;
    claimed(store, &term, &record("a", "n")?).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_placed_in_a_cluster_that_is_not_registered() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let nowhere = PlacementRecord { cluster: "nowhere".parse()?, ..record("a", "m")? };
    let refused = leader.store.claim(&term, &nowhere).await;
    ensure!(
        matches!(&refused, Err(Error::ClusterNotFound { cluster }) if cluster.as_str() == "nowhere"),
        "{refused:?}"
    );
    ensure!(leader.store.placement(&"a".parse()?).await?.is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_workspaces_with_one_url_exactly_one_is_live() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let store = &leader.store;
    let port_of = |id: &str, meta: &str, owner: &str| {
        Ok::<_, anyhow::Error>(PlacementRecord { port_of: Some(vec![owner.parse()?]), ..record(id, meta)? })
    };
    for round in 0..10 {
        let (owner, alias) = (format!("m{round}"), format!("3000-m{round}"));
        let one = record(&format!("a{round}"), &owner)?;
        let other = port_of(&format!("b{round}"), &alias, &owner)?;
        let (first, second) = tokio::try_join!(store.claim(&term, &one), store.claim(&term, &other))?;
        let won = [&first, &second].iter().filter(|claim| matches!(claim, Claim::Claimed { .. })).count();
        let taken = [&first, &second].iter().filter(|claim| matches!(claim, Claim::HostTaken { .. })).count();
        ensure!((won, taken) == (1, 1), "{first:?} {second:?}");
    }
    // Freed with the record, also if a manager of an earlier release ended it without freeing the URL.
    let alias = port_of("alias", "3000-foo", "foo")?;
    let version = claimed(store, &term, &alias).await?;
    let taken = store.claim(&term, &record("foo", "foo")?).await?;
    ensure!(taken == Claim::HostTaken { workspace: "alias".parse()? }, "{taken:?}");
    let (at, expires) = (jiff::Timestamp::from_second(100)?, jiff::Timestamp::from_second(200)?);
    store.end(&term, &PlacementRecord { port_of: None, ..alias.clone() }, version, at, expires).await?;
    let version = claimed(store, &term, &record("foo", "foo")?).await?;
    let taken = store.claim(&term, &port_of("again", "3000-foo", "foo")?).await?;
    ensure!(taken == Claim::HostTaken { workspace: "foo".parse()? }, "{taken:?}");
    store.forget(&term, &record("foo", "foo")?, version).await?;
    let version = claimed(store, &term, &port_of("again", "3000-foo", "foo")?).await?;
    store.forget(&term, &port_of("again", "3000-foo", "foo")?, version).await?;
    claimed(store, &term, &record("foo", "foo")?).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_workspaces_with_one_folder_exactly_one_is_live() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let store = &leader.store;
    let (at, expires) = (jiff::Timestamp::from_second(100)?, jiff::Timestamp::from_second(200)?);
    for (first, second) in [("x", "x-daemon"), ("y-daemon", "y")] {
        let record_of = |id: &str| record(id, id);
        let version = claimed(store, &term, &record_of(first)?).await?;
        let taken = store.claim(&term, &record_of(second)?).await?;
        ensure!(taken == Claim::FolderTaken { workspace: first.parse()? }, "{taken:?}");
        // An ended record blocks nothing.
        store.end(&term, &record_of(first)?, version, at, expires).await?;
        claimed(store, &term, &record_of(second)?).await?;
    }
    Ok(())
}
