//! Elections, and that only the leader writes.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_within_its_lease_and_a_second() -> Result<()> {
    let room = Room::open().await?;
    let first = room.stand("first", short()).await?;
    let old = first.leads(SOON).await?;
    let second = room.stand("second", short()).await?;
    second.follows("first", SOON).await?;
    let killed = Instant::now();
    first.kill();
    let new = second.leads(short().ttl + Duration::from_secs(1)).await?;
    println!("took over {:?} after the kill (lease {:?})", killed.elapsed(), short().ttl);
    ensure!(new.epoch() > old.epoch() && new.revision() > new.epoch());
    ensure!(!old.is_valid(), "the old term outlived its lease");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_shutdown_hands_over_at_once() -> Result<()> {
    let room = Room::open().await?;
    let mut first = room.stand("first", Timing::default()).await?;
    let old = first.leads(SOON).await?;
    let second = room.stand("second", Timing::default()).await?;
    second.follows("first", SOON).await?;
    let third = room.stand("third", Timing::default()).await?;
    third.follows("first", SOON).await?;
    let replicas = room.store.replicas().await?.into_iter().map(|leader| leader.replica).collect::<Vec<_>>();
    ensure!(replicas == ["first", "second", "third"], "{replicas:?}");
    let asked = Instant::now();
    first.shutdown.cancel();
    let new = second.leads(AT_ONCE).await?;
    println!("handed over in {:?}", asked.elapsed());
    timeout(AT_ONCE, &mut first.task).await???;
    third.follows("second", AT_ONCE).await?;
    ensure!(new.epoch() > old.epoch() && !old.is_valid());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_terms_write_is_refused_though_its_clock_allows_it() -> Result<()> {
    let room = Room::open().await?;
    let (leader, stale) = room.lead().await?;
    let second = room.stand("second", Timing::default()).await?;
    second.follows("leader", SOON).await?;
    let store = leader.store.clone();
    leader.kill();
    // As if its lease had expired while the process was frozen.
    let mut etcd = room.etcd.connect().await?;
    let key = etcd.get("/spaceport/leader/", Some(etcd_client::GetOptions::new().with_prefix())).await?;
    let oldest = key.kvs().iter().min_by_key(|kv| kv.create_revision()).context("no candidate")?;
    etcd.delete(oldest.key(), None).await?;
    let new = second.leads(AT_ONCE).await?;
    ensure!(stale.is_valid(), "the stale term must still look valid for this test to mean anything");
    let refused = store.claim(&stale, &record("a", "m")?).await;
    ensure!(matches!(refused, Err(Error::NotLeader { epoch, .. }) if epoch == stale.epoch()), "{refused:?}");
    ensure!(!stale.is_valid(), "a refused term is over");
    ensure!(room.store.placement(&"a".parse()?).await?.is_none());
    claimed(&second.store, &new, &record("a", "m")?).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_from_etcd_stops_by_itself_and_leads_again_in_the_same_process() -> Result<()> {
    let room = Room::open().await?;
    let leader = room.stand("leader", short()).await?;
    let term = leader.leads(SOON).await?;
    room.etcd.pause().await?;
    let frozen = Instant::now();
    timeout(SOON, term.ended()).await?;
    println!("stopped by itself {:?} after etcd froze", frozen.elapsed());
    ensure!(frozen.elapsed() <= short().stop_after + Duration::from_millis(100), "stopped too late");
    let mut leadership = leader.leadership.clone();
    timeout(SOON, leadership.wait_for(|now| matches!(now, Leadership::Standby { .. }))).await??;
    sleep(short().ttl).await;
    room.etcd.resume().await?;
    let again = leader.leads(SOON).await?;
    ensure!(again.epoch() > term.epoch() && again.is_valid() && !term.is_valid());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_restart_of_etcd_costs_no_leadership() -> Result<()> {
    let room = Room::open().await?;
    let leader = room.stand("leader", patient()).await?;
    let term = leader.leads(SOON).await?;
    leader.store.create_cluster(&term, &sealer()?, &cluster("eu")?).await?;
    room.etcd.stop().await?;
    room.etcd.start().await?;
    sleep(Duration::from_secs(3)).await;
    ensure!(term.is_valid());
    claimed(&leader.store, &term, &record("a", "m")?).await?;
    ensure!(leader.leads(SOON).await?.epoch() == term.epoch());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_candidates_exactly_one_leads_at_any_time() -> Result<()> {
    let room = Room::open().await?;
    let stand = |n: usize| {
        let room = &room;
        async move { room.stand(&format!("r{n}"), short()).await }
    };
    let mut candidates = futures::future::try_join_all((0..5).map(stand)).await?;
    let mut epochs = Vec::new();
    while !candidates.is_empty() {
        let terms: Vec<_> = candidates.iter().map(|candidate| Box::pin(candidate.leads(SOON))).collect();
        let (term, at, _) = futures::future::select_all(terms).await;
        epochs.push(term?.epoch());
        sleep(Duration::from_millis(200)).await;
        let leading = |c: &Candidate| matches!(&*c.leadership.borrow(), Leadership::Leading { .. });
        ensure!(candidates.iter().filter(|c| leading(c)).count() == 1);
        candidates.remove(at).shutdown.cancel();
    }
    ensure!(epochs.is_sorted() && epochs.len() == 5, "{epochs:?}");
    Ok(())
}
