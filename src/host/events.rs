//! Kubernetes Events in the host cluster, for admins. A repeated event is counted in the existing one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::client::Host;
use domain::cluster_events::ClusterNotice;
use domain::names::{ClusterName, Namespace};
use k8s::events;
use k8s::resources::names::MANAGER;
use member::error::{Error, Result};

/// Deadline of one write.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// A repetition within this time is counted in the existing event.
const TOGETHER: SignedDuration = SignedDuration::from_mins(10);

/// Writes events to the host.
pub struct Events {
    host: Arc<Host>,
    told: BTreeMap<(ClusterName, &'static str), Told>,
}

/// An existing event.
struct Told {
    name: String,
    count: i32,
    last: Timestamp,
}

impl Events {
    /// With no event written yet.
    pub fn new(host: Arc<Host>) -> Self {
        Self { host, told: BTreeMap::new() }
    }

    /// Writes what happened at a time, or counts it in the last event of its kind; five seconds a call at most.
    pub async fn write(&mut self, news: &ClusterNotice, at: Timestamp) -> Result<()> {
        self.told.retain(|_, told| at.duration_since(told.last) < TOGETHER);
        let key = (news.cluster.clone(), news.reason);
        if let Some(told) = self.told.get_mut(&key) {
            let count = told.count.saturating_add(1);
            if self.host.count_event(&told.name, count, news, at).await? {
                (told.count, told.last) = (count, at);
                return Ok(());
            }
        }
        let name = self.host.create_event(news, at).await?;
        self.told.insert(key, Told { name, count: 1, last: at });
        Ok(())
    }
}

impl Host {
    /// Whether the event is still there.
    async fn count_event(&self, name: &str, count: i32, news: &ClusterNotice, at: Timestamp) -> Result<bool> {
        let patch =
            json!({ "count": count, "lastTimestamp": Time(at), "message": events::message(&news.message) });
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        match self.done("patch Event", self.events().patch(name, &params, &patch)).await {
            Ok(_) => Ok(true),
            // Events expire after about an hour; then counting starts again.
            Err(Error::Refused { code: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the name of the event. The same news at the same time has the same name, so that a retry creates no second one.
    async fn create_event(&self, news: &ClusterNotice, at: Timestamp) -> Result<String> {
        let reason = news.reason.to_ascii_lowercase();
        let name = format!("{}.{:x}.{reason}", news.cluster, at.as_nanosecond());
        let event = event(&self.namespace, name.clone(), news, at);
        match self.done("create Event", self.events().create(&PostParams::default(), &event)).await {
            Ok(_) | Err(Error::Refused { code: 409, .. }) => Ok(name),
            Err(error) => Err(error),
        }
    }

    fn events(&self) -> Api<Event> {
        Api::namespaced(self.client.clone(), self.namespace.as_str())
    }

    async fn done<T>(&self, action: &'static str, call: impl Future<Output = kube::Result<T>>) -> Result<T> {
        match tokio::time::timeout(WRITE_WITHIN, call).await {
            Ok(done) => done.map_err(|error| Error::from_kube(&self.name, action, error)),
            Err(_) => Err(Error::Ambiguous {
                cluster: self.name.clone(),
                action: action.to_owned(),
                reason: format!("no answer within {WRITE_WITHIN:?}"),
            }),
        }
    }
}

/// Its involved object is the member cluster: not an object of the host cluster, but what an admin searches for by name.
fn event(namespace: &Namespace, name: String, news: &ClusterNotice, at: Timestamp) -> Event {
    let about = ObjectReference {
        api_version: Some("spaceport.dev/v1".to_owned()),
        kind: Some("Cluster".to_owned()),
        name: Some(news.cluster.to_string()),
        namespace: Some(namespace.to_string()),
        ..ObjectReference::default()
    };
    let told =
        events::Told { by: MANAGER, reason: news.reason, message: &news.message, warning: news.warning };
    events::event(name, about, told, at)
}
