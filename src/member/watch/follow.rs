//! One watch: list, follow, restart.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::consume_budget;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::Fault;
use crate::error::{Error, Rule, answered, chain};
use crate::pages::PAGE;
use domain::names::ClusterName;
use k8s::fast_decode::LazyObject;

use super::backoff::Backoff;
use super::pulse::Pulse;
use super::stock::{Full, Shelf, Stock, Verdict};

/// After so many consecutive failures the watch lists everything again: the apiserver may have been restored from a backup,
/// and may not know the resource version any more.
const GIVE_UP: u32 = 5;

/// What is taken from a watch before it is read: more than a page of a list, so that the next page is asked for meanwhile.
const AHEAD: usize = PAGE as usize * 2;
/// So many fewer objects a page are asked for where a page is too long.
const SMALLER: u32 = 10;
/// Before a cluster that sends too much is listed again, at least.
const FLOODED: Duration = Duration::from_secs(30);

/// Receives watched objects. Called from one task, in order.
pub(super) trait Sink: Send + 'static {
    /// What is watched.
    type Object;
    /// A list begins; an incomplete one before it is void.
    fn begin(&mut self);
    /// An object is listed, new or changed.
    fn put(&mut self, object: Self::Object);
    /// An object exists and cannot be decoded, or exceeds the memory limit: its last known state stays.
    fn keep(&mut self, name: &str);
    /// An object is gone, or no longer belongs to Spaceport.
    fn remove(&mut self, meta: &ObjectMeta);
    /// The cluster said that an object was deleted.
    fn deleted(&mut self, meta: &ObjectMeta) {
        self.remove(meta);
    }
    /// A list is complete: what it did not contain is gone.
    fn end(&mut self);
}

type Item<K> = watcher::Result<Event<LazyObject<K>>>;

/// Requests that everything is listed again.
pub(super) type Relist = watch::Receiver<()>;

