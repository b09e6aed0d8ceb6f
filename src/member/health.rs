//! Health of a member cluster: the probe of `/readyz`, and the state that follows from probes and calls.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::error::Elapsed;
use tokio_util::sync::CancellationToken;

use domain::health::{Health, HealthState, Limits};
use domain::names::ClusterName;

use crate::client::{CallMeter, Probe, Signals};
use crate::error::Error;

/// How a cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// The state.
    pub health: Health,
    /// Why, in one sentence; empty where it is available.
    pub reason: String,
    /// How long the state has lasted.
    pub lasted: Duration,
    /// How long ago the cluster last answered.
    pub last_answer: Option<Duration>,
}

/// A cluster's health, shared. Every answered call counts; only probes count misses, so that a burst of failing calls
/// is one fault and not many.
pub struct HealthCell {
    limits: Limits,
    started: Instant,
    state: Mutex<State>,
    changes: watch::Sender<Health>,
    meter: Option<CallMeter>,
}

struct State {
    health: HealthState,
    /// What the last failed probe or call said.
    fault: String,
}

impl HealthCell {
    /// A cluster that is watched from now on.
    pub fn new(limits: Limits) -> Self {
        let state = State { health: HealthState::new(Duration::ZERO), fault: String::new() };
        Self {
            limits,
            started: Instant::now(),
            state: Mutex::new(state),
            changes: watch::Sender::new(Health::Connecting),
            meter: None,
        }
    }

    /// The same, and calls are counted.
    #[must_use]
    pub fn counted(self, meter: Option<CallMeter>) -> Self {
        Self { meter, ..self }
    }

    /// How the cluster is now.
    pub fn report(&self) -> HealthReport {
        let now = self.started.elapsed();
        let state = self.state.lock();
        let health = state.health.health();
        let last_answer = state.health.last_answer().map(|at| now.saturating_sub(at));
        HealthReport {
            health,
            reason: reason(health, &state.fault, last_answer),
            lasted: now.saturating_sub(state.health.since()),
            last_answer,
        }
    }

    /// The state alone.
    pub fn health(&self) -> Health {
        *self.changes.borrow()
    }

    /// The state, and its changes.
    pub fn subscribe(&self) -> watch::Receiver<Health> {
        self.changes.subscribe()
    }

    /// Takes a probe without a good answer.
    pub fn probe_missed(&self, reason: &str) {
        let now = self.started.elapsed();
        let mut state = self.state.lock();
        reason.clone_into(&mut state.fault);
        let changed = state.health.missed(now, &self.limits);
        self.tell(changed);
    }

    /// Call it with the state's lock held, so that changes are sent in their order.
    fn tell(&self, changed: Option<Health>) {
        if let Some(health) = changed {
            self.changes.send_replace(health);
        }
    }
}

impl Signals for HealthCell {
    fn answered(&self) {
        let now = self.started.elapsed();
        let mut state = self.state.lock();
        let changed = state.health.answered(now, &self.limits);
        self.tell(changed);
    }

    fn missed(&self, reason: &str) {
        reason.clone_into(&mut self.state.lock().fault);
    }

    fn meter(&self) -> Option<&CallMeter> {
        self.meter.as_ref()
    }
}

fn reason(health: Health, fault: &str, last_answer: Option<Duration>) -> String {
    let fault = if fault.is_empty() { "no fault was reported" } else { fault };
    match (health, last_answer) {
        (Health::Available, _) => String::new(),
        (Health::Connecting, _) => format!("no answer yet: {fault}"),
        (Health::Suspect, _) => format!("misses probes, or answers again for too short a time: {fault}"),
        (Health::Lost, Some(ago)) => format!("no answer for {} s: {fault}", ago.as_secs()),
        (Health::Lost, None) => format!("never answered: {fault}"),
    }
}

/// Probes `/readyz` every `period`, waiting `deadline` for each answer, until `shutdown`.
pub async fn run(
    cluster: &ClusterName,
    client: &kube::Client,
    health: &HealthCell,
    period: Duration,
    deadline: Duration,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(reason) = probe(cluster, client, deadline).await {
            let before = health.health();
            health.probe_missed(&reason);
            let now = health.health();
            if before != now {
                tracing::warn!(%cluster, ?now, reason, "health changed");
            }
        }
    }
}

/// One probe. The answer counts through the client's own signals.
async fn probe(cluster: &ClusterName, client: &kube::Client, deadline: Duration) -> Result<(), String> {
    match ask(client, "/readyz", deadline).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => {
            let error = Error::from_kube(cluster, "probe", error);
            let reason = format!("/readyz: {}", error.cause());
            let is_answer = error.code().is_some_and(|code| code >= 500);
            if is_answer && serves(client, deadline).await { Ok(()) } else { Err(reason) }
        }
        Err(_) => Err(format!("no answer to /readyz within {deadline:?}")),
    }
}

/// Whether an apiserver that says that it is not ready serves requests all the same, as it does for a minute when it shuts down
/// gracefully: a read that takes its etcd, too.
async fn serves(client: &kube::Client, deadline: Duration) -> bool {
    matches!(ask(client, "/api/v1/namespaces/kube-system", deadline).await, Ok(Ok(_)))
}

/// A read that waits for no turn.
async fn ask(client: &kube::Client, path: &str, deadline: Duration) -> Result<kube::Result<String>, Elapsed> {
    let request = http::Request::get(path).extension(Probe).body(Vec::new());
    let read = async { client.request_text(request.map_err(kube::Error::HttpError)?).await };
    tokio::time::timeout(deadline, read).await
}

#[cfg(test)]
mod tests;
