//! Elects one leader among the replicas, in an order that etcd makes.
//!
//! *Flow.* A replica takes a lease, puts its candidate's key under it, and waits until no older candidate is left; then it
//! leads. *Guarantees.* At most one candidate is the oldest at any revision, and only its writes pass the guard. A leader
//! that dies is replaced once its lease ran out, one that shuts down at once. One that cannot renew stops by itself
//! `stop_after` the last confirmed renewal was sent, before etcd lets go of its lease, and campaigns again in the same
//! process. *Every replica* learns who leads, also while it is a candidate itself. All of it happens on a thread of its own,
//! see [`super::apart`].

use std::{collections::BTreeMap, time::Duration};

use etcd_client::{PutOptions, Txn, TxnOp};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    Error, Result, Store,
    apart::Pulse,
    backoff::Backoff,
    follow::{Change, Entry, Follow, list_all},
    guard::is_absent,
    lease::{Lease, Lost},
    term::Term,
    value::{decode, encode},
};

/// How a lease is timed. `renew < stop_after < ttl < stalled_after`.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Whole seconds after the last renewal until etcd lets another replica lead; 6 s is usual, 2 s the least.
    pub ttl: Duration,
    /// From one renewal to the next; 2 s is usual.
    pub renew: Duration,
    /// From when the last confirmed renewal was sent until the leader stops writing by itself; 4 s is usual.
    pub stop_after: Duration,
    /// How long the process's main runtime may stand still until the leader lets another replica lead; 30 s is usual.
    pub stalled_after: Duration,
}

/// This replica, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// Its name, unique in the installation; for people.
    pub replica: String,
    /// Where its API answers other replicas, `host:port`.
    pub address: String,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// The leading replica's name.
    pub replica: String,
    /// Where its API answers other replicas.
    pub address: String,
    /// Of its term.
    pub epoch: i64,
}

/// This replica's part.
#[derive(Debug, Clone, PartialEq)]
pub enum Leadership {
    /// Not leading.
    Standby {
        /// Who leads, as far as is known; never this replica.
        leader: Option<Leader>,
    },
    /// Leading.
    Leading {
        /// What writes must show.
        term: Term,
    },
}

/// A replica's part in electing the leader.
pub struct Election {
    store: Store,
    timing: Timing,
    replica: Replica,
    follow: Follow,
    candidates: BTreeMap<String, Candidate>,
    seen: i64,
    told: watch::Sender<Leadership>,
}

#[derive(Debug, Clone)]
struct Candidate {
    epoch: i64,
    replica: Replica,
}

/// Our key in the queue.
struct Mine {
    lease: Lease,
    key: String,
    /// The key's name below the prefix of candidates.
    name: String,
    epoch: i64,
}

enum End {
    Shutdown,
    Lost(Lost),
    KeyGone,
    Stalled,
}

impl Default for Timing {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self { ttl: 6 * second, renew: 2 * second, stop_after: 4 * second, stalled_after: 30 * second }
    }
}

impl Timing {
    fn check(&self) -> Result<()> {
        let bad = |field, rule: &str| Err(Error::Options { field, rule: rule.to_owned() });
        if self.ttl.subsec_nanos() != 0 || self.ttl < Duration::from_secs(2) {
            return bad("lease", "must be whole seconds, at least 2");
        }
        if self.stop_after >= self.ttl {
            return bad("stopAfter", "must be shorter than the lease");
        }
        if self.renew.is_zero() || self.renew * 3 > self.stop_after * 2 {
            return bad(
                "renew",
                "must be at most two thirds of stopAfter, so that a renewal can be tried again",
            );
        }
        if self.stalled_after <= self.ttl {
            return bad("stalledAfter", "must be longer than the lease");
        }
        Ok(())
    }

    /// How long to wait for the answer to a renewal: a second try must still fit.
    pub(super) fn answer(&self) -> Duration {
        self.stop_after.saturating_sub(self.renew) / 2
    }
}

