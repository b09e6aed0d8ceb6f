//! What an admin should hear of a cluster: the difference between two looks at it.

use super::condition::{Condition, State};
use super::drain::Stage;
use super::health::Health;
use super::names::ClusterName;

/// Something that happened to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The cluster.
    pub cluster: ClusterName,
    /// A bounded category for programs, such as `ClusterLost`.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
    /// Whether somebody should do something.
    pub warning: bool,
}

/// What is looked at of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// How it is.
    pub health: Health,
    /// Why it is not well.
    pub fault: String,
    /// Whether new workspaces are kept away.
    pub cordoned: bool,
    /// How far its drain is.
    pub drain: Option<Stage>,
    /// Why its drain does not go on by itself; empty where it does.
    pub blocked: String,
    /// What is wrong with its login: a category and a sentence.
    pub login: Option<(&'static str, String)>,
}

impl Look {
    /// The same cluster as if all were well with it, so that what is not is news.
    #[must_use]
    pub fn as_if_well(&self) -> Self {
        let (health, fault, blocked) = (Health::Available, String::new(), String::new());
        Self { health, fault, blocked, login: None, ..self.clone() }
    }
}

/// What is wrong with a login, by the conditions of its cluster.
pub fn login(conditions: &[Condition]) -> Option<(&'static str, String)> {
    let failing = |kind: &str| conditions.iter().find(|one| one.kind == kind && one.state == State::False);
    if let Some(current) = failing("LoginCurrent") {
        return Some(("LoginNotUsable", current.message.clone()));
    }
    let lasts = failing("LoginLasts")?;
    let reason = if lasts.reason == "Ended" { "LoginEnded" } else { "LoginEndsSoon" };
    Some((reason, lasts.message.clone()))
}

/// What is to be told of a cluster that was seen before and now; absent: not registered.
pub fn news(cluster: &ClusterName, before: Option<&Look>, now: Option<&Look>) -> Vec<News> {
    let mut found = Vec::new();
    match (before, now) {
        (None, Some(now)) => {
            found.push(Some(("ClusterRegistered", "was registered".to_owned(), false)));
            found.extend(changes(&now.as_if_well(), now));
        }
        (Some(before), Some(now)) => found.extend(changes(before, now)),
        (Some(_), None) => found.push(Some(("ClusterDeregistered", "was deregistered".to_owned(), false))),
        (None, None) => {}
    }
    let told = |(reason, message, warning)| {
        let message = format!("cluster {cluster} {message}");
        News { cluster: cluster.clone(), reason, message, warning }
    };
    found.into_iter().flatten().map(told).collect()
}

