//! Schemas of Kubernetes' own types inside ours, and of integers without a format.

use schemars::{Schema, SchemaGenerator, json_schema};

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
