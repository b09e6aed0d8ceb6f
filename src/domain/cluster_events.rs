//! Events of clusters for admins: differences between two snapshots of a cluster.

use super::condition::{Condition, State};
use super::drain::Stage;
use super::health::Health;
use super::names::ClusterName;

/// A notice to admins about a cluster, which the leader writes as a Kubernetes event in the host cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterNotice {
    /// The cluster.
    pub cluster: ClusterName,
    /// A bounded category for programs, such as `ClusterLost`.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
    /// Whether somebody should do something.
    pub warning: bool,
}

/// State of a cluster as far as it causes events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSnapshot {
    /// Health.
    pub health: Health,
    /// Why it is not available.
    pub fault: String,
    /// Whether the cluster gets no new workspaces.
    pub cordoned: bool,
    /// Stage of its drain.
    pub drain: Option<Stage>,
    /// Why its drain needs an admin; empty if it does not.
    pub blocked: String,
    /// Problem of its login: a category and a sentence.
    pub login: Option<(&'static str, String)>,
}

impl ClusterSnapshot {
    /// The same cluster without problems: the differences to it are events.
    #[must_use]
    pub fn healthy(&self) -> Self {
        let (health, fault, blocked) = (Health::Available, String::new(), String::new());
        Self { health, fault, blocked, login: None, ..self.clone() }
    }
}

/// Problem of a login, by the conditions of its cluster.
pub fn login(conditions: &[Condition]) -> Option<(&'static str, String)> {
    let failing = |kind: &str| conditions.iter().find(|one| one.kind == kind && one.state == State::False);
    if let Some(current) = failing("LoginCurrent") {
        return Some(("LoginNotUsable", current.message.clone()));
    }
    let lasts = failing("LoginLasts")?;
    let reason = if lasts.reason == "Ended" { "LoginEnded" } else { "LoginEndsSoon" };
    Some((reason, lasts.message.clone()))
}

/// The events between two snapshots of a cluster; `None`: not registered.
pub fn events(
    cluster: &ClusterName,
    before: Option<&ClusterSnapshot>,
    now: Option<&ClusterSnapshot>,
) -> Vec<ClusterNotice> {
    let mut found = Vec::new();
    match (before, now) {
        (None, Some(now)) => {
            found.push(Some(("ClusterRegistered", "was registered".to_owned(), false)));
            found.extend(changes(&now.healthy(), now));
        }
        (Some(before), Some(now)) => found.extend(changes(before, now)),
        (Some(_), None) => found.push(Some(("ClusterDeregistered", "was deregistered".to_owned(), false))),
        (None, None) => {}
    }
    let told = |(reason, message, warning)| {
        let message = format!("cluster {cluster} {message}");
        ClusterNotice { cluster: cluster.clone(), reason, message, warning }
    };
    found.into_iter().flatten().map(told).collect()
}

