//! Mirrors lose no event, whatever happens to etcd.

use std::collections::BTreeMap;

use store::{Mirror, MirrorEvent};

use super::*;

/// What a replica's index would hold.
#[derive(Default)]
struct Index {
    records: BTreeMap<String, (PlacementRecord, i64)>,
    resets: usize,
}

impl Index {
    fn apply(&mut self, event: MirrorEvent<PlacementRecord>) -> Result<()> {
        match event {
            MirrorEvent::Reset { items, .. } => {
                self.resets += 1;
                self.records = items.into_iter().map(|item| (item.key, (item.value, item.version))).collect();
            }
            MirrorEvent::Put(item) => {
                let old = self.records.insert(item.key.clone(), (item.value, item.version));
                ensure!(old.is_none_or(|(_, version)| version < item.version), "{} went back", item.key);
            }
            MirrorEvent::Delete { key, .. } => {
                ensure!(self.records.remove(&key).is_some(), "{key} was deleted but never put");
            }
            MirrorEvent::Unreadable { error, .. } => return Err(error.into()),
        }
        Ok(())
    }

    /// Takes events until the mirror has reached `revision`.
    async fn catch_up(&mut self, mirror: &mut Mirror<PlacementRecord>, revision: i64) -> Result<()> {
        let mut progress = mirror.progress();
        let take = async {
            loop {
                tokio::select! {
                    event = mirror.next() => self.apply(event)?,
                    caught_up = progress.caught_up(revision) => {
                        ensure!(caught_up);
                        return Ok(());
                    }
                }
            }
        };
        timeout(SOON, take).await.with_context(|| format!("never saw revision {revision}"))?
    }
}

async fn claim_many(store: &Store, term: &Term, name: &str, count: usize) -> Result<i64> {
    let mut last = 0;
    for n in 0..count {
        last = claimed(store, term, &record(&format!("{name}-{n}"), &format!("{name}-{n}"))?).await?;
    }
    Ok(last)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_etcd_loses_no_change_and_lists_nothing_again() -> Result<()> {
    let room = Room::open().await?;
    let leader = room.stand("leader", patient()).await?;
    let term = leader.leads(SOON).await?;
    leader.store.create_cluster(&term, &sealer()?, &cluster("eu")?).await?;
    let (mut mirror, mut index) = (room.store.mirror_placements(), Index::default());
    let last = claim_many(&leader.store, &term, "before", 5).await?;
    index.catch_up(&mut mirror, last).await?;
    claim_many(&leader.store, &term, "unseen", 5).await?;
    room.etcd.stop().await?;
    room.etcd.start().await?;
    let last = claim_many(&leader.store, &term, "after", 5).await?;
    index.catch_up(&mut mirror, last).await?;
    ensure!(index.records.len() == 15 && index.resets == 1, "{} {}", index.records.len(), index.resets);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_of_unseen_changes_lists_again() -> Result<()> {
    let room = Room::open().await?;
    let leader = room.stand("leader", patient()).await?;
    let term = leader.leads(SOON).await?;
    leader.store.create_cluster(&term, &sealer()?, &cluster("eu")?).await?;
    let (mut mirror, mut index) = (room.store.mirror_placements(), Index::default());
    let gone = record("gone", "gone")?;
    let version = claimed(&leader.store, &term, &gone).await?;
    index.catch_up(&mut mirror, version).await?;
    room.etcd.stop().await?;
    room.etcd.start().await?;
    leader.store.forget(&term, &gone, version).await?;
    let last = claim_many(&leader.store, &term, "after", 5).await?;
    room.etcd.connect().await?.compact(last, None).await?;
    index.catch_up(&mut mirror, last).await?;
    ensure!(
        index.resets == 2 && index.records.len() == 5 && !index.records.contains_key("gone"),
        "{}",
        index.resets
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_advances_while_nothing_changes() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let (mut mirror, mut index) = (room.store.mirror_placements(), Index::default());
    index.catch_up(&mut mirror, term.revision()).await?;
    // Not a placement, so no event has this revision.
    let cordoned = ClusterSpec { cordoned: true, ..cluster("eu")?.spec };
    let version = leader.store.clusters(&sealer()?).await?.remove(0)?.version;
    let version = leader.store.update_cluster(&term, version, &cordoned).await?;
    let asked = Instant::now();
    index.catch_up(&mut mirror, version).await?;
    println!("caught up in {:?}", asked.elapsed());
    ensure!(
        asked.elapsed() < Duration::from_millis(500),
        "whoever waits must not wait for the next regular question"
    );
    ensure!(index.records.is_empty() && index.resets == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_survives_a_frozen_etcd_and_more_records_than_a_page() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let mut etcd = room.etcd.connect().await?;
    for n in 0..1200 {
        let id = format!("w{n}");
        let mut value = serde_json::to_value(record(&id, &id)?)?;
        value["v"] = json!(1);
        etcd.put(format!("/spaceport/placements/{id}"), serde_json::to_vec(&value)?, None).await?;
    }
    let (mut mirror, mut index) = (room.store.mirror_placements(), Index::default());
    let last = claim_many(&leader.store, &term, "first", 1).await?;
    index.catch_up(&mut mirror, last).await?;
    ensure!(index.records.len() == 1201, "{}", index.records.len());
    room.etcd.pause().await?;
    let frozen = Instant::now();
    while frozen.elapsed() < Duration::from_secs(5) {
        if let Ok(event) = timeout(Duration::from_millis(300), mirror.next()).await {
            index.apply(event)?;
        }
    }
    ensure!(
        mirror.progress().now().at.elapsed() > Duration::from_secs(3),
        "the age of what is known must grow"
    );
    room.etcd.resume().await?;
    let again = leader.leads(SOON).await?;
    sleep(Duration::from_secs(1)).await;
    let again = if again.is_valid() { again } else { leader.leads(SOON).await? };
    let last = claim_many(&leader.store, &again, "second", 1).await?;
    index.catch_up(&mut mirror, last).await?;
    ensure!(index.records.len() == 1202);
    Ok(())
}