impl Election {
    /// Prepares a candidacy; nothing happens before [`Election::run`]. Fails where the times contradict each other.
    pub fn new(
        store: &Store,
        replica: Replica,
        timing: Timing,
    ) -> Result<(Self, watch::Receiver<Leadership>)> {
        timing.check()?;
        let (told, leadership) = watch::channel(Leadership::Standby { leader: None });
        let follow = Follow::new(store, store.keys().leaders());
        let candidates = BTreeMap::new();
        let store = store.clone();
        Ok((Self { store, timing, replica, follow, candidates, seen: 0, told }, leadership))
    }

    pub(super) fn stalled_after(&self) -> Duration {
        self.timing.stalled_after
    }

    /// The same with a connection of the runtime that calls this.
    pub(super) async fn connect_apart(&self) -> Result<Self> {
        let store = self.store.apart().await?;
        Ok(Self {
            follow: Follow::new(&store, store.keys().leaders()),
            store,
            timing: self.timing,
            replica: self.replica.clone(),
            candidates: BTreeMap::new(),
            seen: 0,
            told: self.told.clone(),
        })
    }

    pub(super) async fn campaigns(mut self, shutdown: &CancellationToken, pulse: &Pulse) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(3));
        while !shutdown.is_cancelled() {
            let campaign = Instant::now();
            match Box::pin(self.campaign(shutdown, pulse)).await {
                Ok(End::Shutdown) => return,
                Ok(End::Lost(lost)) => {
                    warn!(replica = self.replica.replica, %lost, "candidacy lost, beginning anew");
                }
                Ok(End::KeyGone) => {
                    warn!(replica = self.replica.replica, "candidate's key is gone, beginning anew");
                }
                Ok(End::Stalled) => {
                    let stalled_after = self.timing.stalled_after;
                    error!(
                        replica = self.replica.replica,
                        ?stalled_after,
                        "the process hangs, leadership given up"
                    );
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = pulse.beats() => {}
                    }
                }
                Err(error) => warn!(replica = self.replica.replica, %error, "cannot stand for election"),
            }
            if campaign.elapsed() > self.timing.ttl {
                backoff.reset();
            }
            let until = Instant::now() + backoff.pause();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.watch_others(until) => {}
            }
        }
    }

    async fn campaign(&mut self, shutdown: &CancellationToken, pulse: &Pulse) -> Result<End> {
        let lease = Lease::grant(&self.store, self.timing).await?;
        let standing = self.stand(lease.id).await;
        let (key, epoch) = match standing {
            Ok(standing) => standing,
            Err(error) => {
                lease.validity.end();
                lease.revoke().await;
                return Err(error);
            }
        };
        let name = key[self.store.keys().leaders().len()..].to_owned();
        let mine = Mine { lease, key, name, epoch };
        let end = tokio::select! {
            biased;
            () = shutdown.cancelled() => End::Shutdown,
            () = pulse.stalled() => End::Stalled,
            lost = mine.lease.keep() => End::Lost(lost),
            () = self.watch_queue(&mine) => End::KeyGone,
        };
        mine.lease.validity.end();
        self.candidates.remove(&mine.name);
        self.tell(None);
        mine.lease.revoke().await;
        Ok(end)
    }

    /// Puts our key and answers it with the revision that created it.
    async fn stand(&self, lease: i64) -> Result<(String, i64)> {
        let key = self.store.keys().leader(lease);
        let value = encode(&key, &self.replica)?;
        let put = TxnOp::put(key.as_str(), value, Some(PutOptions::new().with_lease(lease)));
        let txn = Txn::new().when([is_absent(&key)]).and_then([put]);
        let answer = self.store.txn("stand for election", txn).await?;
        match answer.header() {
            Some(header) if answer.succeeded() => Ok((key, header.revision())),
            _ => Err(Error::Conflict { doing: "stand for election".to_owned(), key }),
        }
    }

    /// Returns when our key is gone.
    async fn watch_queue(&mut self, mine: &Mine) {
        loop {
            self.take_next().await;
            if !self.candidates.contains_key(&mine.name) && self.seen >= mine.epoch {
                return;
            }
            self.tell(Some(mine));
        }
    }

    async fn watch_others(&mut self, until: Instant) {
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.take_next() => self.tell(None),
            }
        }
    }

    async fn take_next(&mut self) {
        match self.follow.next().await {
            Change::Reset { entries, revision } => {
                self.candidates =
                    entries.into_iter().map(|entry| (entry.key.clone(), candidate(&entry))).collect();
                self.seen = revision;
            }
            Change::Put(entry) => {
                self.seen = entry.version;
                self.candidates.insert(entry.key.clone(), candidate(&entry));
            }
            Change::Delete { key, version } => {
                self.seen = version;
                self.candidates.remove(&key);
            }
            Change::Seen(revision) => self.seen = revision,
        }
    }

    fn tell(&self, mine: Option<&Mine>) {
        let oldest = self.candidates.iter().min_by_key(|(_, candidate)| candidate.epoch);
        let now = match (oldest, mine) {
            (Some((name, _)), Some(mine)) if *name == mine.name => self.leading(mine),
            // Our own earlier key, until its lease runs out, leads nobody.
            (Some((_, candidate)), _) if candidate.replica.replica == self.replica.replica => {
                Leadership::Standby { leader: None }
            }
            (Some((_, Candidate { epoch, replica: Replica { replica, address } })), _) => {
                let leader = Leader { replica: replica.clone(), address: address.clone(), epoch: *epoch };
                Leadership::Standby { leader: Some(leader) }
            }
            (None, _) => Leadership::Standby { leader: None },
        };
        self.told.send_if_modified(|told| {
            let news = *told != now;
            if news {
                info!(replica = self.replica.replica, leadership = ?now, "leadership");
                *told = now;
            }
            news
        });
    }

    fn leading(&self, mine: &Mine) -> Leadership {
        let validity = std::sync::Arc::clone(&mine.lease.validity);
        Leadership::Leading { term: Term::new(mine.epoch, self.seen, &mine.key, validity) }
    }
}

