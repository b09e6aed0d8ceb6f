//! Environment variables of a Workspace.

use std::fmt;

use k8s_openapi::api::core::v1::{self, EnvVarSource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// A core/v1 EnvVar.
// The same in JSON, smaller in memory, and its Debug is silent about values.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name of the variable.
    pub name: String,
    /// The value itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where the value is taken from instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::env_var_source")]
    pub value_from: Option<Box<EnvVarSource>>,
}

impl From<EnvVar> for v1::EnvVar {
    fn from(variable: EnvVar) -> Self {
        let EnvVar { name, value, value_from } = variable;
        Self { name, value, value_from: value_from.map(|source| *source) }
    }
}

impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, value_from } = self;
        let value = value.as_ref().map(|_| format_args!("[redacted]"));
        f.debug_struct("EnvVar")
            .field("name", name)
            .field("value", &value)
            .field("value_from", value_from)
            .finish()
    }
}