/// Follows the objects of `api` into `sink` until `shutdown`; lists everything again when `relist` requests it.
pub(super) async fn follow<K, S>(
    of: Followed,
    api: Api<LazyObject<K>>,
    mut config: Config,
    mut sink: S,
    mut relist: Relist,
    shutdown: CancellationToken,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Clone,
    S: Sink<Object = K>,
{
    let Followed { cluster, pulse, stock } = of;
    let page = config.page_size.unwrap_or(PAGE);
    let shelf = Shelf::new(Arc::clone(&stock));
    let mut watch = Watch { cluster, pulse, shelf, stock, page, shutdown };
    let mut backoff = Backoff::default();
    while !watch.shutdown.is_cancelled() {
        relist.borrow_and_update();
        config.page_size = Some(watch.page);
        let events = std::pin::pin!(watcher(api.clone(), config.clone()).fuse());
        tokio::select! {
            () = watch.until_given_up(events, &mut sink, &mut backoff) => {}
            Ok(()) = relist.changed() => {}
        }
    }
}

/// What is followed, and within which bounds.
pub(super) struct Followed {
    pub(super) cluster: ClusterName,
    pub(super) pulse: Arc<Pulse>,
    /// Of the cluster.
    pub(super) stock: Arc<Stock>,
}

struct Watch {
    cluster: ClusterName,
    pulse: Arc<Pulse>,
    shelf: Shelf,
    stock: Arc<Stock>,
    /// Objects of a page.
    page: u32,
    shutdown: CancellationToken,
}

impl Watch {
    /// Takes events until shutdown, or until the position must be given up.
    async fn until_given_up<K, S>(
        &mut self,
        mut events: impl Stream<Item = Item<K>> + Unpin,
        sink: &mut S,
        backoff: &mut Backoff,
    ) where
        K: Resource + DeserializeOwned,
        K::DynamicType: Default,
        S: Sink<Object = K>,
    {
        let mut failures_here = 0;
        let mut ready = VecDeque::new();
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                goes_on = gather(&mut events, &mut ready) => if !goes_on { return },
            }
            while let Some(event) = ready.pop_front() {
                let taken = match event {
                    Ok(event) => {
                        // The mark that a list begins comes before anything is sent.
                        if !matches!(event, Event::Init) {
                            backoff.reset();
                            failures_here = 0;
                        }
                        self.take(event, sink)
                    }
                    Err(error) => Err(self.told(error)),
                };
                if let Err(Failed { text, is_lost, flood }) = taken {
                    failures_here += 1;
                    self.failed(text, backoff.failures(), flood);
                    let mut pause = backoff.next(Instant::now());
                    if flood == Some(Flood::Lasting) {
                        pause = pause.max(FLOODED);
                    }
                    if tokio::time::timeout(pause, self.shutdown.cancelled()).await.is_ok() {
                        return;
                    }
                    if is_lost || failures_here >= GIVE_UP {
                        return;
                    }
                }
                // A long list is read a bit at a time, so that other clusters have their turns.
                consume_budget().await;
            }
        }
    }

    fn take<K, S>(&mut self, event: Event<LazyObject<K>>, sink: &mut S) -> Result<(), Failed>
    where
        K: Resource + DeserializeOwned,
        K::DynamicType: Default,
        S: Sink<Object = K>,
    {
        let verdict = match &event {
            Event::InitApply(object) => self.shelved(object, true)?,
            Event::Apply(object) => self.shelved(object, false)?,
            _ => Verdict::Take,
        };
        match event {
            Event::Init => {
                self.pulse.forget_unreadable();
                self.shelf.begin();
                sink.begin();
            }
            Event::InitDone => {
                sink.end();
                // Objects were left out of a list that turned out to be short enough.
                self.shelf.end().map_err(|Full| Failed { flood: Some(Flood::Again), ..self.overflow() })?;
                self.pulse.listed();
            }
            Event::Delete(object) => {
                let meta = object.meta();
                self.pulse.readable(meta.name.as_deref().unwrap_or_default());
                self.shelf.remove(meta.namespace.as_deref().unwrap_or_default(), name_of(meta));
                sink.deleted(meta);
            }
            Event::Apply(object) | Event::InitApply(object) if verdict == Verdict::LeaveOut => {
                sink.keep(name_of(object.meta()));
            }
            Event::Apply(object) | Event::InitApply(object) => match object.decode() {
                Ok(object) => {
                    self.pulse.readable(name_of(object.meta()));
                    sink.put(object);
                }
                Err(invalid) => {
                    let Some(name) = invalid.metadata.name else {
                        // A list without it would report it as gone.
                        let text = format!("an object without a name: {}", without_values(&invalid.error));
                        return Err(Failed { text, is_lost: true, flood: None });
                    };
                    if self.pulse.unreadable(&name) {
                        let problem = without_values(&invalid.error);
                        let (cluster, what) = (&self.cluster, self.pulse.what());
                        tracing::warn!(%cluster, what, name, problem, "an object cannot be read and is left out");
                    }
                    sink.keep(&name);
                }
            },
        }
        Ok(())
    }

    fn shelved<K>(&mut self, object: &LazyObject<K>, is_listed: bool) -> Result<Verdict, Failed>
    where
        K: Resource + DeserializeOwned,
        K::DynamicType: Default,
    {
        let meta = object.meta();
        let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), name_of(meta));
        let put = if is_listed {
            self.shelf.list(namespace, name, object.size())
        } else {
            self.shelf.change(namespace, name, object.size())
        };
        put.map_err(|Full| self.overflow())
    }

    fn overflow(&self) -> Failed {
        let text = format!(
            "the cluster has more objects than are kept of one cluster: {} MiB, federation.objectMebibytes",
            self.stock.most() / (1024 * 1024)
        );
        Failed { text, is_lost: true, flood: Some(Flood::Lasting) }
    }

    fn told(&mut self, error: watcher::Error) -> Failed {
        use watcher::Error::{
            InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed,
        };
        let can_shrink = matches!(error, InitialListFailed(_)) && self.page > 1;
        let (text, is_lost, flood) = match error {
            InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => {
                let flood = match Fault::is_too_long(&error) {
                    true if can_shrink => Some(Flood::Again),
                    true => Some(Flood::Lasting),
                    false => None,
                };
                if flood == Some(Flood::Again) {
                    self.page = (self.page / SMALLER).max(1);
                }
                let error = Error::from_kube(&self.cluster, "watch", error);
                let is_later = matches!(error, Error::Refused { rule: Rule::LaterVersion, .. });
                (error.cause(), is_later || flood == Some(Flood::Again), flood)
            }
            // 410 Gone means that the resource version is too old; the watch has to list again.
            WatchError(status) => (answered(&status), false, None),
            NoResourceVersion => (chain(&error), true, None),
        };
        Failed { text, is_lost, flood }
    }

    fn failed(&self, text: String, failures: u32, flood: Option<Flood>) {
        let (cluster, what) = (&self.cluster, self.pulse.what());
        // A single failure is normal; only a second one in a row is logged, once.
        if failures == 1 {
            tracing::warn!(%cluster, what, error = text, "a watch keeps breaking");
        } else {
            tracing::debug!(%cluster, what, error = text, failures, "a watch broke and is begun again");
        }
        match flood {
            // A page that is too long is asked for again with fewer objects: that is no failure yet.
            None | Some(Flood::Again) => self.pulse.failed(text),
            Some(Flood::Lasting) => self.pulse.flooded(text),
        }
    }
}

