//! What keeps the workspace's container from starting, in the kubelet's words, and how long that is waited for.
//!
//! Of other containers only an init container counts, and only while the workspace's own waits: the kubelet starts it after
//! them. A sidecar that is no init container never stands in its way.

use domain::pod::{ContainerFacts, ContainerState, PodFacts};

use super::draft::{CONTAINER_NOT_STARTED, IMAGE_PULL};
use super::failure::{Failure, Fault, with_detail};

/// How a reason of the kubelet is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The image may be pulled yet: waited for up to the limit of the phase.
    Pull,
    /// The container cannot be created or started, which seldom heals: waited for up to `timeouts.containerStart`.
    Start,
    /// It stays so, whatever happens.
    Final(Fault, &'static str),
}

/// Something that keeps the container from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hindrance<'a> {
    pub class: Class,
    /// The init container that it is about.
    init: Option<&'a str>,
    reason: &'a str,
    message: &'a str,
}

/// What the kubelet says when it is only about to start a container.
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

/// What keeps the container from starting; `own` is the container's status, where it has one.
pub(super) fn of<'a>(pod: &'a PodFacts, own: Option<&'a ContainerFacts>) -> Option<Hindrance<'a>> {
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

fn of_container<'a>(container: &'a ContainerFacts, init: Option<&'a str>) -> Option<Hindrance<'a>> {
    let ContainerState::Waiting { reason, message } = &container.state else { return None };
    Some(Hindrance { class: class(reason)?, init, reason, message })
}

impl Hindrance<'_> {
    /// The reason of the condition while it is waited for; none where it is not.
    pub fn condition_reason(&self) -> Option<&'static str> {
        match (self.class, self.init) {
            (Class::Pull, None) => Some(IMAGE_PULL),
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

    /// What the text begins with for as long as the kubelet tries the same again; what follows differs with every try.
    pub fn beginning(&self) -> String {
        match (self.class, self.init) {
            (Class::Pull, None) => String::new(),
            (_, None) => self.reason.to_owned(),
            (_, Some(init)) => format!("init container {init}: {}", self.reason),
        }
    }

    /// The failure, where it is not waited for.
    pub fn failure(&self) -> Option<Failure> {
        let Class::Final(fault, what) = self.class else { return None };
        let text = with_detail(what, self.message);
        Some(match self.init {
            None => Failure::new(fault, text),
            // Whoever added it chose its image.
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
