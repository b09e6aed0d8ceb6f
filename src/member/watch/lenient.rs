//! Reading watched objects so that one that cannot be read spoils no other.
//!
//! kube's `DeserializeGuard` does the same by way of a tree of the whole object and a copy of that tree, which was the
//! largest single cost of a start. Here the text is kept when an answer comes, and read straight into the type when somebody
//! looks at it: so the next page of a list is asked for before this one is read. This
//! takes the text as it is on the wire, so a watch event must name its type before its object, as every apiserver does.

use std::borrow::Cow;
use std::sync::OnceLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::value::RawValue;

use k8s::fast_decode::without_managed_fields;

/// An object, or why it is none.
#[derive(Debug, Clone)]
pub(super) struct Lenient<K> {
    text: Box<str>,
    object: OnceLock<Box<Result<K, Unreadable>>>,
    /// Where it is once it may have been changed.
    changed: Option<Box<Result<K, Unreadable>>>,
}

/// An object that is there and cannot be read.
#[derive(Debug, Clone)]
pub(super) struct Unreadable {
    /// What the parser said.
    pub(super) error: String,
    /// Which object it is; without a name where not even that can be read.
    pub(super) metadata: Box<ObjectMeta>,
}

impl<K: Resource + DeserializeOwned> Lenient<K> {
    /// The object.
    pub(super) fn read(self) -> Result<K, Unreadable> {
        let Self { text, object, changed } = self;
        changed.or(object.into_inner()).map_or_else(|| read(&text), |object| *object)
    }

    /// Bytes of its text.
    pub(super) fn size(&self) -> usize {
        self.text.len()
    }

    fn look(&self) -> &Result<K, Unreadable> {
        self.changed.as_ref().unwrap_or_else(|| self.object.get_or_init(|| Box::new(read(&self.text))))
    }
}

fn read<K: Resource + DeserializeOwned>(text: &str) -> Result<K, Unreadable> {
    let text = without_managed_fields(text);
    serde_json::from_str(&text).map_err(|error| {
        let partial: Option<PartialObjectMeta<K>> = serde_json::from_str(&text).ok();
        let metadata = partial.map(|partial| partial.metadata).unwrap_or_default();
        Unreadable { error: error.to_string(), metadata: Box::new(metadata) }
    })
}

impl<'de, K> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw: &RawValue = Deserialize::deserialize(deserializer)?;
        Ok(Self { text: raw.get().into(), object: OnceLock::new(), changed: None })
    }
}

impl<K: Resource + DeserializeOwned> Resource for Lenient<K> {
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
        self.look().as_ref().map_or_else(|unreadable| &*unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        let object = self.changed.take().or_else(|| self.object.take());
        let object = object.unwrap_or_else(|| Box::new(read(&self.text)));
        match &mut **self.changed.insert(object) {
            Ok(object) => object.meta_mut(),
            Err(unreadable) => &mut unreadable.metadata,
        }
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
        let [bad, good] = <[_; 2]>::try_from(list.items).unwrap();
        assert_eq!(bad.meta().name.as_deref(), Some("bad"));
        assert!(bad.read().unwrap_err().error.contains("invalid type"));
        assert_eq!(good.read().unwrap().metadata.name.as_deref(), Some("good"));
    }

    #[test]
    fn a_watched_event_is_read_without_its_managed_fields_whatever_they_hold() {
        let text = r#"{"type":"ADDED","object":{"metadata":{"annotations":{"a":"\"managedFields\":[1"},
            "managedFields":[{"manager":"]\"[","fieldsV1":{"f:a":[]}}],"name":"it"}}}"#;
        let Ok(WatchEvent::Added(mut pod)) = serde_json::from_str::<WatchEvent<Lenient<Pod>>>(text) else {
            panic!("no event")
        };
        pod.meta_mut().namespace = Some("changed".to_owned());
        assert_eq!(pod.meta().namespace.as_deref(), Some("changed"));
        let meta = pod.read().unwrap().metadata;
        assert_eq!(meta.namespace.as_deref(), Some("changed"));
        assert_eq!(meta.name.as_deref(), Some("it"));
        assert_eq!(meta.managed_fields.unwrap_or_default(), []);
        assert_eq!(meta.annotations.unwrap()["a"], r#""managedFields":[1"#);
    }

    #[test]
    fn any_line_is_an_object_or_unreadable() {
        fuzz::text_target("resources", &[], |text| {
            if let Ok(object) = serde_json::from_str::<Lenient<k8s::resources::Workspace>>(text) {
                let _ = object.read();
            }
        });
    }
}
