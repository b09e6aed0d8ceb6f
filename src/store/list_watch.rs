//! Lists and watches all keys of a prefix without a gap: a list at a revision, then a watch from there.
//!
//! *Guarantees.* Every change after a [`Change::Reset`] is returned once and in order, across lost connections and restarts of
//! etcd. If the required history was compacted, or etcd was restored from a backup, another `Reset` returns all keys. *Liveness.*
//! A progress request every second advances the last seen revision when nothing changes, and a connection that is silent for
//! three seconds is replaced.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use domain::backoff::jittered;
use etcd_client::{
    EventType, GetOptions, KeyValue, WatchOptions, WatchRequestSender, WatchResponse, WatchResponseStream,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, warn};

use super::{
    Result, Store,
    client::{Link, watch_client},
    error::Cause,
    failure::{Failure, wants_token},
    keys::range_end,
};

const PROGRESS_EVERY: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(3);
/// Keys in one page of a list: a few hundred KB.
const PAGE: i64 = 500;
/// Backoff of a broken watch.
const BACKOFF: ExponentialBuilder = jittered(Duration::from_millis(100), Duration::from_secs(2));

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Key without the prefix.
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    /// Revision that created the key.
    pub(super) created: i64,
    /// Revision of the last change.
    pub(super) version: i64,
}

/// A change of the keys.
#[derive(Debug)]
pub(super) enum Change {
    /// All keys; replaces earlier state.
    Reset {
        entries: Vec<Entry>,
        revision: i64,
    },
    Put(Entry),
    /// The key without the prefix, and the revision that deleted it.
    Delete {
        key: String,
        version: i64,
    },
    /// All changes up to this revision were returned.
    Seen(i64),
}

pub(super) struct ListWatch {
    store: Store,
    prefix: String,
    state: State,
    queue: VecDeque<Change>,
    /// All changes up to this revision are returned or queued.
    seen: i64,
    /// Cluster id of the listed etcd; another one has other revisions.
    etcd: u64,
    not_before: Instant,
    backoff: ExponentialBackoff,
    hurry: Arc<Notify>,
}

enum State {
    /// Not listed yet.
    Unlisted,
    /// All changes up to `seen` are known.
    Listed,
    Watching(Box<Watch>),
}

struct Watch {
    link: Arc<Link>,
    requests: WatchRequestSender,
    answers: WatchResponseStream,
    heard: Instant,
    next_request: Instant,
}

/// Why a watch ended.
enum Broken {
    /// The history was compacted or replaced.
    Relist(String),
    /// The connection failed.
    Rewatch(Failure, Cause),
}

impl ListWatch {
    /// Watches the keys that begin with `prefix`. Nothing is sent before [`ListWatch::next`].
    pub(super) fn new(store: &Store, prefix: String) -> Self {
        Self {
            store: store.clone(),
            prefix,
            state: State::Unlisted,
            queue: VecDeque::new(),
            seen: 0,
            etcd: 0,
            not_before: Instant::now(),
            backoff: BACKOFF.build(),
            hurry: Arc::new(Notify::new()),
        }
    }

    /// Notify it to send a progress request at once.
    pub(super) fn hurry(&self) -> Arc<Notify> {
        Arc::clone(&self.hurry)
    }

