//! One watch: list, follow, and begin again.

use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::error::{Error, chain};
use crate::domain::names::ClusterName;

use super::backoff::Backoff;
use super::lenient::Lenient;
use super::pulse::Pulse;

/// After so many failures in a row the position is given up and everything is listed anew: the apiserver may have been
/// restored from a backup and know our position no more.
const GIVE_UP: u32 = 5;

/// Where watched objects go. Called from one task, in order.
pub(super) trait Sink: Send + 'static {
    /// What is watched.
    type Object;
    /// A list begins; what was half listed before it is void.
    fn begin(&mut self);
    /// An object is listed, new or changed.
    fn put(&mut self, object: Self::Object);
    /// An object is there and cannot be read: what was last read of it holds.
    fn keep(&mut self, name: &str);
    /// An object is gone, or none of ours any more.
    fn remove(&mut self, meta: &ObjectMeta);
    /// The cluster said that an object was deleted.
    fn deleted(&mut self, meta: &ObjectMeta) {
        self.remove(meta);
    }
    /// A list is complete: what it did not name is gone.
    fn end(&mut self);
}

type Item<K> = watcher::Result<Event<Lenient<K>>>;

/// Asks for everything to be listed anew.
pub(super) type Relist = watch::Receiver<()>;

/// Follows the objects of `api` into `sink` until `shutdown`; lists everything anew when `relist` asks for it.
pub(super) async fn follow<K, S>(
    cluster: ClusterName,
    api: Api<Lenient<K>>,
    config: Config,
    mut sink: S,
    pulse: Arc<Pulse>,
    mut relist: Relist,
    shutdown: CancellationToken,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Clone,
    S: Sink<Object = K>,
{
    let watch = Watch { cluster, pulse, shutdown };
    let mut backoff = Backoff::default();
    while !watch.shutdown.is_cancelled() {
        relist.borrow_and_update();
        let events = std::pin::pin!(watcher(api.clone(), config.clone()));
        tokio::select! {
            () = watch.until_given_up(events, &mut sink, &mut backoff) => {}
            Ok(()) = relist.changed() => {}
        }
    }
}

struct Watch {
    cluster: ClusterName,
    pulse: Arc<Pulse>,
    shutdown: CancellationToken,
}

impl Watch {
    /// Takes events until shutdown, or until the position must be given up.
    async fn until_given_up<K, S>(
        &self,
        mut events: impl Stream<Item = Item<K>> + Unpin,
        sink: &mut S,
        backoff: &mut Backoff,
    ) where
        K: Resource,
        K::DynamicType: Default,
        S: Sink<Object = K>,
    {
        let mut failures_here = 0;
        loop {
            let event = tokio::select! {
                () = self.shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    // The mark that a list begins comes before anything is sent.
                    if !matches!(event, Event::Init) {
                        backoff.reset();
                        failures_here = 0;
                    }
                    self.take(event, sink);
                }
                Some(Err(error)) => {
                    failures_here += 1;
                    let lost = self.failed(error, backoff.failures());
                    let pause = backoff.next(Instant::now());
                    if tokio::time::timeout(pause, self.shutdown.cancelled()).await.is_ok() {
                        return;
                    }
                    if lost || failures_here >= GIVE_UP {
                        return;
                    }
                }
                None => return,
            }
        }
    }

    fn take<K, S>(&self, event: Event<Lenient<K>>, sink: &mut S)
    where
        K: Resource,
        K::DynamicType: Default,
        S: Sink<Object = K>,
    {
        match event {
            Event::Init => {
                self.pulse.forget_unreadable();
                sink.begin();
            }
            Event::InitDone => sink.end(),
            Event::Delete(object) => {
                let meta = object.meta();
                self.pulse.readable(meta.name.as_deref().unwrap_or_default());
                sink.deleted(meta);
            }
            Event::Apply(object) | Event::InitApply(object) => match object.0 {
                Ok(object) => {
                    self.pulse.readable(object.meta().name.as_deref().unwrap_or_default());
                    sink.put(object);
                }
                Err(invalid) => {
                    let name = invalid.metadata.name.unwrap_or_default();
                    if self.pulse.unreadable(&name) {
                        let problem = without_values(&invalid.error);
                        let (cluster, what) = (&self.cluster, self.pulse.what());
                        tracing::warn!(%cluster, what, name, problem, "an object cannot be read and is left out");
                    }
                    sink.keep(&name);
                }
            },
        }
    }

    /// Notes a failure; says whether the position is void.
    fn failed(&self, error: watcher::Error, failures: u32) -> bool {
        use watcher::Error::{
            InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed,
        };
        let (cluster, what) = (&self.cluster, self.pulse.what());
        let (text, lost) = match error {
            InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => {
                let text = Error::from_kube(cluster, "watch", error).cause();
                let lost = text.contains("Too large resource version");
                (text, lost)
            }
            // 410 Gone is how an apiserver says that a watch was away for too long; listing anew is the answer.
            WatchError(status) => (status.message, false),
            NoResourceVersion => (chain(&error), true),
        };
        // A watch breaks now and then; one that breaks again is told, once.
        if failures == 1 {
            tracing::warn!(%cluster, what, error = text, "a watch keeps breaking");
        } else {
            tracing::debug!(%cluster, what, error = text, failures, "a watch broke and is begun again");
        }
        self.pulse.failed(text);
        lost
    }
}

/// What a parser says without the value that it quotes.
fn without_values(error: &str) -> String {
    error.split(['"', '`']).next().unwrap_or_default().trim_end().to_owned()
}
