//! Pod templates. Cluster files may name only templates below `manager.templateFolder`. That folder is read together with the
//! configuration, so that a cluster file never causes a file to be read.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use serde::de::DeserializeOwned;
use serde_json::Value;

use domain::class;
use domain::text;

/// Number of unknown keys that an error names.
const MOST_KEYS: usize = 8;
/// Characters of each.
const LONGEST_KEY: usize = 40;

/// Pod templates of a class before merging.
#[derive(Debug, Clone, Default)]
pub struct PodTemplates {
    /// For every type.
    pub default: Option<Pod>,
    /// For regular workspaces.
    pub regular: Option<Pod>,
    /// For prebuilds.
    pub prebuild: Option<Pod>,
    /// For image builds.
    pub imagebuild: Option<Pod>,
}

/// A pod template that cannot be used. The message names the file and never quotes its content, which may be secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TemplateError {
    /// Reading the file failed.
    #[error("failed to read {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        reason: String,
    },
    /// The file does not parse as a pod.
    #[error("{} is not a pod in YAML or JSON{at}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Position of the error.
        at: String,
    },
    /// The file has keys that no pod has.
    #[error("{} has keys that no pod has: {keys}", path.display())]
    UnknownKeys {
        /// The file.
        path: PathBuf,
        /// Key paths, at most [`MOST_KEYS`] of them.
        keys: String,
    },
    /// A cluster file names a template, and `manager.templateFolder` is not set.
    #[error("{} cannot be used: manager.templateFolder is not set in the configuration of the manager", path.display())]
    NoFolder {
        /// The file.
        path: PathBuf,
    },
    /// The path is not below the folder.
    #[error("{} is not a file below manager.templateFolder", path.display())]
    Elsewhere {
        /// The file.
        path: PathBuf,
    },
}

impl PodTemplates {
    /// Resolves the templates that a class names.
    pub fn of(
        paths: &class::Templates,
        mut template: impl FnMut(&Path) -> Result<Pod, TemplateError>,
    ) -> Result<Self, TemplateError> {
        let mut read = |path: &Option<PathBuf>| path.as_deref().map(&mut template).transpose();
        Ok(Self {
            default: read(&paths.default)?,
            regular: read(&paths.regular)?,
            prebuild: read(&paths.prebuild)?,
            imagebuild: read(&paths.imagebuild)?,
        })
    }
}

/// Parses the text of a template.
pub fn parse_template(path: &Path, text: &str) -> Result<Pod, TemplateError> {
    let pod: Pod = parse(path, text)?;
    let (given, kept): (Value, _) = (parse(path, text)?, serde_json::to_value(&pod).unwrap_or_default());
    let keys = unknown_keys(&given, &kept);
    if keys.is_empty() { Ok(pod) } else { Err(TemplateError::UnknownKeys { path: path.to_owned(), keys }) }
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, TemplateError> {
    // YAML aliases can expand a small file to megabytes.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_aliases: 32 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 1_000 },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error.location().map(|at| format!(": line {}, column {}", at.line(), at.column()));
        TemplateError::Parse { path: path.to_owned(), at: at.unwrap_or_default() }
    })
}

/// Keys of the file that are not in the parsed pod, comma-separated.
fn unknown_keys(given: &Value, kept: &Value) -> String {
    let mut unknown = Unknown { keys: Vec::new(), more: false };
    unknown.compare(given, kept, "");
    let more = if unknown.more { ", ..." } else { "" };
    format!("{}{more}", unknown.keys.join(", "))
}

struct Unknown {
    keys: Vec<String>,
    more: bool,
}

