//! Reading watched objects so that one that cannot be read spoils no other.
//!
//! kube's `DeserializeGuard` does the same by way of a tree of the whole object and a copy of that tree, which was the
//! largest single cost of a start. Here the text is read straight into the type, and once more only where that fails. This
//! takes the text as it is on the wire, so a watch event must name its type before its object, as every apiserver does.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde_json::value::RawValue;

use crate::cluster::lean::without_managed_fields;

/// An object, or why it is none.
#[derive(Debug, Clone)]
pub(super) struct Lenient<K>(pub(super) Result<K, Unreadable>);

/// An object that is there and cannot be read.
#[derive(Debug, Clone)]
pub(super) struct Unreadable {
    /// What the parser said.
    pub(super) error: String,
    /// Which object it is.
    pub(super) metadata: ObjectMeta,
}

impl<'de, K: Resource + DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw: &RawValue = Deserialize::deserialize(deserializer)?;
        let text = without_managed_fields(raw.get());
        let error = match serde_json::from_str(&text) {
            Ok(object) => return Ok(Self(Ok(object))),
            Err(error) => error.to_string(),
        };
        let partial: PartialObjectMeta<K> = serde_json::from_str(&text).map_err(D::Error::custom)?;
        Ok(Self(Err(Unreadable { error, metadata: partial.metadata })))
    }
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::core::{ObjectList, WatchEvent};

    use super::*;

    const PODS: &str = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[
        {"metadata":{"name":"bad"},"spec":{"containers":"none"}},{"metadata":{"name":"good"}}]}"#;

    #[test]
    fn an_object_that_cannot_be_read_spoils_no_other_and_keeps_its_name() {
        let list: ObjectList<Lenient<Pod>> = serde_json::from_str(PODS).unwrap();
        let [bad, good] = &list.items[..] else { panic!("two items") };
        assert_eq!(bad.meta().name.as_deref(), Some("bad"));
        assert!(bad.0.as_ref().unwrap_err().error.contains("invalid type"));
        assert_eq!(good.0.as_ref().unwrap().metadata.name.as_deref(), Some("good"));
    }

    #[test]
    fn a_watched_event_is_read_without_its_managed_fields_whatever_they_hold() {
        let text = r#"{"type":"ADDED","object":{"metadata":{"annotations":{"a":"\"managedFields\":[1"},
            "managedFields":[{"manager":"]\"[","fieldsV1":{"f:a":[]}}],"name":"it"}}}"#;
        let Ok(WatchEvent::Added(pod)) = serde_json::from_str::<WatchEvent<Lenient<Pod>>>(text) else {
            panic!("no event")
        };
        let meta = pod.0.unwrap().metadata;
        assert_eq!(meta.name.as_deref(), Some("it"));
        assert_eq!(meta.managed_fields.unwrap_or_default(), []);
        assert_eq!(meta.annotations.unwrap()["a"], r#""managedFields":[1"#);
    }
}
