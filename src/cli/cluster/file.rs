//! Cluster files: one or more clusters in YAML or JSON. Everything that is wrong is told at once.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::fields::{Fields, Problems, kind};
use super::kubeconfig;
use crate::cli::table::clean;
use crate::domain::class::{Class, RawClass};
use crate::domain::cluster::DEFAULT_MAX_WEIGHT;
use crate::domain::names::{ClusterName, Namespace, Region, SecretKey, SecretName};
use crate::domain::secret_ref::SecretRef;
use crate::domain::template::{PortUrl, WorkspaceUrl};
use crate::proto::spaceport::v1::admission_constraint::Constraint;
use crate::proto::spaceport::v1::cluster_spec::Capacity;
use crate::proto::spaceport::v1::{
    AdmissionConstraint, ClusterSpec, FenceMode, NamespaceSpec, RegisterRequest, SecretReference,
};

/// Share of new workspaces where the file names none.
const DEFAULT_WEIGHT: u32 = 50;
/// Bound of `maxWeight`, as the domain has it.
const LARGEST_WEIGHT: u32 = 1000;

/// The documents of a file; `-` is standard input.
pub fn read(path: &Path) -> Result<Vec<Value>> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin().lock().take(16 << 20))
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.with_context(|| format!("failed to read {}", path.display()))?;
    // Without a snippet, because it quotes the file, and so perhaps a kubeconfig.
    let documents = parse(&text).map_err(|error| {
        anyhow::anyhow!("{} is neither YAML nor JSON: {}", path.display(), clean(&error.to_string()))
    })?;
    let documents: Vec<_> = documents.into_iter().filter(|document| !document.is_null()).collect();
    ensure!(!documents.is_empty(), "{} holds no cluster", path.display());
    Ok(documents)
}

/// As YAML 1.2 has it: `no` and `n` are texts, and so may be names.
fn parse(text: &str) -> Result<Vec<Value>, serde_saphyr::Error> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_multiple_with_options(text, options)
}

