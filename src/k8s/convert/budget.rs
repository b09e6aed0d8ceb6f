//! Size limits of the objects that a start, a change or an adoption writes. Pure; checked before anything is written.
//!
//! etcd accepts requests of 1.5 MiB by default. An object just below that could be created and never changed again: every
//! later write adds conditions, managed fields or a deletion timestamp. So the spec of a Workspace gets 1 MiB, and the
//! rest stays free for its status and for a stop.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

use crate::resources::Workspace;
use domain::workspace::{EnvValue, EnvVar, Start};

use super::workspace::SecretsOf;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Bytes of a Workspace without its status when it is started, as the apiserver stores it: JSON, managed fields included.
/// The rest up to [`RESOURCE`] is for ports and keys that come later.
pub const STARTED: usize = RESOURCE - 64 * KIB;
/// The same after a change that can grow without end.
pub const RESOURCE: usize = MIB;
/// The same after a change of a few bytes, which can so be made of every Workspace within [`RESOURCE`]. Also bytes of a
/// Workspace that is adopted, its status included.
pub const LARGEST: usize = MIB + 256 * KIB;
/// Bytes of a pod before it has a status.
pub const POD: usize = MIB + 256 * KIB;
/// Bytes of a Secret, keys and values. Kubernetes takes values of 1 MiB.
pub const SECRET: usize = MIB;
/// Bytes of one variable as `NAME=value` with the NUL that ends it: what Linux takes.
pub const VARIABLE: usize = 128 * KIB;
/// Bytes of all variables of a start. Linux takes 2 MiB, the image's own and the program's arguments included.
pub const ENVIRONMENT: usize = MIB;
/// Bytes of keys and values of a Workspace's annotations, Spaceport's own included. Kubernetes takes 256 KiB; the rest is for
/// what a pod has besides, network plugins and an adoption.
pub const ANNOTATIONS: usize = 252 * KIB;
/// The same of a pod, or of a Workspace that is adopted.
const ANNOTATIONS_MOST: usize = 255 * KIB;

/// Managed fields of an object besides those of its lists and maps.
const MANAGED: usize = 4 * KIB;
/// Managed fields of an annotation or label besides its key.
const MANAGED_KEY: usize = 10;
/// Managed fields of a port.
const MANAGED_PORT: usize = 120;
/// Managed fields of a pod's variable besides its name.
const MANAGED_VARIABLE: usize = 140;

const ENVVARS: &str = "spec.envvars";
const SYS_ENVVARS: &str = "spec.sys_envvars";
const INITIALIZER: &str = "spec.initializer";
const OF_ANNOTATIONS: &str = "metadata.annotations";

/// Something that does not fit. The text is the rule that is broken, without any value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// The field of a start request that contributes most.
    pub field: &'static str,
    what: String,
    size: usize,
    limit: usize,
    of_field: usize,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, what, size, limit, of_field } = self;
        write!(f, "{what} must not have more than {limit} bytes and would have {size}")?;
        if of_field < size {
            write!(f, ", {of_field} of them from {field}")?;
        }
        Ok(())
    }
}

type Result = std::result::Result<(), Exceeded>;

/// Whether the objects of a start fit: its Workspace and its Secrets, as they are made where it is placed.
pub fn of_start(start: &Start, workspace: &Workspace, secrets: &SecretsOf) -> Result {
    of_secrets(start, secrets)?;
    let annotations = bytes_of(workspace.metadata.annotations.as_ref());
    below("the annotations of the Workspace", annotations, ANNOTATIONS, OF_ANNOTATIONS)?;
    Parts::of(workspace).below("the Workspace", STARTED)
}

/// The field of a start request that takes most of its Workspace, for a cluster that stores less than others.
pub fn largest(workspace: &Workspace) -> &'static str {
    Parts::of(workspace).largest().0
}

