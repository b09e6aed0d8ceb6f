//! Cluster files: one or more clusters in YAML or JSON. All problems are reported together.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::fields::{Fields, Problems, documents, kind, unless_wrong};
use super::kubeconfig;
use super::plugin::Plugin;
use crate::input::{self, Patience};
use crate::table::clean;
use crate::terminal::Terminal;
use domain::class::{Class, RawClass};
use domain::cluster::{ClearText, DEFAULT_MAX_WEIGHT, LARGEST_WEIGHT, NodeAgent};
use domain::kubeconfig::encoding;
use domain::names::{ClusterName, Namespace, Region, SecretName};
use domain::template::{PortUrl, WorkspaceUrl};
use proto::spaceport::v1::admission_constraint::Constraint;
use proto::spaceport::v1::cluster_spec::Capacity;
use proto::spaceport::v1::{AdmissionConstraint, ClusterSpec, FenceMode, NamespaceSpec, RegisterRequest};

mod login;
mod overrides;

use login::{Kubeconfig, kubeconfig_of};

pub use login::to_wire;
pub use overrides::{Login, Overrides};

/// Weight if the file names none.
const DEFAULT_WEIGHT: u32 = 50;

/// Says that a verb waits for a person who types.
pub fn announce(path: &Path, terminal: &mut Terminal<'_>) {
    if input::is_typed(path) {
        terminal.progress("reading the cluster file from this terminal; Ctrl-D ends it\n");
    }
}

pub fn read(path: &Path, patience: Patience) -> Result<Vec<Value>> {
    let bytes = input::read_or_stdin(path, input::CLUSTER_FILE, patience)?;
    let text = encoding::decode(&bytes).map_err(|rule| anyhow::anyhow!("{} {rule}", input::Name(path)))?;
    let documents: Vec<_> =
        documents(&text, path)?.into_iter().filter(|document| !document.is_null()).collect();
    ensure!(!documents.is_empty(), "{} holds no cluster", input::Name(path));
    Ok(documents)
}

/// A cluster to register, and the login plugin to run first, if its kubeconfig has one.
pub struct Registration {
    /// Without a kubeconfig if `plugin` creates it.
    pub request: RegisterRequest,
    pub plugin: Option<Box<Plugin>>,
}

/// Requests for the documents of a file. Identical documents are allowed; a name that repeats with other content is
/// not.
pub fn requests(
    mut documents: Vec<Value>,
    path: &Path,
    instead: &Overrides<'_>,
) -> Result<Vec<Registration>> {
    let mut problems = Vec::new();
    let mut requests = Vec::new();
    let mut names: HashMap<String, &Value> = HashMap::new();
    let many = documents.len() > 1;
    if let Some(name) = instead.name {
        for map in documents.iter_mut().filter_map(Value::as_object_mut) {
            map.insert("name".to_owned(), name.to_string().into());
        }
    }
    for (at, document) in documents.iter().enumerate() {
        let mut found = Problems::default();
        let registration = registration(document, path, instead, &mut found);
        let name = registration.request.spec.as_ref().map(|spec| spec.name.clone()).unwrap_or_default();
        if !name.is_empty() && *names.entry(name).or_insert(document) != document {
            found.add("name", "is already used by a document above");
        }
        let document = if many { format!("document {}", at + 1) } else { String::new() };
        problems.extend(found.into_vec().into_iter().map(|problem| problem.of(&document)));
        requests.push(registration);
    }
    unless_wrong(requests, problems, path)
}

/// The specification in one document, without its kubeconfig.
pub fn spec(mut documents: Vec<Value>, path: &Path) -> Result<ClusterSpec> {
    let mut document = documents.pop().unwrap_or_default();
    if let Some(map) = document.as_object_mut() {
        map.remove("kubeconfig");
    }
    let mut problems = Problems::default();
    let mut fields = Fields::of(&document, String::new(), &mut problems);
    let spec = spec_of(&mut fields, &mut problems);
    fields.finish(&mut problems);
    unless_wrong(spec, problems.into_vec(), path)
}

fn registration(
    document: &Value,
    path: &Path,
    instead: &Overrides<'_>,
    problems: &mut Problems,
) -> Registration {
    let mut fields = Fields::of(document, String::new(), problems);
    let mut spec = spec_of(&mut fields, problems);
    let (mut kubeconfig, mut plugin) = (Vec::new(), None);
    match kubeconfig_of(&mut fields, path, instead, problems) {
        Ok(Kubeconfig::Here(kubeconfig::Login::Ready(text))) => kubeconfig = text,
        Ok(Kubeconfig::Here(kubeconfig::Login::Plugin(found))) => plugin = Some(found),
        Ok(Kubeconfig::Secret(reference)) => spec.kubeconfig_secret = Some(reference),
        Ok(Kubeconfig::Wrong) => {}
        Err(error) => problems.add("kubeconfig", format_args!("{error:#}")),
    }
    fields.finish(problems);
    Registration { request: RegisterRequest { spec: Some(spec), kubeconfig }, plugin }
}

