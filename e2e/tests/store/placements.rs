//! One record a workspace id, one live workspace a meta id.

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
    // The id is remembered, the meta id is free.
    ensure!(
        store.claim(&term, &record("a", "m")?).await?
            == Claim::IdTaken(Box::new(ended.value.clone()), ended.version)
    );
    claimed(store, &term, &record("b", "m")?).await?;
    ensure!(store.live_placements(&"eu".parse()?).await? == 1);
    // The meta id is b's now, so what happens to a leaves it alone.
    let over =
        store.claim_over(&term, &PlacementRecord { generation: 2, ..a.clone() }, ended.version).await?;
    ensure!(over == Claim::MetaTaken { workspace: "b".parse()? });
    ensure!(store.sweep_expired(&term, jiff::Timestamp::from_second(199)?).await? == 0);
    ensure!(store.sweep_expired(&term, expires).await? == 1);
    ensure!(store.placement(&a.workspace).await?.is_none());
    ensure!(store.claim(&term, &record("c", "m")?).await? == Claim::MetaTaken { workspace: "b".parse()? });
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