impl Unknown {
    fn compare(&mut self, given: &Value, kept: &Value, path: &str) {
        match (given, kept) {
            (Value::Object(given), Value::Object(kept)) => {
                for (key, value) in given {
                    // Keys are shortened and escaped: the path may name any file.
                    let shown = text::shown(key, LONGEST_KEY);
                    let path = if path.is_empty() { shown } else { format!("{path}.{shown}") };
                    match kept.get(key) {
                        Some(kept) => self.compare(value, kept, &path),
                        // Tools write keys without a value, such as creationTimestamp.
                        None if value.is_null() => {}
                        None => self.add(path),
                    }
                }
            }
            (Value::Array(given), Value::Array(kept)) => {
                for (at, (given, kept)) in given.iter().zip(kept).enumerate() {
                    self.compare(given, kept, &format!("{path}[{at}]"));
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, key: String) {
        if self.keys.len() < MOST_KEYS {
            self.keys.push(key);
        } else {
            self.more = true;
        }
    }
}

/// The templates that cluster files may name.
#[derive(Debug, Clone, Default)]
pub struct TemplateFolder {
    /// Absolute or relative to the working directory; empty if not configured.
    root: PathBuf,
    pods: BTreeMap<PathBuf, Result<Pod, TemplateError>>,
}

impl TemplateFolder {
    /// `files` are the contents of files by their path relative to `root`, or why they cannot be used.
    pub fn new(root: PathBuf, files: BTreeMap<PathBuf, Result<String, String>>) -> Self {
        let pods = files.into_iter().map(|(name, content)| {
            let path = root.join(&name);
            let pod = match content {
                Ok(text) => parse_template(&path, &text),
                Err(reason) => Err(TemplateError::Read { path, reason }),
            };
            (name, pod)
        });
        Self { pods: pods.collect(), root }
    }

    /// Base of relative paths in cluster files.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The template at a path, which must be below the folder and without `..`.
    pub fn template(&self, path: &Path) -> Result<Pod, TemplateError> {
        if self.root.as_os_str().is_empty() {
            return Err(TemplateError::NoFolder { path: path.to_owned() });
        }
        let elsewhere = || TemplateError::Elsewhere { path: path.to_owned() };
        let name = path.strip_prefix(&self.root).map_err(|_| elsewhere())?;
        if !name.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(elsewhere());
        }
        self.pods.get(name).cloned().unwrap_or_else(|| Err(elsewhere()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> TemplateFolder {
        let pod = "{apiVersion: v1, kind: Pod, spec: {priorityClassName: high, containers: []}}";
        let bomb = format!("a: &a {}\nb: [{}]", "x".repeat(1_000), ["*a"; 90].join(", "));
        let files = [
            ("pod.yaml", Ok(pod.to_owned())),
            ("large/pod.yaml", Ok(pod.to_owned())),
            ("secret.key", Ok("spec: hunter2".to_owned())),
            ("bomb.yaml", Ok(bomb)),
            ("fifo", Err("is not a regular file".to_owned())),
        ];
        let files = files.into_iter().map(|(name, content)| (PathBuf::from(name), content)).collect();
        TemplateFolder::new(PathBuf::from("/etc/templates"), files)
    }

    fn refused(path: &str) -> String {
        folder().template(Path::new(path)).unwrap_err().to_string()
    }

    #[test]
    fn a_cluster_file_names_templates_below_the_folder_and_nothing_else() {
        for path in ["/etc/templates/pod.yaml", "/etc/templates/large/pod.yaml"] {
            assert!(folder().template(Path::new(path)).is_ok(), "{path}");
        }
        for path in [
            "/etc/templates/../templates/pod.yaml",
            "/etc/templates/large/../pod.yaml",
            "/etc/templates-other/pod.yaml",
            "/etc/passwd",
            "/etc/templates",
            "/etc/templates/absent.yaml",
            "pod.yaml",
        ] {
            assert_eq!(refused(path), format!("{path} is not a file below manager.templateFolder"));
        }
        assert_eq!(
            refused("/etc/templates/fifo"),
            "failed to read /etc/templates/fifo: is not a regular file"
        );
        let none = TemplateFolder::default().template(Path::new("pod.yaml")).unwrap_err().to_string();
        assert!(none.contains("manager.templateFolder is not set"), "{none}");
    }

    #[test]
    fn a_key_that_no_pod_has_is_named_by_its_path() {
        let parsed =
            |text: &str| parse_template(Path::new("pod.yaml"), text).map_err(|error| error.to_string());
        for good in [
            "{apiVersion: v1, kind: Pod, metadata: {creationTimestamp: null, labels: {a.example/b: c}}}",
            "spec: {containers: [{name: workspace, resources: {limits: {example.com/gpu: 1}}, env: []}], volumes: []}",
            "spec: {containers: [{name: a, livenessProbe: {httpGet: {port: http}}}], nodeSelector: {x: 'y'}}",
            "spec: {containers: [], overhead: {}, tolerations: [{operator: Exists}], priority: 0, hostNetwork: false}",
            "{}",
        ] {
            assert!(parsed(good).is_ok(), "{good}: {:?}", parsed(good));
        }
        for (bad, keys) in [
            ("spec: {container: []}", "spec.container"),
            (
                "spec: {containers: [{name: a}, {name: b, resorces: {limits: {}}}]}",
                "spec.containers[1].resorces",
            ),
            ("{spek: {}, metadata: {labls: {a: b}}}", "metadata.labls, spek"),
            ("spec: {containers: [], securityContext: {runAsUsr: 1}}", "spec.securityContext.runAsUsr"),
        ] {
            assert_eq!(parsed(bad).unwrap_err(), format!("pod.yaml has keys that no pod has: {keys}"));
        }
        let many = (0..100).map(|at| format!("key{at}: hunter2")).collect::<Vec<_>>().join("\n");
        let said = parsed(&many).unwrap_err();
        assert!(said.ends_with(", ...") && said.len() < 150 && !said.contains("hunter2"), "{said}");
    }

    #[test]
    fn a_template_that_is_no_pod_is_reported_without_quoting_it() {
        let said = refused("/etc/templates/secret.key");
        assert!(said.starts_with("/etc/templates/secret.key is not a pod in YAML or JSON"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        assert!(refused("/etc/templates/bomb.yaml").contains("is not a pod"));
    }
}
