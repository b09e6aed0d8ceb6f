//! Maintenance of one namespace, read from its ConfigMap.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Name of the ConfigMap where the configuration names none.
pub const DEFAULT_NAME: &str = "ws-manager-mk2-maintenance-mode";
/// Key in the ConfigMap.
pub const KEY: &str = "config.json";
/// How long the wait for the end may sleep: the wall clock may be set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Content that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{KEY} of the maintenance ConfigMap {0}")]
pub struct Unreadable(String);

/// Until when maintenance is on, by the text of [`KEY`].
pub fn parse(text: &str) -> Result<Option<Timestamp>, Unreadable> {
    let content: Map<String, Value> = serde_json::from_str(text)
        .map_err(|_| Unreadable("is not JSON such as {\"enabledUntil\": \"2026-01-02T03:04:05Z\"}".into()))?;
    let wrong = || Unreadable("has an enabledUntil that is no RFC 3339 time".into());
    match content.get("enabledUntil") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(until)) if until.is_empty() => Ok(None),
        Some(Value::String(until)) => until.parse().map(Some).map_err(|_| wrong()),
        Some(_) => Err(wrong()),
    }
}

/// The text of [`KEY`] for a time, or for off.
pub fn render(until: Option<Timestamp>) -> String {
    serde_json::json!({ "enabledUntil": until.map(|until| until.to_string()) }).to_string()
}

/// Maintenance of one namespace as last read; off at first.
#[derive(Debug)]
pub struct Maintenance {
    until: watch::Sender<Option<Timestamp>>,
    enabled: watch::Sender<bool>,
    problem: Mutex<Option<String>>,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self {
            until: watch::Sender::new(None),
            enabled: watch::Sender::new(false),
            problem: Mutex::default(),
        }
    }
}

impl Maintenance {
    /// Off at first.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it is on.
    pub fn enabled_at(&self, now: Timestamp) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    /// Until when it is on; may lie in the past.
    pub fn until(&self) -> Option<Timestamp> {
        *self.until.borrow()
    }

    /// Waits until it is known to end at that time, or to be off.
    pub async fn is_until(&self, until: Option<Timestamp>) {
        // The sender is in `self`: the wait cannot fail.
        let _ = self.until.subscribe().wait_for(|seen| *seen == until).await;
    }

    /// Why the content last seen could not be read, so that the last good state holds.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    /// Whether it is on; changes also when it ends by itself, while [`Maintenance::run`] runs.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.enabled.subscribe()
    }

    /// Takes the ConfigMap as it is now; `None` where there is none, which means off.
    pub fn take(&self, object: Option<&ConfigMap>, now: Timestamp) {
        let text = object.and_then(|object| object.data.as_ref()?.get(KEY));
        match text.map_or(Ok(None), |text| parse(text)) {
            Ok(until) => {
                *self.problem.lock() = None;
                self.until.send_replace(until);
                self.refresh(now);
            }
            Err(error) => self.unreadable(&error.to_string()),
        }
    }

    /// Takes that the ConfigMap is there and cannot be read.
    pub fn unreadable(&self, problem: &str) {
        let before = self.problem.lock().replace(problem.to_owned());
        if before.as_deref() != Some(problem) {
            tracing::warn!(problem, "maintenance cannot be read; the last good state holds");
        }
    }

    /// Ends maintenance when its time comes, until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut until = self.until.subscribe();
        loop {
            let now = Timestamp::now();
            self.refresh(now);
            let left = until.borrow_and_update().map(|until| until.duration_since(now));
            let left = left.and_then(|left| Duration::try_from(left).ok()).filter(|left| !left.is_zero());
            let end = async {
                match left {
                    Some(left) => tokio::time::sleep(left.min(LOOK_AGAIN)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = end => {}
                changed = until.changed() => if changed.is_err() { return },
            }
        }
    }

    fn refresh(&self, now: Timestamp) {
        let enabled = self.enabled_at(now);
        self.enabled.send_if_modified(|before| std::mem::replace(before, enabled) != enabled);
    }
}

#[cfg(test)]
mod tests;