fn spec_of(fields: &mut Fields<'_>, problems: &mut Problems) -> ClusterSpec {
    let name = fields.required::<ClusterName>("name", problems);
    let region = fields.required::<Region>("region", problems);
    let labels = labels(fields, problems);
    let max_weight = fields.number("maxWeight", DEFAULT_MAX_WEIGHT, problems);
    if !(1..=LARGEST_WEIGHT).contains(&max_weight) {
        problems.add("maxWeight", format_args!("must be from 1 to {LARGEST_WEIGHT}"));
    }
    let weight = fields.number("weight", DEFAULT_WEIGHT.min(max_weight), problems);
    if weight > max_weight {
        problems.add("weight", format_args!("must not be above maxWeight, which is {max_weight}"));
    }
    let cordoned = fields.flag("cordoned", problems);
    let capacity = capacity(fields, problems);
    let constraints = fields.list("admissionConstraints", problems).iter().enumerate();
    let admission_constraints = constraints.map(|(at, value)| constraint(value, at, problems)).collect();
    let namespaces = namespaces(fields, problems);
    let capacity = capacity.into();
    let fence = match fields.text("fence", problems).as_deref() {
        None | Some("enforced") => FenceMode::Enforced,
        Some("off") => FenceMode::Off,
        Some(_) => {
            problems.add("fence", "must be enforced or off");
            FenceMode::Enforced
        }
    };
    ClusterSpec {
        name,
        region,
        labels,
        weight,
        max_weight,
        cordoned,
        admission_constraints,
        namespaces,
        fence: fence.into(),
        capacity,
        kubeconfig_secret: None,
    }
}

/// `nodes` if the file says nothing.
fn capacity(fields: &mut Fields<'_>, problems: &mut Problems) -> Capacity {
    match fields.text("capacity", problems).as_deref() {
        None | Some("nodes") => Capacity::Nodes,
        Some("unlimited") => Capacity::Unlimited,
        Some(_) => {
            problems.add("capacity", "must be nodes or unlimited");
            Capacity::Nodes
        }
    }
}

fn labels(fields: &mut Fields<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (key, value) in fields.mapping("labels", problems) {
        match value.as_str() {
            Some(text) => {
                labels.insert(key, text.to_owned());
            }
            None => {
                problems.add(&format!("labels.{key}"), format_args!("must be a text, not {}", kind(value)));
            }
        }
    }
    labels
}

fn constraint(value: &Value, at: usize, problems: &mut Problems) -> AdmissionConstraint {
    let path = format!("admissionConstraints[{at}]");
    let before = problems.len();
    let mut fields = Fields::of(value, path.clone(), problems);
    let permission = fields.text("permission", problems);
    let preview = fields.get("featurePreview").is_some();
    let wanted = fields.flag("featurePreview", problems);
    fields.finish(problems);
    let constraint = match (permission, preview) {
        (Some(permission), false) if permission.is_empty() => {
            problems.add(&format!("{path}.permission"), "must not be empty");
            None
        }
        (Some(permission), false) => Some(Constraint::Permission(permission)),
        (None, true) => Some(Constraint::FeaturePreview(wanted)),
        _ => {
            if problems.len() == before {
                problems.add(&path, "must be either permission or featurePreview");
            }
            None
        }
    };
    AdmissionConstraint { constraint }
}

fn namespaces(fields: &mut Fields<'_>, problems: &mut Problems) -> Vec<NamespaceSpec> {
    let values = fields.list("namespaces", problems);
    let specs: Vec<_> = values.iter().enumerate().map(|(at, value)| namespace(value, at, problems)).collect();
    let mut seen = HashSet::new();
    for (at, spec) in specs.iter().enumerate() {
        if !spec.namespace.is_empty() && !seen.insert(&spec.namespace) {
            problems.add(&format!("namespaces[{at}].namespace"), "is named twice");
        }
    }
    specs
}

