//! Merging pod templates.
//!
//! Values of the base win, and empty ones are filled from the template; missing keys are added to maps; lists are appended.
//! Three things differ:
//! - containers are matched by name, and there the template overrides, because that is what templates are for;
//! - the template's expressions of required node affinity are added to the single term of the base; a base with more than
//!   one term is not changed;
//! - if both have a probe, only the handler is taken from the template.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value};

/// Which side wins if both have a value.
#[derive(Clone, Copy, PartialEq)]
enum Winner {
    Base,
    Template,
}

/// Handling of a template's container whose name is not in the base.
#[derive(Clone, Copy, PartialEq)]
enum Strangers {
    /// Drop it: a template must not add containers to a workspace's pod.
    Ignored,
    /// Keep it: when two templates are merged, the pod's containers are not known yet.
    Kept,
}

/// Merges the template of a type into the default one.
pub fn merge_templates(default: &Pod, of_type: &Pod) -> Pod {
    merged(default.clone(), of_type, Strangers::Kept)
}

/// Merges the class's template into a generated pod.
pub(super) fn complete(pod: Pod, template: &Pod) -> Pod {
    merged(pod, template, Strangers::Ignored)
}

fn merged(base: Pod, template: &Pod, strangers: Strangers) -> Pod {
    // Both are pods, so the result decodes as a pod; should that ever fail, the pod without the template is safe.
    let (Ok(mut value), Ok(template)) = (serde_json::to_value(&base), serde_json::to_value(template)) else {
        return base;
    };
    Merge { strangers }.value("", &mut value, template, Winner::Base);
    serde_json::from_value(value).unwrap_or(base)
}

struct Merge {
    strangers: Strangers,
}

impl Merge {
    fn value(&self, key: &str, base: &mut Value, template: Value, winner: Winner) {
        match (base, template) {
            (Value::Object(base), Value::Object(template)) if is_probe(key) => probe(base, template),
            (Value::Object(base), Value::Object(template)) => self.object(base, template, winner),
            (Value::Array(base), Value::Array(template)) => self.list(key, base, template),
            (base, template) => {
                let replace = is_empty(base) || (winner == Winner::Template && !is_empty(&template));
                if replace {
                    *base = template;
                }
            }
        }
    }

    fn object(&self, base: &mut Map<String, Value>, template: Map<String, Value>, winner: Winner) {
        for (key, from_template) in template {
            match base.get_mut(&key) {
                Some(there) => self.value(&key, there, from_template, winner),
                None if is_containers(&key) && self.strangers == Strangers::Ignored => {}
                None => {
                    base.insert(key, from_template);
                }
            }
        }
    }

    fn list(&self, key: &str, base: &mut Vec<Value>, template: Vec<Value>) {
        match key {
            key if is_containers(key) => self.containers(base, template),
            "nodeSelectorTerms" => node_selector_terms(base, template),
            _ => base.extend(template),
        }
    }

    fn containers(&self, base: &mut Vec<Value>, template: Vec<Value>) {
        for from_template in template {
            let same = |there: &&mut Value| there.get("name") == from_template.get("name");
            match base.iter_mut().find(same) {
                Some(there) => self.value("", there, from_template, Winner::Template),
                None if self.strangers == Strangers::Kept => base.push(from_template),
                None => {}
            }
        }
    }
}

fn is_containers(key: &str) -> bool {
    matches!(key, "containers" | "initContainers" | "ephemeralContainers")
}

fn is_probe(key: &str) -> bool {
    matches!(key, "readinessProbe" | "livenessProbe" | "startupProbe")
}

const HANDLERS: [&str; 4] = ["httpGet", "exec", "tcpSocket", "grpc"];

fn probe(base: &mut Map<String, Value>, template: Map<String, Value>) {
    if !template.keys().any(|key| HANDLERS.contains(&key.as_str())) {
        return;
    }
    base.retain(|key, _| !HANDLERS.contains(&key.as_str()));
    base.extend(template.into_iter().filter(|(key, _)| HANDLERS.contains(&key.as_str())));
}

/// Terms are alternatives: adding one would allow more nodes, so expressions are added to the existing term.
fn node_selector_terms(base: &mut Vec<Value>, template: Vec<Value>) {
    match base.as_mut_slice() {
        [] => *base = template,
        [Value::Object(only)] => {
            let more = template.into_iter().filter_map(|mut term| match term.get_mut("matchExpressions") {
                Some(Value::Array(expressions)) => Some(std::mem::take(expressions)),
                _ => None,
            });
            let there = only.entry("matchExpressions").or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(there) = there {
                there.extend(more.flatten());
            }
        }
        _ => {}
    }
}

/// Numbers and booleans are never empty: zero and false are values.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
