//! The settings of one namespace of one cluster: the manager's configuration, and what the cluster file puts in place
//! of it. Everything that can be wrong is found here, before a cluster is registered.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::cluster::convert::UrlRenderer;
use crate::controller;
use crate::controller::{ClassSettings, PodTemplates};
use crate::domain::class::{Class, RawClass};
use crate::domain::cluster::NamespaceSpec;
use crate::domain::duration::GoDuration;
use crate::domain::names::ClassId;
use crate::domain::template::{PortUrl, Values, WorkspaceUrl};
use crate::domain::workspace::ClassView;

/// What the manager's configuration says for namespaces whose cluster file says nothing else.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// Classes by id.
    pub classes: BTreeMap<String, ClassSettings>,
    /// The class used where a request names none.
    pub preferred_class: Option<ClassId>,
    /// URL of a workspace.
    pub url: WorkspaceUrl,
    /// URL of a port.
    pub port_url: PortUrl,
    /// URL of the installation.
    pub host_url: String,
    /// See [`controller::Settings`].
    pub workspace_cluster_host: String,
    /// See [`controller::Settings`].
    pub workspace_host_path: String,
    /// See [`controller::Settings`].
    pub scheduler_name: String,
    /// See [`controller::Settings`].
    pub seccomp_profile: Option<String>,
    /// See [`controller::Settings`].
    pub registry_facade_host: Option<String>,
    /// See [`controller::Settings`].
    pub workspacekit: bool,
    /// See [`controller::Settings`].
    pub heartbeat_interval: Duration,
    /// See [`controller::Settings`].
    pub custom_ca: bool,
    /// Of the SSH gateway's authority.
    pub ssh_gateway_ca_public_key: Option<String>,
    /// See [`controller::Settings`].
    pub timeouts: controller::Timeouts,
    /// See [`controller::Settings`].
    pub recreation: controller::Recreation,
    /// See [`controller::Settings`].
    pub concurrency: usize,
    /// Folder at which relative template paths of cluster files start.
    pub base: PathBuf,
}

/// Settings of one namespace.
#[derive(Debug)]
pub struct Settings {
    /// What its controller needs.
    pub controller: controller::Settings,
    /// Classes as they are offered.
    pub classes: BTreeMap<String, Class>,
    /// The class used where a request names none.
    pub preferred_class: Option<ClassId>,
    /// Of the SSH gateway's authority.
    pub ssh_gateway_ca_public_key: Option<String>,
    /// Inactivity timeout as clients see it.
    pub default_timeout: String,
    /// Closed timeout as clients see it.
    pub closed_timeout: String,
    port_url: PortUrl,
    class_views: Vec<ClassView>,
}

/// A field of a cluster file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("namespace {namespace}: {field} {message}")]
pub struct Problem {
    /// The namespace.
    pub namespace: String,
    /// The field.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl Settings {
    /// Resolves the settings of a namespace, or tells everything that is wrong.
    pub fn resolve(spec: &NamespaceSpec, defaults: &Defaults) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut report = |field: String, message: String| {
            problems.push(Problem { namespace: spec.namespace.to_string(), field, message });
        };
        let url = parsed(spec.url_template.as_deref(), &defaults.url, "urlTemplate", &mut report);
        let port_url =
            parsed(spec.port_url_template.as_deref(), &defaults.port_url, "portUrlTemplate", &mut report);
        let classes = if spec.classes.is_empty() {
            defaults.classes.clone()
        } else {
            own_classes(spec, defaults, &mut report)
        };
        let preferred_class = match &spec.preferred_class {
            None => defaults.preferred_class.clone(),
            Some(text) => {
                text.parse().map_err(|error| report("preferredClass".into(), format!("{error}"))).ok()
            }
        };
        if let Some(preferred) = &preferred_class
            && !classes.contains_key(preferred.as_str())
            && spec.preferred_class.is_some()
        {
            report("preferredClass".into(), format!("{preferred} is not one of the classes"));
        }
        if classes.is_empty() {
            report("classes".into(), "are given neither here nor in the configuration".into());
        }
        let (Some(url), Some(port_url), true) = (url, port_url, problems.is_empty()) else {
            return Err(problems);
        };
        Ok(Self {
            classes: classes.iter().map(|(id, settings)| (id.clone(), settings.class.clone())).collect(),
            preferred_class: preferred_class.filter(|preferred| classes.contains_key(preferred.as_str())),
            ssh_gateway_ca_public_key: defaults.ssh_gateway_ca_public_key.clone(),
            default_timeout: GoDuration::from(defaults.timeouts.regular_workspace).to_string(),
            closed_timeout: GoDuration::from(defaults.timeouts.after_close).to_string(),
            port_url,
            class_views: classes.values().map(|settings| class_view(&settings.class)).collect(),
            controller: controller_settings(spec, defaults, classes, url),
        })
    }

    /// URL of a workspace.
    pub fn url(&self, id: &str, meta: &str) -> String {
        self.controller.url.render(&Values { id, prefix: meta, host: &self.controller.host_url })
    }

    /// Classes as clients see them, by id.
    pub fn class_views(&self) -> &[ClassView] {
        &self.class_views
    }
}