/// Whether the variables of a start fit, each and together.
pub fn of_variables(start: &Start) -> Result {
    let length = |variable: &EnvVar| {
        let value = match &variable.value {
            EnvValue::Plain(value) => value.len(),
            EnvValue::Secret(_) => 0,
        };
        variable.name.len() + value + "=\0".len()
    };
    let mut sizes = [(ENVVARS, 0), (SYS_ENVVARS, 0)];
    for ((field, sum), variables) in sizes.iter_mut().zip([&start.user_env, &start.sys_env]) {
        for (at, variable) in variables.iter().enumerate() {
            let size = length(variable);
            below(&format!("variable {at} as NAME=value"), size, VARIABLE, field)?;
            // And a pointer to it.
            *sum += size + 8;
        }
    }
    Parts(sizes.to_vec()).below("all variables", ENVIRONMENT)
}

fn of_secrets(start: &Start, secrets: &SecretsOf) -> Result {
    let size = |content: &BTreeMap<String, String>| {
        // A key is in the managed fields, too.
        content.iter().map(|(key, value)| 2 * key.len() + value.len() + MANAGED_KEY).sum::<usize>()
    };
    let plain = |variables: &[EnvVar]| {
        let value = |variable: &EnvVar| match &variable.value {
            EnvValue::Plain(value) => value.len(),
            EnvValue::Secret(_) => 0,
        };
        variables.iter().map(value).sum::<usize>()
    };
    if let Some(env) = &secrets.env {
        let of_users = plain(&start.user_env) >= plain(&start.sys_env);
        let field = if of_users { ENVVARS } else { SYS_ENVVARS };
        below("the Secret of its variables", size(env.expose()), SECRET, field)?;
    }
    if let Some(tokens) = &secrets.tokens {
        below("the Secret of its initializer", size(tokens.expose()), SECRET, INITIALIZER)?;
    }
    Ok(())
}

/// Whether a Workspace is within `limit` once a merge patch of its spec is applied. One that was too large before may get
/// smaller in steps.
pub fn of_change(before: &Workspace, patch: &Value, limit: usize) -> Result {
    let Some(after) = patched(before, patch) else { return Ok(()) };
    let after = Parts::of(&after);
    if after.total() <= Parts::of(before).total() {
        return Ok(());
    }
    after.below("the Workspace", limit)
}

fn patched(before: &Workspace, patch: &Value) -> Option<Workspace> {
    let mut value = serde_json::to_value(Workspace { status: None, ..before.clone() }).ok()?;
    merge(&mut value, patch);
    serde_json::from_value(value).ok()
}

/// JSON merge patch, RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (key, change) in changes {
        if change.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.as_str()).or_insert(Value::Null), change);
        }
    }
}

/// Whether a Workspace that another manager made can be looked after: labels, annotations and a finalizer are added to it,
/// and it must still stop.
pub fn of_adoption(workspace: &Workspace) -> Result {
    let annotations = bytes_of(workspace.metadata.annotations.as_ref());
    below("the annotations of the Workspace", annotations, ANNOTATIONS_MOST, OF_ANNOTATIONS)?;
    let Parts(mut parts) = Parts::of(workspace);
    parts.push(("status", json(&workspace.status)));
    Parts(parts).below("the Workspace", LARGEST)
}

/// Whether a pod can be stored and its container be started.
pub fn of_pod(pod: &Pod) -> Result {
    let annotations = bytes_of(pod.metadata.annotations.as_ref());
    below("the annotations of the pod", annotations, ANNOTATIONS_MOST, OF_ANNOTATIONS)?;
    let mut parts = vec![("spec", MANAGED), (OF_ANNOTATIONS, json(&pod.metadata) + managed(&pod.metadata))];
    let mut env = 0;
    for variable in pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|one| one.env.iter().flatten())
    {
        let value = variable.value.as_ref().map_or(0, String::len);
        let (field, size) = (origin(&variable.name), variable.name.len() + value + "=\0".len());
        below("a variable that the pod gets from it", size, VARIABLE, field)?;
        env += json(variable);
        // Its name is in the managed fields, too.
        parts.push((field, json(variable) + variable.name.len() + MANAGED_VARIABLE));
    }
    parts.push(("spec.workspace_image", json(&pod.spec).saturating_sub(env)));
    Parts(parts).below("the pod", POD)
}

