//! Builds Kubernetes Events.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::resources::names::MANAGER;

/// Characters of a message that an apiserver accepts.
const LONGEST: usize = 1024;

/// Content of an event.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The reporting component.
    pub by: &'a str,
    /// A bounded category.
    pub reason: &'a str,
    /// One sentence; cut to the length that an apiserver accepts.
    pub message: &'a str,
    /// Type Warning instead of Normal.
    pub warning: bool,
}

/// An event of that name about an object, in the object's namespace.
pub fn event(name: String, about: ObjectReference, told: Told<'_>, at: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: about.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: about,
        reason: Some(told.reason.to_owned()),
        message: Some(message(told.message)),
        type_: Some(if told.warning { "Warning" } else { "Normal" }.to_owned()),
        source: Some(EventSource { component: Some(told.by.to_owned()), host: None }),
        reporting_component: Some(MANAGER.to_owned()),
        first_timestamp: Some(Time(at)),
        last_timestamp: Some(Time(at)),
        count: Some(1),
        ..Event::default()
    }
}

/// Cuts a message to the length that an apiserver accepts.
pub fn message(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}
