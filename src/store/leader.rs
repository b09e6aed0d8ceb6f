//! Elects one leader among the replicas, by the order of their keys in etcd.
//!
//! *Flow.* A replica grants a lease, puts its candidate key under it, and waits until no older candidate is left; then it
//! leads. *Guarantees.* At most one candidate is the oldest at any revision, and only its writes pass the guard. A leader
//! that crashes is replaced once its lease expires, one that shuts down at once. A leader that cannot renew stops writing
//! `stop_after` the last confirmed renewal was sent, which is before its lease expires in etcd, and campaigns again in the same
//! process. *Every replica* learns who leads, also as a candidate. The election runs on its own thread, see
//! [`super::election_thread`].

use std::{collections::BTreeMap, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use domain::backoff::jittered;
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
    guard::is_absent,
    heartbeat::Pulse,
    lease::{Lease, Lost},
    list_watch::{Change, Entry, ListWatch, list_all},
    term::Term,
    timing::Timing,
    value::{decode, encode},
};

/// Backoff of a candidacy that failed.
pub(super) const CAMPAIGN_BACKOFF: ExponentialBuilder =
    jittered(Duration::from_millis(200), Duration::from_secs(3));

/// Identity of this replica for others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// Name, unique in the installation; for people.
    pub replica: String,
    /// Address of its API for other replicas, `host:port`.
    pub address: String,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// The leading replica's name.
    pub replica: String,
    /// Address of its API for other replicas.
    pub address: String,
    /// Epoch of its term.
    pub epoch: i64,
}

/// Role of this replica.
#[derive(Debug, Clone, PartialEq)]
pub enum Leadership {
    /// Not leading.
    Standby {
        /// The leader, if known; never this replica.
        leader: Option<Leader>,
    },
    /// Leading.
    Leading {
        /// The term, which every write needs.
        term: Term,
    },
}

/// A replica's part in electing the leader.
pub struct Election {
    store: Store,
    timing: Timing,
    replica: Replica,
    list_watch: ListWatch,
    candidates: BTreeMap<String, Candidate>,
    seen: i64,
    told: watch::Sender<Leadership>,
}

#[derive(Debug, Clone)]
struct Candidate {
    epoch: i64,
    replica: Replica,
}

/// The candidate key of this replica.
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

impl Election {
    /// Prepares a candidacy; nothing is sent before [`Election::run`]. Fails if the times are inconsistent.
    pub fn new(
        store: &Store,
        replica: Replica,
        timing: Timing,
    ) -> Result<(Self, watch::Receiver<Leadership>)> {
        timing.check()?;
        let (told, leadership) = watch::channel(Leadership::Standby { leader: None });
        let list_watch = ListWatch::new(store, store.keys().leaders());
        let candidates = BTreeMap::new();
        let store = store.clone();
        Ok((Self { store, timing, replica, list_watch, candidates, seen: 0, told }, leadership))
    }

    pub(super) fn stalled_after(&self) -> Duration {
        self.timing.stalled_after
    }

    /// The same with a new connection, which belongs to the calling runtime.
    pub(super) async fn with_own_connection(&self) -> Result<Self> {
        let store = self.store.reconnected().await?;
        Ok(Self {
            list_watch: ListWatch::new(&store, store.keys().leaders()),
            store,
            timing: self.timing,
            replica: self.replica.clone(),
            candidates: BTreeMap::new(),
            seen: 0,
            told: self.told.clone(),
        })
    }

    pub(super) async fn campaigns(mut self, shutdown: &CancellationToken, pulse: &Pulse) {
        let mut backoff = CAMPAIGN_BACKOFF.build();
        while !shutdown.is_cancelled() {
            let campaign = Instant::now();
            match Box::pin(self.campaign(shutdown, pulse)).await {
                Ok(End::Shutdown) => return,
                Ok(End::Lost(lost)) => {
                    warn!(replica = self.replica.replica, %lost, "candidacy lost, campaigning again");
                }
                Ok(End::KeyGone) => {
                    warn!(replica = self.replica.replica, "the candidate key is gone, campaigning again");
                }
                Ok(End::Stalled) => {
                    let stalled_after = self.timing.stalled_after;
                    error!(
                        replica = self.replica.replica,
                        ?stalled_after,
                        "the main runtime has stalled, so the term was ended"
                    );
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = pulse.beats() => {}
                    }
                }
                Err(error) => {
                    warn!(replica = self.replica.replica, %error, "failed to campaign for the leadership");
                }
            }
            if campaign.elapsed() > self.timing.ttl {
                backoff = CAMPAIGN_BACKOFF.build();
            }
            let until = Instant::now() + backoff.next().unwrap_or_default();
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

    /// Puts the candidate key; returns it with the revision that created it.
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

    /// Returns when the candidate key is gone.
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
        match self.list_watch.next().await {
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
            // This replica's own earlier key, which exists until its lease expires, is no leader.
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
    /// All candidates, the leader first.
    pub async fn replicas(&self) -> Result<Vec<Leader>> {
        let (entries, _, _) = list_all(self, &self.keys().leaders()).await?;
        let mut candidates: Vec<_> = entries.iter().map(candidate).collect();
        candidates.sort_by_key(|candidate| candidate.epoch);
        let leader =
            |Candidate { epoch, replica: Replica { replica, address } }| Leader { replica, address, epoch };
        Ok(candidates.into_iter().map(leader).collect())
    }
}

/// A candidate counts even if its value cannot be read, as that of a later version of Spaceport.
fn candidate(entry: &Entry) -> Candidate {
    let replica = decode(&entry.key, &entry.value).unwrap_or_else(|error| {
        warn!(%error, "a candidate's value cannot be read");
        Replica { replica: entry.key.clone(), address: String::new() }
    });
    Candidate { epoch: entry.created, replica }
}
