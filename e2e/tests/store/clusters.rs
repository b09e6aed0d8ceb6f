//! The registry of clusters, and the installation's identity.

use super::*;

fn text(kubeconfig: Option<&Secret<Vec<u8>>>) -> Option<&[u8]> {
    kubeconfig.map(|kubeconfig| kubeconfig.expose().as_slice())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_registered_once_by_name_and_once_by_address() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let (store, sealer) = (&leader.store, sealer()?);
    let again = store.create_cluster(&term, &sealer, &cluster("eu")?).await;
    ensure!(matches!(again, Err(Error::ClusterExists { .. })), "{again:?}");
    let same = NewCluster { api_server: "https://EU.example:6443/".to_owned(), ..cluster("us")? };
    let taken = store.create_cluster(&term, &sealer, &same).await;
    ensure!(
        matches!(&taken, Err(Error::AddressInUse { cluster, .. }) if cluster.as_str() == "eu"),
        "{taken:?}"
    );
    let listed = store.clusters(&sealer).await?.into_iter().collect::<Result<Vec<_>, _>>()?;
    ensure!(
        listed.len() == 1 && text(listed[0].kubeconfig.as_ref()) == text(cluster("eu")?.kubeconfig.as_ref())
    );
    store.delete_cluster(&term, &"eu".parse()?, listed[0].version).await?;
    store.create_cluster(&term, &sealer, &same).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_decided_on_an_old_version_is_refused() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let (store, sealer) = (&leader.store, sealer()?);
    let eu = store.clusters(&sealer).await?.remove(0)?;
    let cordoned = ClusterSpec { cordoned: true, ..eu.spec.clone() };
    let version = store.update_cluster(&term, eu.version, &cordoned).await?;
    let late = store.update_cluster(&term, eu.version, &eu.spec).await;
    ensure!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
    let late = store.delete_cluster(&term, &eu.spec.name, eu.version).await;
    ensure!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
    store.create_cluster(&term, &sealer, &cluster("us")?).await?;
    let theirs = NewCluster { api_server: "https://us.example:6443".to_owned(), ..cluster("eu")? };
    let taken = store.replace_cluster(&term, &sealer, version, &theirs).await;
    ensure!(matches!(taken, Err(Error::AddressInUse { .. })), "{taken:?}");
    let moved =
        NewCluster { spec: cordoned, api_server: "https://new.example:6443".to_owned(), ..cluster("eu")? };
    store.replace_cluster(&term, &sealer, version, &moved).await?;
    let eu = store.clusters(&sealer).await?.remove(0)?;
    ensure!(eu.spec.cordoned && eu.api_server == "https://new.example:6443");
    let old = NewCluster { api_server: "https://eu.example:6443".to_owned(), ..cluster("ap")? };
    store.create_cluster(&term, &sealer, &old).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_lives_as_long_as_its_registration() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let (store, eu) = (&leader.store, "eu".parse()?);
    let seen = store.put_status(&term, &eu, &json!({ "health": "Connecting" }), None).await?;
    let blind = store.put_status(&term, &eu, &json!({}), None).await;
    ensure!(matches!(blind, Err(Error::Conflict { .. })), "{blind:?}");
    store.put_status(&term, &eu, &json!({ "health": "Available" }), Some(seen)).await?;
    ensure!(store.statuses().await?.get(&eu) == Some(&json!({ "health": "Available" })));
    let version = store.clusters(&sealer()?).await?.remove(0)?.version;
    store.delete_cluster(&term, &eu, version).await?;
    let late = store.put_status(&term, &eu, &json!({}), None).await;
    ensure!(matches!(late, Err(Error::ClusterNotFound { .. })), "{late:?}");
    ensure!(store.statuses().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_never_lies_open_in_etcd_and_one_bad_cluster_hides_no_other() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    leader.store.create_cluster(&term, &sealer()?, &cluster("us")?).await?;
    let mut etcd = room.etcd.connect().await?;
    let all = etcd.get("", Some(etcd_client::GetOptions::new().with_all_keys())).await?;
    ensure!(
        all.kvs().len() > 4
            && all.kvs().iter().all(|kv| !String::from_utf8_lossy(kv.value()).contains("hunter2"))
    );
    etcd.put("/spaceport/clusters/eu/spec", r#"{"v":9}"#, None).await?;
    let listed = leader.store.clusters(&sealer()?).await?;
    ensure!(
        matches!(&listed[0], Err(Error::UnknownVersion { key, version: 9 }) if key.ends_with("clusters/eu/spec")),
        "{listed:?}"
    );
    ensure!(listed[1].as_ref().is_ok_and(|us| us.spec.name.as_str() == "us"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_by_secret_has_the_reference_alone_and_no_registration_has_both_or_neither()
-> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let (store, sealer) = (&leader.store, sealer()?);
    let inline = cluster("us")?;
    let mut named = NewCluster { kubeconfig: None, ..inline.clone() };
    named.spec.kubeconfig_secret = Some("spaceport/us".parse()?);
    let version = store.create_cluster(&term, &sealer, &named).await?;
    let us = store.clusters(&sealer).await?.pop().context("not there")??;
    ensure!(us.kubeconfig.is_none() && us.spec.kubeconfig_secret == named.spec.kubeconfig_secret);
    ensure!(store.reseal(&term, &sealer).await?.is_empty(), "there is nothing to seal");
    // Back, and there again.
    let version = store.replace_cluster(&term, &sealer, version, &inline).await?;
    let us = store.clusters(&sealer).await?.pop().context("not there")??;
    ensure!(
        text(us.kubeconfig.as_ref()) == text(inline.kubeconfig.as_ref())
            && us.spec.kubeconfig_secret.is_none()
    );
    let neither = NewCluster { kubeconfig: None, ..inline.clone() };
    store.replace_cluster(&term, &sealer, version, &neither).await?;
    let us = store.clusters(&sealer).await?.pop().context("not there")?;
    ensure!(matches!(us, Err(Error::Malformed { .. })), "{us:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_replicas_share_one_installation() -> Result<()> {
    let room = Room::open().await?;
    let ask = |_| async { Ok::<_, anyhow::Error>(room.store.installation(&sealer()?).await?) };
    let all = futures::future::try_join_all((0..8).map(ask)).await?;
    for one in &all {
        ensure!(one.id == all[0].id && one.secret.expose() == all[0].secret.expose() && one.incarnation == 1);
    }
    let other = Sealer::new(vec![SealingKey { id: "other".to_owned(), secret: Secret::new(vec![8; 32]) }])?;
    let error = room.store.installation(&other).await.err().context("opened with another key")?.to_string();
    ensure!(error.contains("/spaceport/installation") && error.contains("key test"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn values_sealed_with_an_old_key_are_sealed_again_and_the_old_key_can_be_removed() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let store = &leader.store;
    let version = store.create_cluster(&term, &sealer()?, &cluster("us")?).await?;
    let before = store.installation(&sealer()?).await?;
    let key = |id: &str, byte| SealingKey { id: id.to_owned(), secret: Secret::new(vec![byte; 32]) };
    let both = Sealer::new(vec![key("new", 8), key("test", 7)])?;
    let changed = store.reseal(&term, &both).await?.into_iter().collect::<Result<Vec<_>, _>>()?;
    let keys =
        ["installation", "clusters/eu/spec", "clusters/us/spec"].map(|key| format!("/spaceport/{key}"));
    ensure!(changed == keys, "{changed:?}");
    ensure!(store.reseal(&term, &both).await?.is_empty(), "once is enough");
    let new = Sealer::new(vec![key("new", 8)])?;
    let after = store.installation(&new).await?;
    ensure!(after.id == before.id && after.secret.expose() == before.secret.expose());
    let us = store.clusters(&new).await?.pop().context("gone")??;
    ensure!(us.version > version && text(us.kubeconfig.as_ref()) == text(cluster("us")?.kubeconfig.as_ref()));
    let third = Sealer::new(vec![key("third", 9)])?;
    let refused = store.reseal(&term, &third).await?;
    ensure!(
        refused.len() == 3 && refused.iter().all(|one| matches!(one, Err(Error::Seal { .. }))),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_secret_is_kept_while_a_record_names_it_and_sealed_as_the_others() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    let (store, sealer) = (&leader.store, sealer()?);
    let first = store.installation(&sealer).await?;
    ensure!(first.secret_version == 1 && first.former_secrets.is_empty());
    let version = claimed(store, &term, &record("a", "m")?).await?;
    let (at, later) = (jiff::Timestamp::from_second(100)?, jiff::Timestamp::from_second(200)?);
    let rotated = store.rotate_secret(&term, &sealer, at).await?.context("it is not rotated")?;
    ensure!(rotated.secret_version == 2 && rotated.secret.expose() != first.secret.expose());
    let again = store.installation(&sealer).await?;
    ensure!(again.secret.expose() == rotated.secret.expose());
    ensure!(again.former_secrets[&1].expose() == first.secret.expose());

    // A record without a version was made with the first secret.
    ensure!(store.forget_secrets(&term, &sealer, at).await?.is_none(), "it was replaced just now");
    ensure!(store.forget_secrets(&term, &sealer, later).await?.is_none(), "a record names it");
    let version = store.end(&term, &record("a", "m")?, version, at, later).await?;
    ensure!(store.forget_secrets(&term, &sealer, later).await?.is_none(), "an ended record names it");

    // The key that sealed it can be removed.
    let key = |id: &str, byte| SealingKey { id: id.to_owned(), secret: Secret::new(vec![byte; 32]) };
    let resealed = Sealer::new(vec![key("new", 9), key("test", 7)])?;
    store.reseal(&term, &resealed).await?.into_iter().collect::<Result<Vec<_>, _>>()?;
    let alone = Sealer::new(vec![key("new", 9)])?;
    ensure!(store.installation(&alone).await?.former_secrets[&1].expose() == first.secret.expose());

    store.forget(&term, &record("a", "m")?, version).await?;
    let left = store.forget_secrets(&term, &alone, later).await?.context("it is kept")?;
    ensure!(left.former_secrets.is_empty() && left.secret_version == 2);
    Ok(())
}
