//! Writes and reads of Events, Snapshots and the maintenance ConfigMap.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use serde_json::json;

use crate::error::{Error, Result, chain};
use crate::maintenance;
use domain::pod::{EventQuery, PodEvent};
use k8s::resources::{Snapshot, SnapshotStatus};

use super::writer::{Created, Patched, Writer, by_us, created, patched};

/// Events of one pod that are read; kubelet and scheduler write a few and count repetitions.
const EVENTS: u32 = 100;

/// What became of something that was waited for.
#[derive(Debug, Clone, PartialEq)]
pub enum Awaited {
    /// It is as wanted.
    Is(SnapshotStatus),
    /// It is gone.
    Gone,
    /// It was not as wanted in time; the last that is known of it, in a sentence.
    Late(String),
}

impl Writer {
    /// Reads the events of a pod.
    pub async fn pod_events(&self, query: &EventQuery) -> Result<Vec<PodEvent>> {
        let mut fields = format!("involvedObject.kind=Pod,involvedObject.name={}", query.pod);
        if let Some(uid) = &query.uid {
            fields = format!("{fields},involvedObject.uid={uid}");
        }
        let (api, params) = (self.api::<Event>(), ListParams::default().fields(&fields).limit(EVENTS));
        let list = self.read(format!("list Events of Pod {}", query.pod), api.list(&params)).await?;
        Ok(list.items.into_iter().map(pod_event).collect())
    }

    /// Creates an event.
    pub async fn create_event(&self, event: &Event) -> Result<()> {
        let call = async {
            let body = serde_json::to_vec(event).map_err(kube::Error::SerdeError)?;
            self.taken(self.requests::<Event>().create(&by_us(), body)).await
        };
        self.write("create Event".to_owned(), call).await
    }

    /// Creates a snapshot.
    pub async fn create_snapshot(&self, snapshot: &Snapshot) -> Result<Created<Snapshot>> {
        self.create(snapshot.metadata.name.as_deref().unwrap_or_default(), snapshot).await
    }

    /// Waits until a snapshot's status is as wanted. Watches it: nothing is polled, and a watch that breaks goes on.
    pub async fn await_snapshot(
        &self,
        name: &str,
        wanted: impl Fn(&SnapshotStatus) -> bool,
        within: Duration,
    ) -> Awaited {
        let mut broken = None;
        let waiting = async {
            let mut states = pin!(watch_object(self.api::<Snapshot>(), name).default_backoff());
            loop {
                match states.next().await {
                    Some(Ok(Some(Snapshot { status: Some(status), .. }))) if wanted(&status) => {
                        return Awaited::Is(status);
                    }
                    Some(Ok(Some(_))) => {}
                    Some(Ok(None)) | None => return Awaited::Gone,
                    Some(Err(error)) => broken = Some(chain(&error)),
                }
            }
        };
        let awaited = tokio::time::timeout(within, waiting).await;
        awaited.unwrap_or_else(|_| {
            let last = broken.map(|error| format!(": {error}")).unwrap_or_default();
            Awaited::Late(format!("it did not get there within {within:?}{last}"))
        })
    }

    /// Puts maintenance on until a time, or off.
    pub async fn set_maintenance(&self, until: Option<Timestamp>) -> Result<()> {
        let name = self.maintenance_name.as_str();
        let action = || format!("set maintenance in ConfigMap {name}");
        let api = self.api::<ConfigMap>();
        let content = maintenance::render(until);
        let patch = json!({ "data": { maintenance::KEY: content } });
        let change = async || {
            let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
            patched(self.write(action(), api.patch(name, &params, &patch)).await)
        };
        if let Patched::Done(_) = change().await? {
            return Ok(());
        }
        let object = ConfigMap {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            data: Some([(maintenance::KEY.to_owned(), content)].into()),
            ..ConfigMap::default()
        };
        if let Created::New(_) = created(self.write(action(), api.create(&by_us(), &object)).await)? {
            return Ok(());
        }
        // Somebody else made it just now.
        match change().await? {
            Patched::Done(_) => Ok(()),
            Patched::NotFound | Patched::Conflict => Err(Error::Ambiguous {
                cluster: self.cluster.clone(),
                action: action(),
                reason: "others create and delete it at the same time".to_owned(),
            }),
        }
    }
}

fn pod_event(event: Event) -> PodEvent {
    let repeated = event.series.and_then(|series| series.last_observed_time).map(|time| time.0);
    let at = repeated.or(event.last_timestamp.map(|time| time.0)).or(event.event_time.map(|time| time.0));
    PodEvent {
        reason: event.reason.unwrap_or_default(),
        message: event.message.unwrap_or_default(),
        warning: event.type_.as_deref() == Some("Warning"),
        at: at.or(event.metadata.creation_timestamp.map(|time| time.0)),
    }
}