    /// The next change. Never fails: it retries until there is one. Cancel-safe.
    pub(super) async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.queue.pop_front() {
                return change;
            }
            self.step().await;
        }
    }

    async fn step(&mut self) {
        sleep_until(self.not_before).await;
        let outcome = match &mut self.state {
            State::Unlisted => self.list().await,
            State::Listed => self.open().await,
            State::Watching(watch) => match watch.hear(&self.hurry).await {
                Ok(Some(answer)) => self.take(&answer),
                Ok(None) => Ok(()),
                Err(broken) => Err(broken),
            },
        };
        if let Err(broken) = outcome {
            self.mend(broken).await;
        }
    }

    async fn mend(&mut self, broken: Broken) {
        self.not_before = Instant::now() + self.backoff.next().unwrap_or_default();
        match broken {
            Broken::Relist(why) => {
                warn!(prefix = self.prefix, why, "listing etcd again");
                (self.state, self.seen) = (State::Unlisted, 0);
            }
            Broken::Rewatch(failure, cause) => {
                debug!(prefix = self.prefix, %cause, "watching etcd again");
                let known = if self.seen == 0 { State::Unlisted } else { State::Listed };
                if let State::Watching(watch) = std::mem::replace(&mut self.state, known) {
                    let deadline = Instant::now() + self.store.request_timeout();
                    self.store.recover(&watch.link, failure, deadline).await;
                }
            }
        }
    }

    async fn list(&mut self) -> Result<(), Broken> {
        let (entries, revision, etcd) = list_all(&self.store, &self.prefix).await.map_err(|error| {
            warn!(prefix = self.prefix, %error, "failed to list keys in etcd");
            Broken::Rewatch(Failure::Unknown, Cause::Known(error.to_string()))
        })?;
        (self.seen, self.etcd) = (revision, etcd);
        self.queue.extend([Change::Reset { entries, revision }, Change::Seen(revision)]);
        self.state = State::Listed;
        Ok(())
    }

    async fn open(&mut self) -> Result<(), Broken> {
        let within = self.store.request_timeout();
        let opening = async {
            let link = self.store.link(Instant::now() + within).await?;
            let options = WatchOptions::new().with_prefix().with_start_revision(self.seen + 1);
            let stream = watch_client(&link).watch(self.prefix.clone(), Some(options)).await;
            Ok((link, stream))
        };
        let (link, stream) = match timeout(within, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(cause)) => return Err(Broken::Rewatch(Failure::NotSent, cause)),
            Err(_) => return Err(Broken::Rewatch(Failure::Unknown, Cause::Silence(within))),
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                let failure = Failure::of(&error);
                self.store.recover(&link, failure, Instant::now() + within).await;
                return Err(Broken::Rewatch(failure, Cause::Client(error)));
            }
        };
        let (requests, answers) = stream.split();
        let now = Instant::now();
        self.state = State::Watching(Box::new(Watch {
            link,
            requests,
            answers,
            heard: now,
            next_request: now + PROGRESS_EVERY,
        }));
        Ok(())
    }

    fn take(&mut self, answer: &WatchResponse) -> Result<(), Broken> {
        if answer.compact_revision() > 0 {
            return Err(Broken::Relist(format!("history is compacted up to {}", answer.compact_revision())));
        }
        if answer.canceled() {
            let why = answer.cancel_reason().to_owned();
            let failure = if wants_token(&why) { Failure::Token } else { Failure::Unknown };
            return Err(Broken::Rewatch(failure, Cause::Known(why)));
        }
        let Some(header) = answer.header() else { return Ok(()) };
        if header.cluster_id() != self.etcd {
            return Err(Broken::Relist("this is another etcd".to_owned()));
        }
        self.backoff = BACKOFF.build();
        if answer.created() {
            return Ok(());
        }
        if answer.events().is_empty() {
            return self.progress(header.revision());
        }
        // The header of a response with events may be ahead of them, so only the events count.
        for event in answer.events() {
            let Some(kv) = event.kv() else { continue };
            self.seen = self.seen.max(kv.mod_revision());
            let change = match event.event_type() {
                EventType::Put => Change::Put(entry(&self.prefix, kv)),
                EventType::Delete => {
                    Change::Delete { key: below(&self.prefix, kv), version: kv.mod_revision() }
                }
            };
            self.queue.push_back(change);
        }
        self.queue.push_back(Change::Seen(self.seen));
        Ok(())
    }

    fn progress(&mut self, revision: i64) -> Result<(), Broken> {
        if revision < self.seen {
            return Err(Broken::Relist(format!("etcd went back from revision {} to {revision}", self.seen)));
        }
        self.seen = revision;
        self.queue.push_back(Change::Seen(revision));
        Ok(())
    }
}

