//! Decoding of objects without their managed fields, which are half of the text of a pod.
//!
//! A [`LazyObject`] keeps the text of a watched object, and decodes it into its type on first access: so the next page of a
//! list is requested before this one is decoded, and an object that cannot be decoded does not fail the others. kube's
//! `DeserializeGuard` builds a tree of the whole object and copies that tree, which was the largest single cost of a start.
//! The text is taken as it is on the wire, so a watch event must have its type before its object, as every apiserver sends
//! it.

use std::borrow::Cow;
use std::sync::OnceLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::value::RawValue;

/// Start of an object's managed fields. Inside a JSON string the quotation marks would have backslashes.
const MANAGED_FIELDS: &str = "\"managedFields\":[";

/// Decodes an object from an apiserver's response, without its managed fields.
pub fn decode<K: DeserializeOwned>(text: &str) -> serde_json::Result<K> {
    serde_json::from_str(&without_managed_fields(text))
}

/// The same text with an empty list of managed fields.
fn without_managed_fields(text: &str) -> Cow<'_, str> {
    let Some(at) = text.find(MANAGED_FIELDS) else { return Cow::Borrowed(text) };
    let begin = at + MANAGED_FIELDS.len();
    let Some(length) = text.get(begin..).and_then(length_of_list) else { return Cow::Borrowed(text) };
    let (before, after) = (text.get(..begin), text.get(begin + length..));
    Cow::Owned([before.unwrap_or_default(), after.unwrap_or_default()].concat())
}

/// Bytes up to the bracket that closes a list whose opening bracket was cut off.
fn length_of_list(text: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'[' if !quoted => depth += 1,
            b']' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// An object as text, decoded on first access.
#[derive(Debug, Clone)]
pub struct LazyObject<K> {
    text: Box<str>,
    object: OnceLock<Box<Result<K, Undecodable>>>,
    /// Set once the object may have been changed.
    changed: Option<Box<Result<K, Undecodable>>>,
}

/// An object that exists and cannot be decoded.
#[derive(Debug, Clone)]
pub struct Undecodable {
    /// The error of the parser.
    pub error: String,
    /// Its metadata; without a name if that cannot be decoded either.
    pub metadata: Box<ObjectMeta>,
}

impl<K: Resource + DeserializeOwned> LazyObject<K> {
    /// The object, or why it cannot be decoded.
    pub fn decode(self) -> Result<K, Undecodable> {
        let Self { text, object, changed } = self;
        changed.or(object.into_inner()).map_or_else(|| decode_object(&text), |object| *object)
    }

    /// Length of its text in bytes.
    pub fn size(&self) -> usize {
        self.text.len()
    }

    fn look(&self) -> &Result<K, Undecodable> {
        self.changed
            .as_ref()
            .unwrap_or_else(|| self.object.get_or_init(|| Box::new(decode_object(&self.text))))
    }
}

fn decode_object<K: Resource + DeserializeOwned>(text: &str) -> Result<K, Undecodable> {
    let text = without_managed_fields(text);
    serde_json::from_str(&text).map_err(|error| {
        let partial: Option<PartialObjectMeta<K>> = serde_json::from_str(&text).ok();
        let metadata = partial.map(|partial| partial.metadata).unwrap_or_default();
        Undecodable { error: error.to_string(), metadata: Box::new(metadata) }
    })
}

impl<'de, K> Deserialize<'de> for LazyObject<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw: &RawValue = Deserialize::deserialize(deserializer)?;
        Ok(Self { text: raw.get().into(), object: OnceLock::new(), changed: None })
    }
}

impl<K: Resource + DeserializeOwned> Resource for LazyObject<K> {
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
        self.look().as_ref().map_or_else(|undecodable| &*undecodable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        let object = self.changed.take().or_else(|| self.object.take());
        let object = object.unwrap_or_else(|| Box::new(decode_object(&self.text)));
        match &mut **self.changed.insert(object) {
            Ok(object) => object.meta_mut(),
            Err(undecodable) => &mut undecodable.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::core::{ObjectList, WatchEvent};

    use super::*;

    #[test]
    fn a_text_without_the_end_of_the_list_is_left_as_it_is() {
        assert_eq!(without_managed_fields(r#"{"managedFields":[{"#), r#"{"managedFields":[{"#);
    }

    const PODS: &str = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[
        {"metadata":{"name":"bad"},"spec":{"containers":"none"}},{"metadata":{"name":"good"}}]}"#;

    #[test]
    fn an_object_that_cannot_be_read_spoils_no_other_and_keeps_its_name() {
        let list: ObjectList<LazyObject<Pod>> = serde_json::from_str(PODS).unwrap();
        let [bad, good] = <[_; 2]>::try_from(list.items).unwrap();
        assert_eq!(bad.meta().name.as_deref(), Some("bad"));
        assert!(bad.decode().unwrap_err().error.contains("invalid type"));
        assert_eq!(good.decode().unwrap().metadata.name.as_deref(), Some("good"));
    }

    #[test]
    fn a_watched_event_is_read_without_its_managed_fields_whatever_they_hold() {
        let text = r#"{"type":"ADDED","object":{"metadata":{"annotations":{"a":"\"managedFields\":[1"},
            "managedFields":[{"manager":"]\"[","fieldsV1":{"f:a":[]}}],"name":"it"}}}"#;
        let Ok(WatchEvent::Added(mut pod)) = serde_json::from_str::<WatchEvent<LazyObject<Pod>>>(text) else {
            panic!("no event")
        };
        pod.meta_mut().namespace = Some("changed".to_owned());
        assert_eq!(pod.meta().namespace.as_deref(), Some("changed"));
        let meta = pod.decode().unwrap().metadata;
        assert_eq!(meta.namespace.as_deref(), Some("changed"));
        assert_eq!(meta.name.as_deref(), Some("it"));
        assert_eq!(meta.managed_fields.unwrap_or_default(), []);
        assert_eq!(meta.annotations.unwrap()["a"], r#""managedFields":[1"#);
    }

    #[test]
    fn any_line_is_an_object_or_undecodable() {
        fuzz::text_target("resources", &[], |text| {
            if let Ok(object) = serde_json::from_str::<LazyObject<crate::resources::Workspace>>(text) {
                let _ = object.decode();
            }
        });
    }
}
