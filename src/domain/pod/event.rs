//! Kubernetes events of a pod, and which of them explains best why its workspace failed.

use jiff::Timestamp;

/// Reasons of normal events for pods that the platform removed.
const TAKEN_AWAY: [&str; 4] = ["Preempted", "TaintManagerEviction", "Evicted", "NodeNotReady"];
/// Reason of events about unschedulable pods.
const UNSCHEDULED: &str = "FailedScheduling";
const SCHEDULED: &str = "Scheduled";

/// An event of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodEvent {
    /// Such as `FailedMount`.
    pub reason: String,
    /// Detail.
    pub message: String,
    /// Whether it is a warning.
    pub warning: bool,
    /// When it last happened, by the cluster's clock.
    pub at: Option<Timestamp>,
}

/// A query for events of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// The pod's name.
    pub pod: String,
    /// Its uid, if known: there may have been an earlier pod of this name.
    pub uid: Option<String>,
    /// If the uid is not known, only events from this time on count.
    pub since: Option<Timestamp>,
    /// Whether the pod did not start: then its last normal event counts, too.
    pub starting: bool,
}

/// The last warning or removal by the platform; for a pod that did not start, else the last normal event. `FailedScheduling` is
/// ignored once the pod was scheduled.
pub fn last_relevant(mut events: Vec<PodEvent>, query: &EventQuery) -> Option<PodEvent> {
    if let (None, Some(since)) = (&query.uid, query.since) {
        events.retain(|event| event.at.is_some_and(|at| at.as_second() >= since.as_second()));
    }
    if events.iter().any(|event| event.reason == SCHEDULED) {
        events.retain(|event| event.reason != UNSCHEDULED);
    }
    events.sort_by_key(|event| event.at);
    let says_why = |event: &PodEvent| event.warning || TAKEN_AWAY.contains(&event.reason.as_str());
    match events.iter().rposition(says_why) {
        Some(at) => Some(events.swap_remove(at)),
        None => events.pop().filter(|_| query.starting),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(second: i64, warning: bool, reason: &str) -> PodEvent {
        let at = Some(Timestamp::constant(second, 0));
        PodEvent { reason: reason.to_owned(), message: String::new(), warning, at }
    }

    fn query(uid: Option<&str>, starting: bool) -> EventQuery {
        let since = Some(Timestamp::constant(10, 500_000_000));
        EventQuery { pod: "ws-a".to_owned(), uid: uid.map(str::to_owned), since, starting }
    }

    fn last(events: &[PodEvent], uid: Option<&str>, starting: bool) -> Option<String> {
        last_relevant(events.to_vec(), &query(uid, starting)).map(|event| event.reason)
    }

    #[test]
    fn the_last_warning_wins_over_later_normal_events() {
        let events = [event(3, true, "Failed"), event(1, true, "FailedMount"), event(4, false, "BackOff")];
        assert_eq!(last(&events, Some("u"), true).as_deref(), Some("Failed"));
        let taken = [event(1, true, "Unhealthy"), event(2, false, "Preempted"), event(3, false, "Killing")];
        assert_eq!(last(&taken, Some("u"), false).as_deref(), Some("Preempted"));
    }

    #[test]
    fn without_a_warning_the_last_event_counts_only_for_a_pod_that_did_not_start() {
        let events = [event(2, false, "Pulling"), event(1, false, "Scheduled")];
        assert_eq!(last(&events, Some("u"), true).as_deref(), Some("Pulling"));
        assert_eq!(last(&events, Some("u"), false), None);
        assert_eq!(last(&[], Some("u"), true), None);
    }

    #[test]
    fn failed_scheduling_counts_only_until_the_pod_is_scheduled() {
        let waiting = [event(1, true, "FailedScheduling")];
        assert_eq!(last(&waiting, Some("u"), true).as_deref(), Some("FailedScheduling"));
        let taken = [event(1, true, "FailedScheduling"), event(2, false, "Scheduled")];
        assert_eq!(last(&taken, Some("u"), true).as_deref(), Some("Scheduled"));
    }

    #[test]
    fn without_a_uid_only_events_since_the_creation_of_the_pod_count() {
        // Events carry whole seconds.
        let events = [event(9, true, "Earlier"), event(10, true, "SameSecond")];
        assert_eq!(last(&events[..1], None, true), None);
        assert_eq!(last(&events, None, true).as_deref(), Some("SameSecond"));
        assert_eq!(last(&events[..1], Some("u"), true).as_deref(), Some("Earlier"));
    }
}
