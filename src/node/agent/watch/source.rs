//! One namespace that is watched, and where its changes and failures go.

use std::collections::BTreeSet;

use domain::names::Namespace;
use kube::api::DynamicObject;
use kube::runtime::watcher;
use runtime::readiness::Readiness;
use tokio::sync::mpsc;
use tracing::warn;

use crate::agent::api::{Cluster, Kind, node_of};
use crate::agent::error::Error;

/// Seconds until the apiserver ends a watch: a connection that broke silently is noticed then.
const WATCH_SECONDS: u32 = 120;
/// Objects of one page of a list.
pub(super) const PAGE: u32 = 200;

/// What a watch reports.
#[derive(Debug)]
pub enum Change {
    /// The object is there.
    Is(Kind, Box<DynamicObject>),
    /// It is gone, or not of this node any more; as it was last.
    Gone(Kind, Box<DynamicObject>),
    /// Names of all objects of a kind in a namespace: others that were reported are gone.
    All(Kind, Namespace, BTreeSet<String>),
}

/// One namespace.
#[derive(Clone)]
pub struct Source {
    /// The apiserver and the node.
    pub cluster: Cluster,
    /// The namespace.
    pub namespace: Namespace,
    /// Where changes go.
    pub changes: mpsc::Sender<Change>,
    /// Shows watches that fail.
    pub readiness: Readiness,
}

/// Nobody receives changes any more.
#[derive(Debug)]
pub(super) struct Closed;

impl Source {
    pub(super) fn is_own(&self, kind: Kind, object: &DynamicObject) -> bool {
        node_of(kind, object) == Some(self.cluster.node.as_str())
    }

    pub(super) async fn report(&self, change: Change) -> Result<(), Closed> {
        self.changes.send(change).await.map_err(|_| Closed)
    }

    pub(super) fn call_failed(&self, what: &str, error: &kube::Error) {
        self.failed(what, &Error::of_call(self.part(what), error));
    }

    /// Logs and shows the failure of a watch, unless the apiserver only asks for a new list.
    pub(super) fn watch_failed(&self, what: &str, error: &watcher::Error) {
        let reason = match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => return self.call_failed(what, error),
            watcher::Error::WatchError(status) if status.code == 410 => return,
            watcher::Error::WatchError(status) => {
                format!("the apiserver answers {} {}", status.code, status.reason)
            }
            watcher::Error::NoResourceVersion => "the answer has no version".to_owned(),
        };
        self.failed(what, &Error::Call { action: self.part(what), reason, code: None });
    }

    fn failed(&self, what: &str, error: &Error) {
        warn!(%error, "a watch failed and is tried again");
        self.readiness.degrade(self.part(what), error.to_string());
    }

    pub(super) fn recovered(&self, what: &str) {
        self.readiness.recover(&self.part(what));
    }

    fn part(&self, what: &str) -> String {
        format!("{what} in namespace {}", self.namespace)
    }
}

/// Of all watches.
pub(super) fn settings() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE)
}
