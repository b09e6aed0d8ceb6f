//! Which pod has the log of a workspace, or why there is none.

use std::sync::Arc;
use std::time::Duration;

use super::{ContainerState, PodFacts, Position};

/// Which part of a log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Whether to keep streaming new lines.
    pub follow: bool,
    /// Only this number of last lines.
    pub tail: Option<u32>,
    /// Only lines that are not older than this.
    pub since: Option<Duration>,
    /// Whether to read the log of the previous container.
    pub previous: bool,
    /// Where to continue a log that is followed; then `tail` and `since` are ignored.
    pub after: Option<Position>,
}

/// The pod whose container wrote the log of the workspace with this uid. The error is a sentence. `was_made`: whether the
/// workspace ever had a pod.
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
            only_others: Vec::new(),
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
    fn the_reason_for_a_missing_log_is_reported() {
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
    fn the_pod_of_an_earlier_workspace_of_the_name_is_ignored() {
        let pods = pod(Some("n"), Some(ContainerState::Running));
        assert!(pod_with_log(&pods, "another", "workspace", false, false).is_err());
    }

    #[test]
    fn the_previous_container_may_have_a_log_while_the_current_one_waits() {
        let pods = pod(Some("n"), Some(waiting("CrashLoopBackOff", "")));
        assert!(pod_with_log(&pods, "uid", "workspace", true, true).is_ok());
        assert!(pod_with_log(&pod(None, None), "uid", "workspace", true, true).is_err());
    }
}
