//! Failures of etcd: with TLS and users, gone, frozen, and with expired tokens.

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, CompactionOptions, DeleteOptions};
use store::MirrorEvent;

use e2e::harness::{Launch, Process, process::free_port, until};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_a_user_who_may_use_the_prefix_alone_are_enough() -> Result<()> {
    let options = EtcdOptions {
        security: EtcdSecurity::MutualTls,
        users: Some("/spaceport/".to_owned()),
        ..EtcdOptions::default()
    };
    let room = Room::open_with(options).await?;
    let (leader, term) = room.lead().await?;
    room.store.installation(&sealer()?).await?;
    claimed(&leader.store, &term, &record("a", "m")?).await?;
    let mut mirror = room.store.mirror_placements();
    timeout(SOON, mirror.next()).await?;
    let elsewhere =
        Store::connect(Options { prefix: "/other/".to_owned(), ..store_options(&room.etcd)? }).await;
    let error = elsewhere.err().context("let in elsewhere")?.to_string();
    ensure!(error.contains("permission denied"), "{error}");
    let mut wrong = store_options(&room.etcd)?;
    wrong.user = Some(User { name: "spaceport".to_owned(), password: Secret::new("hunter2".to_owned()) });
    let error = Store::connect(wrong).await.err().context("let in with a wrong password")?.to_string();
    ensure!(error.contains("invalid user ID or password") && !error.contains("hunter2"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_is_refused_with_the_reason() -> Result<()> {
    let secure = EtcdOptions { security: EtcdSecurity::Tls, ..EtcdOptions::default() };
    let room = Room::open_with(secure.clone()).await?;
    let other = Room::open_with(secure).await?;
    let mut options = store_options(&room.etcd)?;
    options.tls = store_options(&other.etcd)?.tls;
    let error = Store::connect(options).await.err().context("trusted a stranger")?.to_string();
    ensure!(error.contains(&room.etcd.endpoint()) && error.to_lowercase().contains("certificate"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_is_not_there_is_named_within_the_deadline() -> Result<()> {
    let endpoint = format!("http://127.0.0.1:{}", free_port()?);
    let asked = Instant::now();
    let error = Store::connect(plain(&endpoint)).await.err().context("connected to nothing")?.to_string();
    ensure!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    ensure!(error.contains(&endpoint) && error.contains("refused"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_etcd_hangs_nobody_and_is_used_again_once_it_answers() -> Result<()> {
    let room = Room::open().await?;
    let (leader, term) = room.lead().await?;
    room.etcd.pause().await?;
    // Each call ends by itself: its own deadline is 3 s.
    let read = timeout(SOON, room.store.placement(&"a".parse()?)).await.context("the read hangs")?;
    ensure!(matches!(&read, Err(Error::Unavailable { .. })), "{read:?}");
    // Sent on a connection that still looks alive, so the outcome is unknown.
    let a = record("a", "m")?;
    let written = timeout(SOON, leader.store.claim(&term, &a)).await.context("the write hangs")?;
    ensure!(
        matches!(
            &written,
            Err(Error::Ambiguous { .. } | Error::NotLeader { .. } | Error::Unavailable { .. })
        ),
        "{written:?}"
    );
    let connect = timeout(SOON, Store::connect(store_options(&room.etcd)?)).await.context("it hangs")?;
    ensure!(matches!(&connect, Err(Error::Unavailable { .. })), "{connect:?}");
    room.etcd.resume().await?;
    // It has to catch up, and may take longer than a call.
    until(SOON, "etcd to be used again", async || {
        room.store.placement(&"a".parse()?).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_member_is_passed_over_for_a_live_one() -> Result<()> {
    let room = Room::open().await?;
    let dead = format!("http://127.0.0.1:{}", free_port()?);
    let endpoints = vec![dead, room.etcd.endpoint()];
    let store = Store::connect(Options { endpoints, ..store_options(&room.etcd)? }).await?;
    store.placement(&"a".parse()?).await?;
    room.etcd.stop().await?;
    let asked = Instant::now();
    ensure!(store.placement(&"a".parse()?).await.is_err());
    ensure!(
        asked.elapsed() < Duration::from_secs(1),
        "refused connections must fail fast: {:?}",
        asked.elapsed()
    );
    room.etcd.start().await?;
    store.placement(&"a".parse()?).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_tokens_are_renewed_under_calls_leases_and_watches() -> Result<()> {
    let dir = TempDir::new()?;
    let endpoint = format!("http://127.0.0.1:{}", free_port()?);
    let assets = assets().await?;
    let args = [
        format!("--data-dir={}", dir.path().join("data").display()),
        format!("--listen-client-urls={endpoint}"),
        format!("--advertise-client-urls={endpoint}"),
        "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
        "--auth-token-ttl=1".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    let log = dir.path().join("etcd.log");
    let launch = Launch::new("etcd with short tokens", &assets.program("etcd"), args, &log);
    let process = Process::start(&assets, &launch).await?;
    let connect = async || Ok(Store::connect(plain(&endpoint)).await.map(|_| ())?);
    process.ready(SOON, connect).await?;
    let mut root = etcd_client::Client::connect([&endpoint], None).await?;
    root.user_add("root", "secret", None).await?;
    root.role_add("root").await?;
    root.user_grant_role("root", "root").await?;
    root.auth_enable().await?;
    let user = Some(User { name: "root".to_owned(), password: Secret::new("secret".to_owned()) });
    let store_options = Options { user, ..plain(&endpoint) };
    let store = Store::connect(store_options.clone()).await?;
    let replica = Replica { replica: "r".to_owned(), address: "r:1".to_owned() };
    let (election, leadership) = Election::new(&store, replica, Timing::default())?;
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(election.run(shutdown.clone()));
    let leader = Candidate { store: store.clone(), leadership, shutdown, task };
    let term = leader.leads(SOON).await?;
    store.create_cluster(&term, &sealer()?, &cluster("eu")?).await?;
    for n in 0..3 {
        sleep(Duration::from_millis(3200)).await;
        ensure!(term.is_valid(), "the lease went with the token");
        let id = format!("w{n}");
        claimed(&store, &term, &record(&id, &id)?).await?;
        sleep(Duration::from_millis(3200)).await;
        let mut mirror = store.mirror_placements();
        timeout(SOON, mirror.next()).await?;
    }
    // A watch that is opened with an expired token: the list used a fresh one, and no call happens in between.
    let other = Store::connect(store_options.clone()).await?;
    let mut mirror = other.mirror_placements();
    timeout(SOON, mirror.next()).await?;
    sleep(Duration::from_millis(3200)).await;
    claimed(&store, &term, &record("late", "late")?).await?;
    let event = timeout(SOON, mirror.next()).await?;
    ensure!(matches!(&event, MirrorEvent::Put(item) if item.key == "late"), "{event:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_etcd_refuses_writes_answers_reads_keeps_its_leader_and_takes_writes_once_there_is_space()
-> Result<()> {
    let options = EtcdOptions { quota: Some(2 * 1024 * 1024), ..EtcdOptions::default() };
    let room = Room::open_with(options).await?;
    let (leader, term) = room.lead().await?;
    let version = claimed(&leader.store, &term, &record("a", "m")?).await?;
    let mut other = room.etcd.connect().await?;
    let mut filled = Ok(());
    for n in 0..64 {
        filled = other.put(format!("/elsewhere/{n}"), vec![0; 256 * 1024], None).await.map(drop);
        if filled.is_err() {
            break;
        }
    }
    ensure!(filled.is_err(), "etcd is not full");
    let refused = leader.store.claim(&term, &record("b", "n")?).await;
    // The write that fills a database is applied and fails all the same: the outcome is unknown.
    ensure!(matches!(&refused, Err(Error::Ambiguous { .. })), "{refused:?}");
    ensure!(format!("{refused:?}").contains("space exceeded"), "{refused:?}");
    let read = room.store.placement(&"a".parse()?).await?.context("what was there is gone")?;
    ensure!(read.version == version, "{read:?}");

    let everything = DeleteOptions::new().with_prefix();
    let deleted = other.delete("/elsewhere/", Some(everything)).await?;
    let revision = deleted.header().context("no revision")?.revision();
    other.compact(revision, Some(CompactionOptions::new().with_physical())).await?;
    other.defragment().await?;
    let (get, end, nospace) = (AlarmAction::Get, AlarmAction::Deactivate, AlarmType::Nospace);
    let raised = other.alarm(get, nospace, None).await?;
    ensure!(!raised.alarms().is_empty(), "etcd raised no alarm");
    for alarm in raised.alarms() {
        let mut of = AlarmOptions::new();
        of.with_member(alarm.member_id());
        other.alarm(end, nospace, Some(of)).await?;
    }
    ensure!(term.is_valid(), "the leader's lease ran out while etcd was full");
    claimed(&leader.store, &term, &record("b", "n")?).await?;
    Ok(())
}
