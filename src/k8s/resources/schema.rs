//! Schemas of Kubernetes types inside the custom resources, and of integers without a format.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Rules in CEL: an expression that must hold, and what is said where it does not.
fn rules<const N: usize>(rules: [(&str, &str); N]) -> Value {
    rules.iter().map(|(rule, message)| json!({ "rule": rule, "message": message })).collect()
}

/// What no call can change of a workspace: another pod would be needed.
pub(super) fn workspace_rules() -> Value {
    rules([
        ("self.type == oldSelf.type", "type cannot be changed"),
        ("self.class == oldSelf.class", "class cannot be changed"),
        ("self.image == oldSelf.image", "image cannot be changed"),
        ("self.initializer == oldSelf.initializer", "initializer cannot be changed"),
        ("self.workspaceLocation == oldSelf.workspaceLocation", "workspaceLocation cannot be changed"),
    ])
}

/// Labels and host names are made of both.
pub(super) fn ownership_rules() -> Value {
    rules([
        (
            "self.owner == oldSelf.owner && self.workspaceID == oldSelf.workspaceID",
            "ownership cannot be changed",
        ),
        (
            "self.owner.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",
            "owner must be letters, digits, dots, dashes or underscores, with a letter or digit at both ends",
        ),
        (
            "self.workspaceID.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            "workspaceID must be lower-case letters, digits or dashes, with a letter or digit at both ends",
        ),
    ])
}

/// A snapshot is an order: another one is another object.
pub(super) fn snapshot_rules() -> Value {
    rules([("self == oldSelf", "a snapshot's spec cannot be changed")])
}

/// What the rules of our definitions say where they do not hold.
pub fn rule_messages() -> Vec<String> {
    let all = [workspace_rules(), ownership_rules(), snapshot_rules()];
    let message = |rule: &Value| rule["message"].as_str().map(str::to_owned);
    all.iter().filter_map(Value::as_array).flatten().filter_map(message).collect()
}

/// Standard base64 with padding, in its one canonical form. Matched in linear time by the apiserver's engine.
pub const BASE64: &str = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";
/// The longest base64 of one field, in characters. No resource within the budget of
/// [`convert::budget`](crate::convert::budget) can hold more.
const LONGEST_BASE64: u32 = 1024 * 1024;

/// Bytes as standard base64. No `format: byte`: apiservers then decode the field with the URL alphabet when they evaluate
/// CEL rules, and refuse every later update of an object whose value has `+` or `/`.
pub(super) fn bytes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": LONGEST_BASE64, "pattern": BASE64 })
}

/// An integer of no stated size, as Go's `int` has.
pub(super) fn integer(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer" })
}

/// metav1 Time.
pub(super) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// metav1 Conditions, as a map keyed by type: two writers never erase each other's.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "message": { "type": "string", "maxLength": 32768 },
                "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0.0 },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "type": {
                    "type": "string",
                    "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
                                (([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                },
            },
        },
    })
}

/// core/v1 EnvVarSource.
pub(super) fn env_var_source(_: &mut SchemaGenerator) -> Schema {
    let key_of = json_schema!({
        "type": "object",
        "required": ["key"],
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "key": { "type": "string" },
            "name": { "type": "string", "default": "" },
            "optional": { "type": "boolean" },
        },
    });
    json_schema!({
        "type": "object",
        "properties": {
            "configMapKeyRef": key_of,
            "secretKeyRef": key_of,
            "fieldRef": {
                "type": "object",
                "required": ["fieldPath"],
                "x-kubernetes-map-type": "atomic",
                "properties": {
                    "apiVersion": { "type": "string" },
                    "fieldPath": { "type": "string" },
                },
            },
            "resourceFieldRef": {
                "type": "object",
                "required": ["resource"],
                "x-kubernetes-map-type": "atomic",
                "properties": {
                    "containerName": { "type": "string" },
                    "divisor": {
                        "x-kubernetes-int-or-string": true,
                        "pattern": "^(\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))\
                                    (([KMGTPE]i)|[numkMGTPE]|([eE](\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))))?$",
                    },
                    "resource": { "type": "string" },
                },
            },
        },
    })
}