/// Reason, the rest of the sentence, and whether it is a warning.
type Told = Option<(&'static str, String, bool)>;

fn changes(before: &Look, now: &Look) -> [Told; 5] {
    [health(before, now), cordon(before, now), drain(before, now), block(before, now), of_login(before, now)]
}

/// A cluster that a new process has not seen yet is none that changed.
fn health(before: &Look, now: &Look) -> Told {
    let was_well = matches!(before.health, Health::Available | Health::Connecting);
    match now.health {
        health if health == before.health => None,
        Health::Connecting => None,
        Health::Available if was_well => None,
        Health::Available => Some(("ClusterAvailable", "is available again".to_owned(), false)),
        Health::Suspect => {
            Some(("ClusterSuspect", format!("takes no new workspaces: it {}", now.fault), true))
        }
        Health::Lost => {
            let told = format!("is lost: {}; its workspaces are shown as unreachable", now.fault);
            Some(("ClusterLost", told, true))
        }
    }
}

fn cordon(before: &Look, now: &Look) -> Told {
    match (before.cordoned, now.cordoned) {
        (false, true) => Some(("ClusterCordoned", "was cordoned".to_owned(), false)),
        (true, false) => Some(("ClusterUncordoned", "was uncordoned".to_owned(), false)),
        _ => None,
    }
}

fn drain(before: &Look, now: &Look) -> Told {
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

/// Told once while it lasts, however the numbers change.
fn block(before: &Look, now: &Look) -> Told {
    (before.blocked.is_empty() && !now.blocked.is_empty())
        .then(|| ("DrainStuck", format!("cannot be drained further: {}", now.blocked), true))
}

fn of_login(before: &Look, now: &Look) -> Told {
    let reason = |look: &Look| look.login.as_ref().map(|(reason, _)| *reason);
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

    fn well() -> Look {
        Look {
            health: Health::Available,
            fault: String::new(),
            cordoned: false,
            drain: None,
            blocked: String::new(),
            login: None,
        }
    }

    fn reasons(before: Option<&Look>, now: Option<&Look>) -> Vec<&'static str> {
        news(&"eu".parse().unwrap(), before, now).into_iter().map(|news| news.reason).collect()
    }

    #[test]
    fn what_stays_as_it_is_is_no_news() {
        let ill = Look {
            health: Health::Lost,
            blocked: "1 workspace".to_owned(),
            login: Some(("LoginEnded", "it ended".to_owned())),
            ..well()
        };
        let worse = Look {
            fault: "no answer for 90 s".to_owned(),
            blocked: "2 workspaces".to_owned(),
            ..ill.clone()
        };
        assert!(reasons(Some(&ill), Some(&worse)).is_empty());
        assert_eq!(reasons(Some(&ill.as_if_well()), Some(&ill)), ["ClusterLost", "DrainStuck", "LoginEnded"]);
    }

    #[test]
    fn health_is_told_when_it_is_lost_and_when_it_is_back() {
        let of = |health| Look { health, fault: "misses probes".to_owned(), ..well() };
        let (suspect, lost) = (of(Health::Suspect), of(Health::Lost));
        assert_eq!(reasons(Some(&well()), Some(&suspect)), ["ClusterSuspect"]);
        assert_eq!(reasons(Some(&suspect), Some(&lost)), ["ClusterLost"]);
        assert_eq!(reasons(Some(&lost), Some(&well())), ["ClusterAvailable"]);
        assert!(reasons(Some(&of(Health::Connecting)), Some(&well())).is_empty());
        let told = news(&"eu".parse().unwrap(), Some(&well()), Some(&suspect));
        assert_eq!(told[0].message, "cluster eu takes no new workspaces: it misses probes");
        assert!(told[0].warning);
    }

    #[test]
    fn a_cluster_comes_with_what_is_wrong_with_it_and_goes_without() {
        let ends = Look { login: Some(("LoginEndsSoon", "it ends soon".to_owned())), ..well() };
        assert_eq!(reasons(None, Some(&ends)), ["ClusterRegistered", "LoginEndsSoon"]);
        assert_eq!(reasons(Some(&ends), None), ["ClusterDeregistered"]);
        assert_eq!(reasons(Some(&ends), Some(&well())), ["LoginGood"]);
    }

    #[test]
    fn a_drain_is_told_by_its_stages() {
        let of = |stage| Look { drain: Some(stage), ..well() };
        let (draining, paused) = (of(Stage::Draining), of(Stage::Paused));
        assert_eq!(reasons(Some(&well()), Some(&draining)), ["DrainStarted"]);
        assert_eq!(reasons(Some(&draining), Some(&paused)), ["DrainPaused"]);
        assert_eq!(reasons(Some(&paused), Some(&draining)), ["DrainResumed"]);
        assert_eq!(reasons(Some(&draining), Some(&of(Stage::Drained))), ["DrainFinished"]);
    }

    #[test]
    fn a_bad_secret_is_worse_news_than_a_login_that_ends() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let soon = Condition::fails("LoginLasts", "EndsSoon", "it ends".to_owned(), now);
        let bad = Condition::fails("LoginCurrent", "SecretNotFound", "it is not there".to_owned(), now);
        assert_eq!(login(&[Condition::holds("LoginLasts", now)]), None);
        assert_eq!(login(std::slice::from_ref(&soon)).unwrap().0, "LoginEndsSoon");
        assert_eq!(login(&[soon, bad]).unwrap(), ("LoginNotUsable", "it is not there".to_owned()));
    }
}