/// Where a kubeconfig is, whatever a document says.
#[derive(Clone, Copy)]
pub enum Login<'a> {
    /// In a file.
    File(&'a Path),
    /// In a Secret of the manager's own cluster.
    Secret(&'a SecretRef),
}

impl<'a> Login<'a> {
    /// Of what flags name; the command line takes one of them at most.
    pub fn of(file: Option<&'a Path>, secret: Option<&'a SecretRef>) -> Option<Self> {
        secret.map(Self::Secret).or(file.map(Self::File))
    }
}

/// A reference as it is sent.
pub fn to_wire(reference: &SecretRef) -> SecretReference {
    SecretReference {
        namespace: reference.namespace.to_string(),
        name: reference.name.to_string(),
        key: reference.key.to_string(),
    }
}

/// What to ask of the server; `name` and `login` win over what the documents say.
pub fn requests(
    mut documents: Vec<Value>,
    path: &Path,
    name: Option<&ClusterName>,
    login: Option<Login<'_>>,
) -> Result<Vec<RegisterRequest>> {
    let mut problems = Vec::new();
    let mut requests = Vec::new();
    let mut names = HashSet::new();
    let many = documents.len() > 1;
    for (at, document) in documents.iter_mut().enumerate() {
        if let (Some(name), Some(map)) = (name, document.as_object_mut()) {
            map.insert("name".to_owned(), name.to_string().into());
        }
        let mut found = Problems::default();
        let request = request(document, path, login, &mut found);
        let spec_name = request.spec.as_ref().map(|spec| spec.name.clone()).unwrap_or_default();
        if !spec_name.is_empty() && !names.insert(spec_name) {
            found.add("name", "is taken by a document above");
        }
        let prefix = if many { format!("document {}: ", at + 1) } else { String::new() };
        problems.extend(found.into_vec().into_iter().map(|problem| format!("{prefix}{problem}")));
        requests.push(request);
    }
    match problems.as_slice() {
        [] => Ok(requests),
        [only] => bail!("{}: {only}", path.display()),
        all => bail!("{} has {} problems:\n  {}", path.display(), all.len(), all.join("\n  ")),
    }
}

/// What one document says, without looking at the kubeconfig that it names.
pub fn spec(mut documents: Vec<Value>, path: &Path) -> Result<ClusterSpec> {
    let mut document = documents.pop().unwrap_or_default();
    if let Some(map) = document.as_object_mut() {
        map.remove("kubeconfig");
    }
    let mut problems = Problems::default();
    let mut fields = Fields::of(&document, String::new(), &mut problems);
    let spec = spec_of(&mut fields, &mut problems);
    fields.finish(&mut problems);
    match problems.into_vec().as_slice() {
        [] => Ok(spec),
        [only] => bail!("{}: {only}", path.display()),
        all => bail!("{} has {} problems:\n  {}", path.display(), all.len(), all.join("\n  ")),
    }
}

fn request(
    document: &Value,
    path: &Path,
    instead: Option<Login<'_>>,
    problems: &mut Problems,
) -> RegisterRequest {
    let mut fields = Fields::of(document, String::new(), problems);
    let mut spec = spec_of(&mut fields, problems);
    let kubeconfig = match kubeconfig_of(&mut fields, path, instead, problems) {
        Ok(Kubeconfig::Text(text)) => text,
        Ok(Kubeconfig::Secret(reference)) => {
            spec.kubeconfig_secret = Some(reference);
            Vec::new()
        }
        Err(error) => {
            problems.add("kubeconfig", format_args!("{error:#}"));
            Vec::new()
        }
    };
    fields.finish(problems);
    RegisterRequest { spec: Some(spec), kubeconfig }
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

/// `nodes` where the file says nothing.
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
    let before = problems.len();
    let values = fields.list("namespaces", problems);
    if values.is_empty() && problems.len() == before {
        problems.add("namespaces", "must name at least one namespace");
    }
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
        namespace: fields.required::<Namespace>("namespace", problems),
        secrets_namespace: fields.parsed::<Namespace>("secretsNamespace", problems).unwrap_or_default(),
        preferred_class: fields.text("preferredClass", problems).unwrap_or_default(),
        url_template: fields.parsed::<WorkspaceUrl>("urlTemplate", problems).unwrap_or_default(),
        port_url_template: fields.parsed::<PortUrl>("portUrlTemplate", problems).unwrap_or_default(),
        workspace_cluster_host: fields.text("workspaceClusterHost", problems).unwrap_or_default(),
        registry_facade_host: fields.text("registryFacadeHost", problems).unwrap_or_default(),
        seccomp_profile: fields.text("seccompProfile", problems).unwrap_or_default(),
        scheduler_name: fields.text("schedulerName", problems).unwrap_or_default(),
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

/// Classes in the form the wire has: JSON by id.
fn classes(fields: &mut Fields<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let path = fields.path_of("classes");
    let mut classes = BTreeMap::new();
    for (id, value) in fields.mapping("classes", problems) {
        let path = format!("{path}.{id}");
        match RawClass::deserialize(value) {
            Ok(raw) => {
                for problem in Class::parse(&id, &raw, Path::new("")).err().into_iter().flatten() {
                    problems.add(&path, problem);
                }
            }
            Err(error) => problems.add(&path, error),
        }
        classes.insert(id, value.to_string());
    }
    classes
}

/// Any text that is not empty.
struct Text;

impl FromStr for Text {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() { Err("must not be empty") } else { Ok(Self) }
    }
}

/// A kubeconfig, or where the manager finds it.
enum Kubeconfig {
    Text(Vec<u8>),
    Secret(SecretReference),
}

fn kubeconfig_of(
    fields: &mut Fields<'_>,
    path: &Path,
    instead: Option<Login<'_>>,
    problems: &mut Problems,
) -> Result<Kubeconfig> {
    let base = if path == Path::new("-") { Path::new("") } else { path.parent().unwrap_or(Path::new("")) };
    let value = match (fields.get("kubeconfig"), instead) {
        (_, Some(Login::File(file))) => return kubeconfig::from_file(file).map(Kubeconfig::Text),
        (_, Some(Login::Secret(reference))) => return Ok(Kubeconfig::Secret(to_wire(reference))),
        (None, None) => bail!("is required, here or as --kubeconfig or --kubeconfig-secret"),
        (Some(value), None) => value,
    };
    let before = problems.len();
    let mut source = Fields::of(value, "kubeconfig".to_owned(), problems);
    let (file, inline) = (source.text("file", problems), source.text("inline", problems));
    let secret = source.get("secret").map(|value| secret(value, problems));
    source.finish(problems);
    match (file, inline, secret) {
        (Some(file), None, None) => kubeconfig::from_file(&base.join(file)).map(Kubeconfig::Text),
        (None, Some(inline), None) => kubeconfig::standalone(inline, base).map(Kubeconfig::Text),
        (None, None, Some(secret)) => Ok(Kubeconfig::Secret(secret)),
        // What is wrong is told already.
        _ if problems.len() > before => Ok(Kubeconfig::Text(Vec::new())),
        _ => bail!("must have one of file, inline and secret"),
    }
}

fn secret(value: &Value, problems: &mut Problems) -> SecretReference {
    let mut fields = Fields::of(value, "kubeconfig.secret".to_owned(), problems);
    let reference = SecretReference {
        namespace: fields.required::<Namespace>("namespace", problems),
        name: fields.required::<SecretName>("name", problems),
        key: fields.parsed::<SecretKey>("key", problems).unwrap_or_default(),
    };
    fields.finish(problems);
    reference
}

#[cfg(test)]
mod tests;