fn class_view(class: &Class) -> ClassView {
    ClassView {
        id: class.id.clone(),
        display_name: class.name.clone(),
        description: class.description(),
        credits_per_minute: class.credits_per_minute,
    }
}

impl UrlRenderer for Settings {
    fn port_url(&self, id: &str, meta: &str, port: u16) -> Option<String> {
        Some(self.port_url.render(&Values { id, prefix: meta, host: &self.controller.host_url }, port))
    }
}

fn parsed<T>(
    own: Option<&str>,
    default: &T,
    field: &str,
    report: &mut impl FnMut(String, String),
) -> Option<T>
where
    T: std::str::FromStr + Clone,
    T::Err: std::fmt::Display,
{
    match own {
        None => Some(default.clone()),
        Some(text) => text.parse().map_err(|error: T::Err| report(field.to_owned(), error.to_string())).ok(),
    }
}

fn own_classes(
    spec: &NamespaceSpec,
    defaults: &Defaults,
    report: &mut impl FnMut(String, String),
) -> BTreeMap<String, ClassSettings> {
    let mut classes = BTreeMap::new();
    for (id, value) in &spec.classes {
        let raw: RawClass = match from_value(value) {
            Ok(raw) => raw,
            Err(problem) => {
                report(format!("classes.{id}"), problem);
                continue;
            }
        };
        match Class::parse(id, &raw, &defaults.base) {
            Ok(class) => match PodTemplates::read(&class.templates) {
                Ok(templates) => {
                    classes.insert(id.clone(), ClassSettings::new(class, &templates));
                }
                Err(problem) => report(format!("classes.{id}.templates"), problem.to_string()),
            },
            Err(problems) => {
                for problem in problems {
                    report(format!("classes.{id}.{}", problem.path), problem.message);
                }
            }
        }
    }
    classes
}

fn from_value<T: DeserializeOwned>(value: &serde_json::Value) -> Result<T, String> {
    serde_json::from_value(value.clone()).map_err(|error| error.to_string())
}

fn controller_settings(
    spec: &NamespaceSpec,
    defaults: &Defaults,
    classes: BTreeMap<String, ClassSettings>,
    url: WorkspaceUrl,
) -> controller::Settings {
    let or = |own: &Option<String>, default: &str| own.clone().unwrap_or_else(|| default.to_owned());
    let registry_facade_host = spec.registry_facade_host.clone().or(defaults.registry_facade_host.clone());
    controller::Settings {
        namespace: spec.namespace.clone(),
        secrets_namespace: spec.secrets_namespace.clone(),
        classes,
        timeouts: defaults.timeouts,
        url,
        host_url: defaults.host_url.clone(),
        workspace_cluster_host: or(&spec.workspace_cluster_host, &defaults.workspace_cluster_host),
        workspace_host_path: defaults.workspace_host_path.clone(),
        scheduler_name: or(&spec.scheduler_name, &defaults.scheduler_name),
        seccomp_profile: spec.seccomp_profile.clone().or(defaults.seccomp_profile.clone()),
        // Images that a facade composes hold workspacekit.
        workspacekit: defaults.workspacekit || spec.registry_facade_host.is_some(),
        registry_facade_host,
        heartbeat_interval: defaults.heartbeat_interval,
        custom_ca: defaults.custom_ca,
        recreation: defaults.recreation,
        concurrency: defaults.concurrency,
        pass_deadline: Duration::from_mins(1),
    }
}