/// The field of a start request that a pod's variable comes from.
fn origin(name: &str) -> &'static str {
    match name {
        "GITPOD_REPO_ROOT" | "GITPOD_REPO_ROOTS" => INITIALIZER,
        "GITPOD_GIT_USER_NAME" | "GITPOD_GIT_USER_EMAIL" => "spec.git",
        "THEIA_WORKSPACE_ROOT" => "spec.workspace_location",
        _ => ENVVARS,
    }
}

/// Bytes of an object by the field of the start request that they come from; a field may be there several times.
struct Parts(Vec<(&'static str, usize)>);

impl Parts {
    /// Of a Workspace without its status.
    fn of(workspace: &Workspace) -> Self {
        let (metadata, spec) = (&workspace.metadata, &workspace.spec);
        let annotations = json(&metadata.annotations) + managed(metadata);
        let rest =
            json(metadata).saturating_sub(json(&metadata.annotations) + json(&metadata.managed_fields));
        let mut parts = vec![
            (OF_ANNOTATIONS, annotations),
            ("metadata", rest + MANAGED),
            (INITIALIZER, json(&spec.initializer)),
            (ENVVARS, json(&spec.user_env_vars)),
            (SYS_ENVVARS, json(&spec.sys_env_vars)),
            ("spec.ports", json(&spec.ports) + spec.ports.len() * MANAGED_PORT),
            ("spec.ssh_public_keys", json(&spec.ssh_public_keys)),
            ("spec.workspace_image", json(&spec.image.workspace)),
            ("spec.ide_image_layers", json(&spec.image.ide.layers)),
            ("spec.ide_image", json(&spec.image.ide.web) + json(&spec.image.ide.supervisor)),
            ("spec.workspace_location", json(&spec.workspace_location)),
            ("spec.git", json(&spec.git)),
            ("metadata.team", json(&spec.ownership)),
        ];
        let known: usize = parts.iter().skip(2).map(|(_, size)| size).sum();
        parts.push(("spec", json(spec).saturating_sub(known)));
        Self(parts)
    }

    fn total(&self) -> usize {
        self.0.iter().map(|(_, size)| size).sum()
    }

    fn largest(&self) -> (&'static str, usize) {
        let mut sums: BTreeMap<&'static str, usize> = BTreeMap::new();
        for (field, size) in &self.0 {
            *sums.entry(field).or_default() += size;
        }
        sums.into_iter().max_by_key(|(_, size)| *size).unwrap_or(("spec", 0))
    }

    fn below(&self, what: &str, limit: usize) -> Result {
        let (size, (field, of_field)) = (self.total(), self.largest());
        if size <= limit {
            return Ok(());
        }
        Err(Exceeded { field, what: what.to_owned(), size, limit, of_field })
    }
}

/// For what one field alone makes.
fn below(what: &str, size: usize, limit: usize, field: &'static str) -> Result {
    Parts(vec![(field, size)]).below(what, limit)
}

/// Managed fields of annotations and labels.
fn managed(metadata: &ObjectMeta) -> usize {
    let keys = metadata.annotations.iter().chain(&metadata.labels).flat_map(BTreeMap::keys);
    keys.map(|key| json(key) + MANAGED_KEY).sum()
}

/// As Kubernetes counts annotations.
fn bytes_of(annotations: Option<&BTreeMap<String, String>>) -> usize {
    annotations.into_iter().flatten().map(|(key, value)| key.len() + value.len()).sum()
}

/// Bytes of a value as JSON the way the apiserver writes it.
fn json<T: Serialize>(value: &T) -> usize {
    let mut count = Count(0);
    // What cannot be written as JSON is refused where it is sent.
    serde_json::to_writer(&mut count, value).map_or(usize::MAX / 64, |()| count.0)
}

/// Counts what is written. Go escapes four more characters than this program does, each as six bytes.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let escaped = text.iter().filter(|byte| matches!(byte, b'<' | b'>' | b'&')).count();
        let separators = text.windows(3).filter(|three| matches!(three, [0xe2, 0x80, 0xa8 | 0xa9])).count();
        self.0 += text.len() + 5 * escaped + 3 * separators;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