impl Watch {
    /// Waits for one response, or until a progress request is due. Cancel-safe.
    async fn hear(&mut self, hurry: &Notify) -> Result<Option<WatchResponse>, Broken> {
        let lost = |cause| Broken::Rewatch(Failure::Unknown, cause);
        tokio::select! {
            biased;
            answer = self.answers.message() => {
                self.heard = Instant::now();
                match answer {
                    Ok(Some(answer)) => Ok(Some(answer)),
                    Ok(None) => Err(lost(Cause::Known("the watch ended".to_owned()))),
                    Err(error) => Err(Broken::Rewatch(Failure::of(&error), Cause::Client(error))),
                }
            }
            () = sleep_until(self.next_request) => {
                // After a late wake-up of this task, etcd gets a full second to respond.
                if self.heard.elapsed() >= SILENCE && self.next_request.elapsed() < PROGRESS_EVERY {
                    return Err(lost(Cause::Silence(SILENCE)));
                }
                self.next_request = Instant::now() + PROGRESS_EVERY;
                self.ask().await
            }
            () = hurry.notified() => self.ask().await,
        }
    }

    async fn ask(&mut self) -> Result<Option<WatchResponse>, Broken> {
        let cause = match timeout(SILENCE, self.requests.request_progress()).await {
            Ok(Ok(())) => return Ok(None),
            Ok(Err(error)) => Cause::Client(error),
            Err(_) => Cause::Silence(SILENCE),
        };
        Err(Broken::Rewatch(Failure::Unknown, cause))
    }
}

/// All keys of a prefix at one revision, that revision, and the id of the etcd cluster.
pub(super) async fn list_all(store: &Store, prefix: &str) -> Result<(Vec<Entry>, i64, u64)> {
    let (mut entries, mut pages) = (Vec::new(), Pages::new(store, prefix));
    while let Some(page) = pages.next().await? {
        entries.extend(page);
    }
    Ok((entries, pages.revision, pages.etcd))
}

/// Lists the keys of a prefix at one revision, page by page.
pub(super) struct Pages<'a> {
    store: &'a Store,
    prefix: &'a str,
    /// First key of the next page; `None` after the last.
    from: Option<String>,
    /// Revision of the first page, which all pages use.
    revision: i64,
    etcd: u64,
}

impl<'a> Pages<'a> {
    /// Nothing is sent before [`Pages::next`].
    pub(super) fn new(store: &'a Store, prefix: &'a str) -> Self {
        Self { store, prefix, from: Some(prefix.to_owned()), revision: 0, etcd: 0 }
    }

    /// The next page; `None` after the last. After an error it can be called again.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Entry>>> {
        let Some(from) = &self.from else { return Ok(None) };
        let range = GetOptions::new().with_range(range_end(self.prefix)).with_limit(PAGE);
        let options = range.with_revision(self.revision);
        let page = self.store.get(&format!("list {}", self.prefix), from.clone(), options).await?;
        if self.revision == 0
            && let Some(header) = page.header()
        {
            (self.revision, self.etcd) = (header.revision(), header.cluster_id());
        }
        let last = page.kvs().last().filter(|_| page.more());
        // The next possible key after the last one.
        self.from = last.map(|last| format!("{}\0", String::from_utf8_lossy(last.key())));
        Ok(Some(page.kvs().iter().map(|kv| entry(self.prefix, kv)).collect()))
    }
}

fn entry(prefix: &str, kv: &KeyValue) -> Entry {
    Entry {
        key: below(prefix, kv),
        value: kv.value().to_vec(),
        created: kv.create_revision(),
        version: kv.mod_revision(),
    }
}

fn below(prefix: &str, kv: &KeyValue) -> String {
    let key = String::from_utf8_lossy(kv.key());
    key.strip_prefix(prefix).unwrap_or(&key).to_owned()
}