/// Reason, the rest of the sentence, and whether it is a warning.
type Change = Option<(&'static str, String, bool)>;

fn changes(before: &ClusterSnapshot, now: &ClusterSnapshot) -> [Change; 5] {
    [health(before, now), cordon(before, now), drain(before, now), block(before, now), of_login(before, now)]
}

/// A cluster that a new process has not connected to yet did not change.
fn health(before: &ClusterSnapshot, now: &ClusterSnapshot) -> Change {
    let was_available = matches!(before.health, Health::Available | Health::Connecting);
    match now.health {
        health if health == before.health => None,
        Health::Connecting => None,
        Health::Available if was_available => None,
        Health::Available => Some(("ClusterAvailable", "is available again".to_owned(), false)),
        Health::Suspect => {
            Some(("ClusterSuspect", format!("gets no new workspaces: it {}", now.fault), true))
        }
        Health::Lost => {
            let told = format!("is lost: {}; its workspaces are shown as unreachable", now.fault);
            Some(("ClusterLost", told, true))
        }
    }
}

fn cordon(before: &ClusterSnapshot, now: &ClusterSnapshot) -> Change {
    match (before.cordoned, now.cordoned) {
        (false, true) => Some(("ClusterCordoned", "was cordoned".to_owned(), false)),
        (true, false) => Some(("ClusterUncordoned", "was uncordoned".to_owned(), false)),
        _ => None,
    }
}

fn drain(before: &ClusterSnapshot, now: &ClusterSnapshot) -> Change {
    if before.drain == now.drain {
        return None;
    }
    let (reason, message) = match now.drain? {
        Stage::Draining if before.drain == Some(Stage::Paused) => ("DrainResumed", "is being drained again"),
        Stage::Draining => ("DrainStarted", "is being drained"),
        Stage::Paused => ("DrainPaused", "is not drained any further until that is resumed"),
        Stage::Drained => ("DrainFinished", "is drained: nothing is left there"),
        Stage::Cancelled => ("DrainCancelled", "is not drained any more"),
    };
    Some((reason, message.to_owned(), false))
}

/// One event while the drain is stuck, even if the numbers in the message change.
fn block(before: &ClusterSnapshot, now: &ClusterSnapshot) -> Change {
    (before.blocked.is_empty() && !now.blocked.is_empty())
        .then(|| ("DrainStuck", format!("cannot be drained further: {}", now.blocked), true))
}

fn of_login(before: &ClusterSnapshot, now: &ClusterSnapshot) -> Change {
    let reason = |look: &ClusterSnapshot| look.login.as_ref().map(|(reason, _)| *reason);
    match &now.login {
        None if before.login.is_some() => Some(("LoginGood", "has a good login again".to_owned(), false)),
        Some((told, message)) if reason(before) != Some(told) => {
            Some((told, format!("needs another login: {message}"), true))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> ClusterSnapshot {
        ClusterSnapshot {
            health: Health::Available,
            fault: String::new(),
            cordoned: false,
            drain: None,
            blocked: String::new(),
            login: None,
        }
    }

    fn reasons(before: Option<&ClusterSnapshot>, now: Option<&ClusterSnapshot>) -> Vec<&'static str> {
        events(&"eu".parse().unwrap(), before, now).into_iter().map(|event| event.reason).collect()
    }

    #[test]
    fn an_unchanged_cluster_has_no_events() {
        let unhealthy = ClusterSnapshot {
            health: Health::Lost,
            blocked: "1 workspace".to_owned(),
            login: Some(("LoginEnded", "it ended".to_owned())),
            ..healthy()
        };
        let worse = ClusterSnapshot {
            fault: "no answer for 90 s".to_owned(),
            blocked: "2 workspaces".to_owned(),
            ..unhealthy.clone()
        };
        assert!(reasons(Some(&unhealthy), Some(&worse)).is_empty());
        assert_eq!(
            reasons(Some(&unhealthy.healthy()), Some(&unhealthy)),
            ["ClusterLost", "DrainStuck", "LoginEnded"]
        );
    }

    #[test]
    fn lost_and_available_again_are_events() {
        let of = |health| ClusterSnapshot { health, fault: "misses probes".to_owned(), ..healthy() };
        let (suspect, lost) = (of(Health::Suspect), of(Health::Lost));
        assert_eq!(reasons(Some(&healthy()), Some(&suspect)), ["ClusterSuspect"]);
        assert_eq!(reasons(Some(&suspect), Some(&lost)), ["ClusterLost"]);
        assert_eq!(reasons(Some(&lost), Some(&healthy())), ["ClusterAvailable"]);
        assert!(reasons(Some(&of(Health::Connecting)), Some(&healthy())).is_empty());
        let told = events(&"eu".parse().unwrap(), Some(&healthy()), Some(&suspect));
        assert_eq!(told[0].message, "cluster eu gets no new workspaces: it misses probes");
        assert!(told[0].warning);
    }

    #[test]
    fn registering_a_cluster_reports_its_problems_and_deregistering_does_not() {
        let ends = ClusterSnapshot { login: Some(("LoginEndsSoon", "it ends soon".to_owned())), ..healthy() };
        assert_eq!(reasons(None, Some(&ends)), ["ClusterRegistered", "LoginEndsSoon"]);
        assert_eq!(reasons(Some(&ends), None), ["ClusterDeregistered"]);
        assert_eq!(reasons(Some(&ends), Some(&healthy())), ["LoginGood"]);
    }

    #[test]
    fn each_stage_of_a_drain_is_an_event() {
        let of = |stage| ClusterSnapshot { drain: Some(stage), ..healthy() };
        let (draining, paused) = (of(Stage::Draining), of(Stage::Paused));
        assert_eq!(reasons(Some(&healthy()), Some(&draining)), ["DrainStarted"]);
        assert_eq!(reasons(Some(&draining), Some(&paused)), ["DrainPaused"]);
        assert_eq!(reasons(Some(&paused), Some(&draining)), ["DrainResumed"]);
        assert_eq!(reasons(Some(&draining), Some(&of(Stage::Drained))), ["DrainFinished"]);
    }

    #[test]
    fn a_bad_secret_takes_precedence_over_a_login_that_ends() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let soon = Condition::fails("LoginLasts", "EndsSoon", "it ends".to_owned(), now);
        let bad = Condition::fails("LoginCurrent", "SecretNotFound", "it is not there".to_owned(), now);
        assert_eq!(login(&[Condition::holds("LoginLasts", now)]), None);
        assert_eq!(login(std::slice::from_ref(&soon)).unwrap().0, "LoginEndsSoon");
        assert_eq!(login(&[soon, bad]).unwrap(), ("LoginNotUsable", "it is not there".to_owned()));
    }
}