/// What went wrong, and whether the position is void.
struct Failed {
    text: String,
    is_lost: bool,
    /// The cluster sends too much.
    flood: Option<Flood>,
}

/// What is done about too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flood {
    /// It is listed again: with smaller pages, or whole.
    Again,
    /// One object is too long, or there are too many: it is tried again, in a while.
    Lasting,
}

fn name_of(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// Takes what there is now, and waits only for the first; not beyond a failure, which a pause follows. `false` at the end.
async fn gather<K>(
    events: &mut (impl Stream<Item = Item<K>> + Unpin),
    ready: &mut VecDeque<Item<K>>,
) -> bool {
    poll_fn(|context| {
        while ready.len() < AHEAD && !ready.back().is_some_and(Result::is_err) {
            match events.poll_next_unpin(context) {
                Poll::Ready(Some(event)) => ready.push_back(event),
                Poll::Ready(None) => return Poll::Ready(!ready.is_empty()),
                Poll::Pending if ready.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(true)
    })
    .await
}

/// What a parser says without the value that it quotes.
fn without_values(error: &str) -> String {
    error.split(['"', '`']).next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, stream};
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    const DONE: Item<Pod> = Ok(Event::InitDone);

    #[tokio::test]
    async fn what_comes_at_once_is_gathered_up_to_a_failure_and_nothing_waits_for_more() {
        let items = vec![DONE, DONE, Err(watcher::Error::NoResourceVersion), DONE];
        let mut events = stream::iter(items).chain(stream::pending());
        let mut ready = VecDeque::new();
        assert!(gather(&mut events, &mut ready).await);
        assert_eq!(ready.len(), 3, "not beyond the failure");
        ready.clear();
        assert!(gather(&mut events, &mut ready).await);
        assert_eq!(ready.len(), 1);
        ready.clear();
        assert_eq!(gather(&mut events, &mut ready).now_or_never(), None, "there is nothing");
        let mut ended = stream::iter([DONE]).fuse();
        assert!(gather(&mut ended, &mut ready).await, "what came before the end counts");
        ready.clear();
        assert!(!gather(&mut ended, &mut ready).await);
    }

    #[tokio::test]
    async fn no_more_is_gathered_than_two_pages() {
        let mut events = stream::repeat_with(|| DONE);
        let mut ready = VecDeque::new();
        assert!(gather(&mut events, &mut ready).await);
        assert_eq!(ready.len(), AHEAD);
    }
}
