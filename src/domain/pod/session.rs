//! Which pod a session enters, or why none.

use std::sync::Arc;

use super::{ContainerState, PodFacts};

/// The pod whose container runs the workspace with this uid. The error is a sentence.
pub fn pod_with_session<'a>(
    pods: &'a [Arc<PodFacts>],
    workspace_uid: &str,
    container: &str,
) -> Result<&'a PodFacts, String> {
    let pod = pods.iter().find(|pod| pod.workspace_uid == workspace_uid).ok_or("it has no pod")?;
    if pod.deleting_since.is_some() {
        return Err("its pod is being deleted".to_owned());
    }
    if pod.node_name.is_none() {
        return Err("its pod has no node yet".to_owned());
    }
    let state = pod.containers.iter().find(|one| one.name == container).map(|one| &one.state);
    match state {
        Some(ContainerState::Running) => Ok(pod),
        Some(ContainerState::Terminated(_)) => Err("its container has ended".to_owned()),
        Some(ContainerState::Waiting { .. }) | None => Err("its container has not started yet".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::pod::{ContainerFacts, PodPhase, Termination};

    fn pod(
        node: Option<&str>,
        state: Option<ContainerState>,
        deleting_since: Option<Timestamp>,
    ) -> Arc<PodFacts> {
        let container = |state| ContainerFacts {
            name: "workspace".to_owned(),
            ready: true,
            state,
            last_termination: None,
        };
        Arc::new(PodFacts {
            name: "ws-ws".to_owned(),
            uid: String::new(),
            resource_version: String::new(),
            workspace: "ws".to_owned(),
            workspace_uid: "1".to_owned(),
            phase: PodPhase::Running,
            reason: String::new(),
            message: String::new(),
            node_name: node.map(str::to_owned),
            pod_ip: None,
            host_ip: None,
            deleting_since,
            has_finalizer: true,
            held_by: Vec::new(),
            unschedulable: None,
            disruption: None,
            only_others: Vec::new(),
            containers: state.map(container).into_iter().collect(),
            init_containers: Vec::new(),
            all_terminated: false,
        })
    }

    #[test]
    fn only_a_running_container_of_the_workspace_itself_is_entered() {
        let of =
            |pod: Arc<PodFacts>, uid| pod_with_session(&[pod], uid, "workspace").map(|pod| pod.name.clone());
        let running = || Some(ContainerState::Running);
        assert_eq!(of(pod(Some("n"), running(), None), "1").as_deref(), Ok("ws-ws"));
        assert_eq!(of(pod(Some("n"), running(), None), "2").unwrap_err(), "it has no pod");
        assert_eq!(of(pod(None, None, None), "1").unwrap_err(), "its pod has no node yet");
        let deleting = pod(Some("n"), running(), Some(Timestamp::UNIX_EPOCH));
        assert_eq!(of(deleting, "1").unwrap_err(), "its pod is being deleted");
        let waiting = ContainerState::Waiting { reason: String::new(), message: String::new() };
        for state in [None, Some(waiting)] {
            assert_eq!(
                of(pod(Some("n"), state, None), "1").unwrap_err(),
                "its container has not started yet"
            );
        }
        let ended = Termination { exit_code: 0, reason: String::new(), message: String::new() };
        let ended = pod(Some("n"), Some(ContainerState::Terminated(ended)), None);
        assert_eq!(of(ended, "1").unwrap_err(), "its container has ended");
    }
}