fn namespace(value: &Value, at: usize, problems: &mut Problems) -> NamespaceSpec {
    let path = format!("namespaces[{at}]");
    let mut fields = Fields::of(value, path.clone(), problems);
    let classes = classes(&mut fields, problems);
    let builder = fields.get("imageBuilder").map(|value| {
        let mut builder = Fields::of(value, format!("{path}.imageBuilder"), problems);
        let target = builder.required::<Text>("targetAddr", problems);
        builder.finish(problems);
        target
    });
    let spec = NamespaceSpec {
        namespace: fields.parsed::<Namespace>("namespace", problems).unwrap_or_default(),
        secrets_namespace: fields.parsed::<Namespace>("secretsNamespace", problems).unwrap_or_default(),
        preferred_class: fields.text("preferredClass", problems).unwrap_or_default(),
        url_template: fields.parsed::<WorkspaceUrl>("urlTemplate", problems).unwrap_or_default(),
        port_url_template: fields.parsed::<PortUrl>("portUrlTemplate", problems).unwrap_or_default(),
        workspace_cluster_host: fields.text("workspaceClusterHost", problems).unwrap_or_default(),
        registry_facade_host: fields.text("registryFacadeHost", problems).unwrap_or_default(),
        seccomp_profile: fields.text("seccompProfile", problems).unwrap_or_default(),
        scheduler_name: fields.text("schedulerName", problems).unwrap_or_default(),
        node_agent: fields.parsed::<NodeAgent>("nodeAgent", problems).unwrap_or_default(),
        clear_text_secrets: fields.parsed::<ClearText>("clearTextSecrets", problems).unwrap_or_default(),
        allowed_secrets: allowed_secrets(&mut fields, problems),
        image_builder_target: builder.unwrap_or_default(),
        classes,
    };
    if !spec.namespace.is_empty() && spec.secrets_namespace == spec.namespace {
        problems.add(&fields.path_of("secretsNamespace"), "must differ from the workspace namespace");
    }
    let preferred = &spec.preferred_class;
    if !preferred.is_empty() && !spec.classes.is_empty() && !spec.classes.contains_key(preferred) {
        problems.add(&fields.path_of("preferredClass"), format_args!("{preferred:?} is none of the classes"));
    }
    fields.finish(problems);
    spec
}

/// Names of Secrets that starts may reference.
fn allowed_secrets(fields: &mut Fields<'_>, problems: &mut Problems) -> Vec<String> {
    let path = fields.path_of("allowedSecrets");
    let mut names = Vec::new();
    for (at, value) in fields.list("allowedSecrets", problems).iter().enumerate() {
        match value.as_str().map(str::parse::<SecretName>) {
            Some(Ok(name)) => names.push(name.to_string()),
            Some(Err(error)) => problems.add(&format!("{path}[{at}]"), error),
            None => {
                problems.add(&format!("{path}[{at}]"), format_args!("must be a text, not {}", kind(value)));
            }
        }
    }
    names
}

/// Classes as on the wire: JSON by id.
fn classes(fields: &mut Fields<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let path = fields.path_of("classes");
    let mut classes = BTreeMap::new();
    for (id, value) in fields.mapping("classes", problems) {
        let path = format!("{path}.{}", clean(&id));
        let before = problems.len();
        class_kinds(value, &path, problems);
        match RawClass::deserialize(value) {
            Ok(raw) => {
                for problem in Class::parse(&id, &raw, Path::new("")).err().into_iter().flatten() {
                    let below = if problem.path.is_empty() { "" } else { "." };
                    problems.add(&format!("{path}{below}{}", problem.path), problem.message);
                }
            }
            // The parser of classes stops at the first problem and names internal types.
            Err(_) if problems.len() > before => {}
            Err(_) => problems.add(&path, "is not a workspace class: a key in it has no value"),
        }
        classes.insert(id, value.to_string());
    }
    classes
}

/// Checks that each key of a class is known and its value of the right kind.
fn class_kinds(value: &Value, path: &str, problems: &mut Problems) {
    let mut class = Fields::of(value, path.to_owned(), problems);
    class.text("name", problems);
    class.text("description", problems);
    class.decimal("creditsPerMinute", problems);
    if let Some(mut container) = class.group("container", problems) {
        if let Some(mut requests) = container.group("requests", problems) {
            requests.quantities(&["cpu", "memory", "ephemeral-storage", "storage"], problems);
            requests.finish(problems);
        }
        if let Some(mut limits) = container.group("limits", problems) {
            limits.quantities(&["memory", "ephemeral-storage", "storage"], problems);
            if let Some(mut cpu) = limits.group("cpu", problems) {
                cpu.quantities(&["min", "burst"], problems);
                cpu.finish(problems);
            }
            limits.finish(problems);
        }
        container.finish(problems);
    }
    if let Some(mut templates) = class.group("templates", problems) {
        for key in ["defaultPath", "regularPath", "prebuildPath", "probePath", "imagebuildPath"] {
            templates.text(key, problems);
        }
        templates.finish(problems);
    }
    class.finish(problems);
}

/// Any non-empty text.
struct Text;

impl FromStr for Text {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() { Err("must not be empty") } else { Ok(Self) }
    }
}

#[cfg(test)]
mod tests;
