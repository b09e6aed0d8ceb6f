//! A leader whose threads are all busy for a while, and one whose threads hang forever.

use std::sync::Barrier;
use std::thread;

use tokio::runtime::{Builder, Runtime};

use super::*;

const WORKERS: usize = 2;

/// The main runtime of a separate process, whose threads can all be blocked.
struct Process {
    runtime: Option<Runtime>,
    leader: Candidate,
}

impl Process {
    async fn start(room: &Room, timing: Timing) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(WORKERS)
            .enable_all()
            .build()?;
        let standing = stand(store_options(&room.etcd)?, "busy".to_owned(), timing);
        let leader = runtime.spawn(standing).await??;
        Ok(Self { runtime: Some(runtime), leader })
    }

    /// Blocks every worker and every blocking thread before it returns.
    async fn block(&self, time: Duration) -> Result<()> {
        let runtime = self.runtime.as_ref().context("it runs")?;
        let all = Arc::new(Barrier::new(2 * WORKERS + 1));
        for _ in 0..WORKERS {
            for is_worker in [true, false] {
                let all = Arc::clone(&all);
                let sleep = move || {
                    all.wait();
                    thread::sleep(time);
                };
                if is_worker {
                    runtime.spawn(async move { sleep() });
                } else {
                    runtime.spawn_blocking(sleep);
                }
            }
        }
        timeout(SOON, tokio::task::spawn_blocking(move || all.wait()))
            .await
            .context("a thread is free")??;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_every_thread_is_blocked_keeps_its_lease_and_may_write() -> Result<()> {
    let room = Room::open().await?;
    let busy = Process::start(&room, short()).await?;
    let term = busy.leader.leads(SOON).await?;
    let second = room.stand("second", short()).await?;
    second.follows("busy", SOON).await?;
    room.store.create_cluster(&term, &sealer()?, &cluster("eu")?).await?;
    busy.block(short().ttl * 4).await?;
    let blocked = Instant::now();
    let mut written = 0;
    while blocked.elapsed() < short().ttl * 3 {
        ensure!(term.is_valid(), "the term ended {:?} after the threads were blocked", blocked.elapsed());
        let id = format!("w{written}");
        claimed(&room.store, &term, &record(&id, &id)?).await?;
        written += 1;
        sleep(Duration::from_millis(200)).await;
    }
    ensure!(matches!(&*second.leadership.borrow(), Leadership::Standby { .. }), "the second leads, too");
    println!("{written} writes in {:?} with every thread blocked", blocked.elapsed());
    // Work requested before the block is still done in order.
    busy.leader.shutdown.cancel();
    let new = second.leads(AT_ONCE).await?;
    ensure!(new.epoch() > term.epoch() && !term.is_valid());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hangs_for_good_gives_its_lease_up_and_campaigns_again_only_when_it_runs_again()
-> Result<()> {
    let room = Room::open().await?;
    let timing = Timing { stalled_after: Duration::from_secs(4), ..short() };
    let busy = Process::start(&room, timing).await?;
    let old = busy.leader.leads(SOON).await?;
    let second = room.stand("second", timing).await?;
    second.follows("busy", SOON).await?;
    let hangs = Duration::from_secs(10);
    busy.block(hangs).await?;
    let blocked = Instant::now();
    let new = second.leads(timing.stalled_after + AT_ONCE).await?;
    println!("another led {:?} after the leader hung", blocked.elapsed());
    ensure!(!old.is_valid() && new.epoch() > old.epoch());
    let refused = room.store.claim(&old, &record("a", "m")?).await;
    ensure!(matches!(refused, Err(Error::NotLeader { .. })), "{refused:?}");
    sleep(hangs.saturating_sub(Duration::from_secs(1)).saturating_sub(blocked.elapsed())).await;
    let candidates = room.store.replicas().await?;
    ensure!(candidates.iter().all(|candidate| candidate.replica == "second"), "{candidates:?}");
    busy.leader.follows("second", SOON).await?;
    second.shutdown.cancel();
    ensure!(busy.leader.leads(SOON).await?.epoch() > new.epoch());
    Ok(())
}