impl Store {
    /// All replicas that stand for election, the leader first.
    pub async fn replicas(&self) -> Result<Vec<Leader>> {
        let (entries, _, _) = list_all(self, &self.keys().leaders()).await?;
        let mut candidates: Vec<_> = entries.iter().map(candidate).collect();
        candidates.sort_by_key(|candidate| candidate.epoch);
        let leader =
            |Candidate { epoch, replica: Replica { replica, address } }| Leader { replica, address, epoch };
        Ok(candidates.into_iter().map(leader).collect())
    }
}

/// A candidate of a later version of Spaceport counts in the queue even where its value cannot be read.
fn candidate(entry: &Entry) -> Candidate {
    let replica = decode(&entry.key, &entry.value).unwrap_or_else(|error| {
        warn!(%error, "a candidate's value cannot be read");
        Replica { replica: entry.key.clone(), address: String::new() }
    });
    Candidate { epoch: entry.created, replica }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_contradict_each_other_are_refused_by_name() {
        let ms = Duration::from_millis;
        let check = |ttl, renew, stop_after, field: &str| {
            let error = Timing {
                ttl: ms(ttl),
                renew: ms(renew),
                stop_after: ms(stop_after),
                stalled_after: ms(7000),
            }
            .check()
            .unwrap_err();
            assert!(error.to_string().starts_with(&format!("etcd {field}:")), "{error}");
        };
        assert!(Timing::default().check().is_ok());
        check(6500, 2000, 4000, "lease");
        check(1000, 200, 600, "lease");
        check(6000, 2000, 6000, "stopAfter");
        check(6000, 3000, 4000, "renew");
        check(6000, 0, 4000, "renew");
        check(7000, 2000, 4000, "stalledAfter");
    }

    #[test]
    fn a_renewal_can_be_tried_twice_before_the_leader_stops() {
        let Timing { renew, stop_after, .. } = Timing::default();
        assert_eq!(renew + 2 * Timing::default().answer(), stop_after);
    }
}
