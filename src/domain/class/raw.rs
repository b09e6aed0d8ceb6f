//! Classes as they are written in files, and their validation.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::{Class, ClassId, CpuLimit, Limits, Quantity, Requests, Templates};

/// A problem of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path of keys below the class, such as `container.limits.memory`; empty for the class's own name.
    pub path: &'static str,
    /// Rule that the value breaks.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// A class as written in the configuration or in a cluster file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawClass {
    /// The name for people.
    pub name: String,
    /// The text for people; empty means a generated one.
    pub description: String,
    /// Price of a minute.
    pub credits_per_minute: f32,
    /// The workspace container's resources.
    pub container: RawContainer,
    /// Files with pod templates.
    pub templates: RawTemplates,
}

/// Resources of the workspace container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawContainer {
    /// Resource requests.
    pub requests: RawRequests,
    /// Resource limits.
    pub limits: RawLimits,
}

/// Resource requests; empty means none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the fields are the resources' own names")]
pub struct RawRequests {
    #[serde(deserialize_with = "quantity_text")]
    pub cpu: String,
    #[serde(deserialize_with = "quantity_text")]
    pub memory: String,
    #[serde(deserialize_with = "quantity_text")]
    pub ephemeral_storage: String,
    #[serde(deserialize_with = "quantity_text")]
    pub storage: String,
}

/// Resource limits; empty means none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the fields are the resources' own names")]
pub struct RawLimits {
    pub cpu: RawCpu,
    #[serde(deserialize_with = "quantity_text")]
    pub memory: String,
    #[serde(deserialize_with = "quantity_text")]
    pub ephemeral_storage: String,
    #[serde(deserialize_with = "quantity_text")]
    pub storage: String,
}

/// CPU limits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawCpu {
    /// Guaranteed on a busy node.
    #[serde(deserialize_with = "quantity_text")]
    pub min: String,
    /// Usable on an idle node.
    #[serde(deserialize_with = "quantity_text")]
    pub burst: String,
}

/// Paths of pod templates; empty means none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawTemplates {
    /// For every type of workspace.
    pub default_path: String,
    /// For regular workspaces.
    pub regular_path: String,
    /// For prebuilds.
    pub prebuild_path: String,
    /// Deprecated: accepted and ignored.
    pub probe_path: String,
    /// For image builds.
    pub imagebuild_path: String,
}

/// Accepts a number, too: `cpu: 2` is natural YAML.
fn quantity_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Whole(u64),
        Decimal(f64),
        Text(String),
    }
    match Written::deserialize(deserializer) {
        Ok(Written::Whole(number)) => Ok(number.to_string()),
        Ok(Written::Decimal(number)) => Ok(number.to_string()),
        Ok(Written::Text(text)) => Ok(text),
        Err(_) => Err(de::Error::custom("expected a quantity such as 500m, 2 or \"16Gi\"")),
    }
}

impl Class {
    /// Validates a class and returns all problems. Template paths are relative to `base`.
    pub fn parse(id: &str, raw: &RawClass, base: &Path) -> Result<Self, Vec<Problem>> {
        let mut check = Check { base, problems: Vec::new() };
        let id = ClassId::from_str(id).map_err(|error| check.report("", &error)).ok();
        let credits_per_minute = raw.credits_per_minute;
        if !credits_per_minute.is_finite() || credits_per_minute < 0.0 {
            check.report("creditsPerMinute", &"must be zero or more");
        }
        let requests = check.requests(&raw.container.requests);
        let limits = check.limits(&raw.container.limits);
        check.requests_below_limits(&requests, &limits);
        let templates = check.templates(&raw.templates);
        match id {
            Some(id) if check.problems.is_empty() => Ok(Self {
                name: if raw.name.is_empty() { id.to_string() } else { raw.name.clone() },
                id,
                configured_description: (!raw.description.is_empty()).then(|| raw.description.clone()),
                credits_per_minute,
                requests,
                limits,
                templates,
            }),
            _ => Err(check.problems),
        }
    }
}

struct Check<'a> {
    base: &'a Path,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn report(&mut self, path: &'static str, message: &dyn fmt::Display) {
        self.problems.push(Problem { path, message: message.to_string() });
    }

    fn quantity(&mut self, path: &'static str, text: &str) -> Quantity {
        if text.is_empty() {
            return Quantity::default();
        }
        text.parse().unwrap_or_else(|error| {
            self.report(path, &error);
            Quantity::default()
        })
    }

    fn requests(&mut self, raw: &RawRequests) -> Requests {
        Requests {
            cpu: self.quantity("container.requests.cpu", &raw.cpu),
            memory: self.quantity("container.requests.memory", &raw.memory),
            ephemeral_storage: self.quantity("container.requests.ephemeral-storage", &raw.ephemeral_storage),
            storage: self.quantity("container.requests.storage", &raw.storage),
        }
    }

    fn limits(&mut self, raw: &RawLimits) -> Limits {
        Limits {
            cpu: CpuLimit {
                min: self.quantity("container.limits.cpu.min", &raw.cpu.min),
                burst: self.quantity("container.limits.cpu.burst", &raw.cpu.burst),
            },
            memory: self.quantity("container.limits.memory", &raw.memory),
            ephemeral_storage: self.quantity("container.limits.ephemeral-storage", &raw.ephemeral_storage),
            storage: self.quantity("container.limits.storage", &raw.storage),
        }
    }

    /// An apiserver rejects a pod whose request exceeds its limit; this reports it before the first start.
    fn requests_below_limits(&mut self, requests: &Requests, limits: &Limits) {
        for (path, request, limit) in [
            ("container.requests.cpu", &requests.cpu, &limits.cpu.burst),
            ("container.requests.memory", &requests.memory, &limits.memory),
            ("container.requests.ephemeral-storage", &requests.ephemeral_storage, &limits.ephemeral_storage),
        ] {
            if !limit.is_zero() && request > limit {
                self.report(path, &format_args!("{request} is more than the limit {limit}"));
            }
        }
    }

    fn templates(&self, raw: &RawTemplates) -> Templates {
        let path = |text: &str| (!text.is_empty()).then(|| -> PathBuf { self.base.join(text) });
        Templates {
            default: path(&raw.default_path),
            regular: path(&raw.regular_path),
            prebuild: path(&raw.prebuild_path),
            imagebuild: path(&raw.imagebuild_path),
        }
    }
}
