//! Which pod has the log of a workspace, or why there is none to read.

use std::sync::Arc;
use std::time::Duration;

use super::{ContainerState, PodFacts, Position};

/// What is read of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Whether to go on with what is written from now on.
    pub follow: bool,
    /// Only so many of the last lines.
    pub tail: Option<u32>,
    /// Only what was written in this time until now.
    pub since: Option<Duration>,
    /// Whether it is that of the container that ran before the present one.
    pub previous: bool,
    /// Where a log that is followed is gone on with; then `tail` and `since` count for nothing.
    pub after: Option<Position>,
}

/// The pod whose container wrote the log of the workspace with this uid; otherwise what stands in the way, in a
/// sentence. `was_made` tells whether it ever had a pod.
pub fn pod_with_log<'a>(
    pods: &'a [Arc<PodFacts>],
    workspace_uid: &str,
    container: &str,
    was_made: bool,
    previous: bool,
) -> Result<&'a PodFacts, String> {
    let own = pods.iter().find(|pod| pod.workspace_uid == workspace_uid);
    let Some(pod) = own else {
        let text = if was_made { "its pod is gone, and its log with it" } else { "it has no pod yet" };
        return Err(text.to_owned());
    };
    if pod.node_name.is_none() {
        return Err("its pod has no node yet".to_owned());
    }
    let state = pod.containers.iter().find(|one| one.name == container).map(|one| &one.state);
    match state {
        _ if previous => Ok(pod),
        Some(ContainerState::Running | ContainerState::Terminated(_)) => Ok(pod),
        Some(ContainerState::Waiting { reason, message }) => {
            let texts = [reason, message].into_iter().filter(|text| !text.is_empty());
            let why: Vec<&str> = texts.map(String::as_str).collect();
            let why = if why.is_empty() { String::new() } else { format!(": {}", why.join(": ")) };
            Err(format!("its container has not started yet{why}"))
        }
        None => Err("its container has not started yet".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{ContainerFacts, PodPhase, Termination};

    fn pod(node: Option<&str>, state: Option<ContainerState>) -> Vec<Arc<PodFacts>> {
        let container = |state| ContainerFacts {
            name: "workspace".to_owned(),
            ready: false,
            state,
            last_termination: None,
        };
        vec![Arc::new(PodFacts {
            name: "ws-a".to_owned(),
            uid: "pod".to_owned(),
            resource_version: "1".to_owned(),
            workspace: "a".to_owned(),
            workspace_uid: "uid".to_owned(),
            phase: PodPhase::Pending,
            reason: String::new(),
            message: String::new(),
            node_name: node.map(ToOwned::to_owned),
            pod_ip: None,
            host_ip: None,
            deleting_since: None,
            has_finalizer: true,
            held_by: Vec::new(),
            unschedulable: None,
            disruption: None,
            containers: state.map(container).into_iter().collect(),
            init_containers: Vec::new(),
            all_terminated: false,
        })]
    }

    fn waiting(reason: &str, message: &str) -> ContainerState {
        ContainerState::Waiting { reason: reason.to_owned(), message: message.to_owned() }
    }

    fn look(pods: &[Arc<PodFacts>], was_made: bool) -> Result<String, String> {
        pod_with_log(pods, "uid", "workspace", was_made, false).map(|pod| pod.name.clone())
    }

    #[test]
    fn a_container_that_runs_or_ended_has_a_log() {
        let ended = Termination { exit_code: 1, reason: "Error".to_owned(), message: String::new() };
        for state in [ContainerState::Running, ContainerState::Terminated(ended)] {
            assert_eq!(look(&pod(Some("n"), Some(state)), true), Ok("ws-a".to_owned()));
        }
    }

    #[test]
    fn what_is_in_the_way_of_a_log_is_said() {
        let sentence = |pods: &[Arc<PodFacts>], was_made| look(pods, was_made).unwrap_err();
        assert_eq!(sentence(&[], false), "it has no pod yet");
        assert_eq!(sentence(&[], true), "its pod is gone, and its log with it");
        assert_eq!(sentence(&pod(None, None), true), "its pod has no node yet");
        assert_eq!(sentence(&pod(Some("n"), None), true), "its container has not started yet");
        assert_eq!(
            sentence(&pod(Some("n"), Some(waiting("ErrImagePull", "no such image"))), true),
            "its container has not started yet: ErrImagePull: no such image"
        );
        assert_eq!(
            sentence(&pod(Some("n"), Some(waiting("ContainerCreating", ""))), true),
            "its container has not started yet: ContainerCreating"
        );
    }

    #[test]
    fn the_pod_of_an_earlier_workspace_of_the_name_is_not_looked_at() {
        let pods = pod(Some("n"), Some(ContainerState::Running));
        assert!(pod_with_log(&pods, "another", "workspace", false, false).is_err());
    }

    #[test]
    fn the_container_before_may_have_left_a_log_though_the_present_one_waits() {
        let pods = pod(Some("n"), Some(waiting("CrashLoopBackOff", "")));
        assert!(pod_with_log(&pods, "uid", "workspace", true, true).is_ok());
        assert!(pod_with_log(&pod(None, None), "uid", "workspace", true, true).is_err());
    }
}
