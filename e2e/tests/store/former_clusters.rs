//! What is recorded of a cluster that was removed while workspaces were placed there.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_removed_cluster_are_found_again_under_any_name() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let (store, sealer, eu) = (&leader.store, sealer()?, "eu".parse()?);
    let of = |name: &str, uid: &str| -> Result<NewCluster> {
        Ok(NewCluster { cluster_uid: uid.to_owned(), ..cluster(name)? })
    };
    let version = store.clusters(&sealer).await?.remove(0)?.version;
    store.delete_cluster(&term, &eu, version).await?;
    ensure!(store.former_clusters().await?.is_empty(), "one that was empty is remembered");

    let version = store.create_cluster(&term, &sealer, &of("eu", "u-1")?).await?;
    let noted = json!({ "rewinds": { "count": 3 } });
    store.put_status(&term, &eu, &noted, None).await?;
    let now = jiff::Timestamp::now();
    store.leave_cluster(&term, &eu, version, now).await?;
    let known = store.former_clusters().await?;
    ensure!(known.len() == 1 && known[&eu].cluster_uid == "u-1" && known[&eu].at == now, "{known:?}");
    ensure!(store.statuses().await?.is_empty(), "the status outlived its registration");

    store.create_cluster(&term, &sealer, &of("other", "u-2")?).await?;
    store.create_cluster(&term, &sealer, &of("new", "u-1")?).await?;
    let statuses = store.statuses().await?;
    ensure!(statuses.len() == 1 && statuses.get("new") == Some(&noted), "{statuses:?}");
    ensure!(store.former_clusters().await?.contains_key(&eu), "records may still name it");
    // The old name is in use again, so it stands for the cluster that has it.
    store.create_cluster(&term, &sealer, &cluster("eu")?).await?;
    ensure!(store.former_clusters().await?.is_empty(), "it stands for two");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_moves_once_and_only_from_a_name_that_is_not_registered_to_one_that_is() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let (store, sealer, eu) = (&leader.store, sealer()?, "eu".parse()?);
    let a = record("a", "m")?;
    let version = claimed(store, &term, &a).await?;
    let moved = PlacementRecord { cluster: "us".parse()?, ..a.clone() };
    store.create_cluster(&term, &sealer, &cluster("us")?).await?;
    let early = store.relocate(&term, &moved, version, &eu).await;
    ensure!(matches!(early, Err(Error::Conflict { .. })), "from a registered name: {early:?}");
    let registered = store.clusters(&sealer).await?.remove(0)?.version;
    store.leave_cluster(&term, &eu, registered, jiff::Timestamp::now()).await?;
    let nowhere = PlacementRecord { cluster: "nowhere".parse()?, ..a.clone() };
    let nowhere = store.relocate(&term, &nowhere, version, &eu).await;
    ensure!(matches!(nowhere, Err(Error::Conflict { .. })), "to nowhere: {nowhere:?}");
    store.relocate(&term, &moved, version, &eu).await?;
    let again = store.relocate(&term, &moved, version, &eu).await;
    ensure!(matches!(again, Err(Error::Conflict { .. })), "twice: {again:?}");
    ensure!(store.placement(&a.workspace).await?.context("no record")?.value.cluster.as_str() == "us");
    let twin = store.claim(&term, &PlacementRecord { cluster: "us".parse()?, ..record("b", "m")? }).await?;
    ensure!(matches!(twin, Claim::MetaTaken { .. }), "its meta id is free: {twin:?}");
    store.remove_former_cluster(&term, &eu).await?;
    ensure!(store.former_clusters().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_given_up_once_only_while_its_cluster_is_not_registered_and_lets_go_of_its_meta_id()
-> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let (store, sealer, eu) = (&leader.store, sealer()?, "eu".parse()?);
    let a = record("a", "m")?;
    let version = claimed(store, &term, &a).await?;
    let now = jiff::Timestamp::now();
    let given_up = a.given_up("it burned down".to_owned(), 1, now, jiff::Timestamp::MAX);
    let early = store.give_up(&term, &given_up, version).await;
    ensure!(matches!(early, Err(Error::Conflict { .. })), "of a registered cluster: {early:?}");
    let registered = store.clusters(&sealer).await?.remove(0)?.version;
    store.leave_cluster(&term, &eu, registered, now).await?;
    store.give_up(&term, &given_up, version).await?;
    let again = store.give_up(&term, &given_up, version).await;
    ensure!(matches!(again, Err(Error::Conflict { .. })), "twice: {again:?}");
    let found = store.placement(&a.workspace).await?.context("no record")?.value;
    ensure!(found == given_up && found.generation == 2 && !found.is_live(), "{found:?}");
    store.create_cluster(&term, &sealer, &cluster("us")?).await?;
    let elsewhere =
        |id: &str| Ok::<_, anyhow::Error>(PlacementRecord { cluster: "us".parse()?, ..record(id, "m")? });
    claimed(store, &term, &elsewhere("b")?).await?;
    let taken = store.claim(&term, &PlacementRecord { meta: "n".parse()?, ..elsewhere("a")? }).await?;
    ensure!(matches!(taken, Claim::IdTaken(..)), "its id is free at once: {taken:?}");
    Ok(())
}
