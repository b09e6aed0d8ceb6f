//! Why the workspace's container does not start, by the kubelet's waiting reason, and how long the controller waits for it.
//!
//! Other than the workspace's own container, only init containers count, and only while its own waits: the kubelet starts it
//! after them. A sidecar that is no init container does not block it.

use domain::pod::{ContainerFacts, ContainerState, PodFacts};
use k8s::resources::conditions::reason::{CONTAINER_NOT_STARTED, IMAGE_PULL_FAILING};

use super::fault::{Failure, Fault, with_detail};

/// Class of a waiting reason of the kubelet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The pull may still succeed: the timeout of the phase applies.
    Pull,
    /// The container cannot be created or started, which rarely recovers: `timeouts.containerStart` applies.
    Start,
    /// A retry cannot succeed: the workspace fails at once.
    Final(Fault, &'static str),
}

/// Why the container does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StartProblem<'a> {
    pub class: Class,
    /// The init container that has the problem; `None` for the workspace's own.
    init: Option<&'a str>,
    reason: &'a str,
    message: &'a str,
}

/// Waiting reasons of a normal start.
const ON_THE_WAY: [&str; 3] = ["", "ContainerCreating", "PodInitializing"];

fn class(reason: &str) -> Option<Class> {
    Some(match reason {
        _ if ON_THE_WAY.contains(&reason) => return None,
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "ImageInspectError" => Class::Pull,
        "InvalidImageName" => Class::Final(Fault::User, "the image name is not valid"),
        "SignatureValidationFailed" => Class::Final(Fault::User, "the image's signature is not accepted"),
        "ErrImageNeverPull" => {
            Class::Final(Fault::Configuration, "the image is not on the node, and the pod must not pull it")
        }
        _ => Class::Start,
    })
}

/// What keeps the container from starting; `own` is the status of the container, if it has one.
pub(super) fn of<'a>(pod: &'a PodFacts, own: Option<&'a ContainerFacts>) -> Option<StartProblem<'a>> {
    if let Some(own) = own {
        if !matches!(own.state, ContainerState::Waiting { .. }) {
            return None;
        }
        if let Some(found) = of_container(own, None) {
            return Some(found);
        }
    }
    pod.init_containers.iter().find_map(|init| of_container(init, Some(&init.name)))
}

fn of_container<'a>(container: &'a ContainerFacts, init: Option<&'a str>) -> Option<StartProblem<'a>> {
    let ContainerState::Waiting { reason, message } = &container.state else { return None };
    Some(StartProblem { class: class(reason)?, init, reason, message })
}

impl StartProblem<'_> {
    /// Reason of the condition while the controller waits; `None` if it does not wait.
    pub fn condition_reason(&self) -> Option<&'static str> {
        match (self.class, self.init) {
            (Class::Pull, None) => Some(IMAGE_PULL_FAILING),
            (Class::Pull | Class::Start, _) => Some(CONTAINER_NOT_STARTED),
            (Class::Final(..), _) => None,
        }
    }

    /// The text of that condition.
    pub fn text(&self) -> String {
        match (self.class, self.init) {
            (Class::Pull, None) => self.message.to_owned(),
            _ => with_detail(&self.beginning(), self.message),
        }
    }

    /// Start of the text that stays the same over the kubelet's retries; the rest differs with each.
    pub fn beginning(&self) -> String {
        match (self.class, self.init) {
            (Class::Pull, None) => String::new(),
            (_, None) => self.reason.to_owned(),
            (_, Some(init)) => format!("init container {init}: {}", self.reason),
        }
    }

    /// The failure, if the controller does not wait.
    pub fn failure(&self) -> Option<Failure> {
        let Class::Final(fault, what) = self.class else { return None };
        let text = with_detail(what, self.message);
        Some(match self.init {
            None => Failure::new(fault, text),
            // A template or a webhook added it, and chose its image.
            Some(init) => Failure::new(Fault::Platform, format!("init container {init}: {text}")),
        })
    }
}

/// The failure of a container that did not start in time, for the text of its condition.
pub(super) fn in_vain(text: &str) -> Failure {
    let fault =
        if text.starts_with("CreateContainerConfigError") { Fault::Configuration } else { Fault::Platform };
    Failure::new(fault, format!("the container cannot be started: {text}"))
}
