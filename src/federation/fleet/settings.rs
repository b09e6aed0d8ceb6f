//! The settings of one namespace of one cluster: the manager's configuration, overridden by the cluster
//! file. All problems are found here, before a cluster is registered.

pub mod vet;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::Error;
use controller::{ClassSettings, PodTemplates, TemplateFolder};
use domain::class::{Class, RawClass};
use domain::cluster::{ClearText, NamespaceSpec, NodeAgent};
use domain::duration::GoDuration;
use domain::manager::Manager;
use domain::names::{ClassId, MetaId};
use domain::template::{HostError, PortUrl, Values, WorkspaceUrl};
use domain::workspace::ClassView;
use k8s::convert::UrlRenderer;

/// What the manager's configuration says for namespaces whose cluster file says nothing else.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// The configuration.
    pub manager: Manager,
    /// Its classes by id, with their templates.
    pub classes: BTreeMap<String, ClassSettings>,
    /// The pod templates that cluster files may name.
    pub templates: Arc<TemplateFolder>,
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
    /// Which node agent serves.
    pub node_agent: NodeAgent,
    /// Whether starts whose secrets it needs in clear text are accepted.
    pub clear_text_secrets: ClearText,
    /// Inactivity timeout as clients see it.
    pub default_timeout: String,
    /// Closed timeout as clients see it.
    pub closed_timeout: String,
    port_url: PortUrl,
    /// Letters of meta ids whose URLs are never too long.
    room: usize,
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
    /// Resolves the settings of a namespace; fails with all problems.
    pub fn resolve(spec: &NamespaceSpec, defaults: &Defaults) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut report = |field: String, message: String| {
            problems.push(Problem { namespace: spec.namespace.to_string(), field, message });
        };
        let (url, port_url) = urls(spec, defaults, &mut report);
        let classes = if spec.classes.is_empty() {
            defaults.classes.clone()
        } else {
            own_classes(spec, defaults, &mut report)
        };
        let preferred_class = match &spec.preferred_class {
            None => defaults.manager.preferred_class.clone(),
            Some(text) => {
                text.parse().map_err(|error| report("preferredClass".into(), format!("{error}"))).ok()
            }
        };
        // By name: a class that has problems is one of the classes all the same.
        let is_named = |id: &str| {
            if spec.classes.is_empty() {
                defaults.classes.contains_key(id)
            } else {
                spec.classes.contains_key(id)
            }
        };
        if spec.classes.is_empty() && defaults.classes.is_empty() {
            report("classes".into(), "are given neither here nor in the configuration".into());
        } else if let Some(preferred) = &preferred_class
            && spec.preferred_class.is_some()
            && !is_named(preferred.as_str())
        {
            report("preferredClass".into(), format!("{preferred} is not one of the classes"));
        }
        let (Some(url), Some(port_url), true) = (url, port_url, problems.is_empty()) else {
            return Err(problems);
        };
        Ok(Self {
            classes: classes.iter().map(|(id, settings)| (id.clone(), settings.class.clone())).collect(),
            preferred_class: preferred_class.filter(|preferred| classes.contains_key(preferred.as_str())),
            ssh_gateway_ca_public_key: defaults.manager.ssh_gateway_ca_public_key.clone(),
            node_agent: spec.node_agent.unwrap_or(defaults.manager.node_agent),
            clear_text_secrets: spec.clear_text_secrets.unwrap_or(defaults.manager.clear_text_secrets),
            default_timeout: GoDuration::from(defaults.manager.timeouts.regular_workspace).to_string(),
            closed_timeout: GoDuration::from(defaults.manager.timeouts.after_close).to_string(),
            room: room(&url, &port_url, defaults.manager.host_url.as_str()),
            port_url,
            class_views: classes.values().map(|settings| class_view(&settings.class)).collect(),
            controller: controller_settings(spec, defaults, classes, url),
        })
    }

    /// URL of a workspace.
    pub fn url(&self, id: &str, meta: &str) -> String {
        self.controller.url.render(&Values { id, prefix: meta, host: &self.controller.host_url })
    }

    /// Checks the hosts of a workspace's URL and of those of its ports.
    pub fn check_urls(&self, id: &str, meta: &str, ports: &[u16]) -> Result<(), Error> {
        if meta.len() <= self.room {
            return Ok(());
        }
        let values = Values { id, prefix: meta, host: &self.controller.host_url };
        let invalid =
            |field: String, error: HostError| Error::Invalid { field: field.into(), rule: error.to_string() };
        let url = self.controller.url.check(&values);
        url.map_err(|error| invalid("metadata.meta_id".to_owned(), error))?;
        for (at, port) in ports.iter().enumerate() {
            let url = self.port_url.check(&values, *port);
            url.map_err(|error| invalid(format!("spec.ports[{at}].port"), error))?;
        }
        Ok(())
    }

    /// Checks the host of a port's URL.
    pub fn check_port(&self, id: &str, meta: &str, port: u16) -> Result<(), HostError> {
        self.port_url.check(&Values { id, prefix: meta, host: &self.controller.host_url }, port)
    }

    /// Meta ids that have a port whose URL is that of `meta`.
    pub fn port_of(&self, meta: &MetaId) -> BTreeSet<MetaId> {
        self.port_url.owners(&self.controller.url, &self.controller.host_url, meta)
    }

    /// Classes as clients see them, by id.
    pub fn class_views(&self) -> &[ClassView] {
        &self.class_views
    }
}

/// The longest meta id with which no URL is too long, whatever the id and the port.
fn room(url: &WorkspaceUrl, port_url: &PortUrl, host: &str) -> usize {
    let any = "x".repeat(63);
    let fits = |length: &usize| {
        let values = Values { id: &any, prefix: &any[..*length], host };
        url.check(&values).is_ok() && port_url.check(&values, u16::MAX).is_ok()
    };
    (1..=any.len()).rev().find(fits).unwrap_or_default()
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

/// The templates of URLs that a namespace has.
fn urls(
    spec: &NamespaceSpec,
    defaults: &Defaults,
    report: &mut impl FnMut(String, String),
) -> (Option<WorkspaceUrl>, Option<PortUrl>) {
    let url = parsed(spec.url_template.as_deref(), &defaults.manager.workspace_url, "urlTemplate", report);
    let port_url =
        parsed(spec.port_url_template.as_deref(), &defaults.manager.port_url, "portUrlTemplate", report);
    (url, port_url)
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
        match Class::parse(id, &raw, defaults.templates.root()) {
            Ok(class) => match PodTemplates::of(&class.templates, |path| defaults.templates.template(path)) {
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
    let manager = &defaults.manager;
    let or = |own: &Option<String>, default: &Option<String>| own.clone().or_else(|| default.clone());
    controller::Settings {
        namespace: spec.namespace.clone(),
        secrets_namespace: spec.secrets_namespace.clone(),
        allowed_secrets: spec.allowed_secrets.iter().map(ToString::to_string).collect(),
        classes,
        timeouts: manager.timeouts,
        url,
        host_url: manager.host_url.to_string(),
        workspace_cluster_host: or(&spec.workspace_cluster_host, &manager.workspace_cluster_host)
            .unwrap_or_default(),
        workspace_host_path: manager.workspace_host_path.clone(),
        scheduler_name: or(&spec.scheduler_name, &manager.scheduler_name).unwrap_or_default(),
        seccomp_profile: or(&spec.seccomp_profile, &manager.seccomp_profile),
        // Images that a facade composes hold workspacekit.
        workspacekit: manager.workspacekit || spec.registry_facade_host.is_some(),
        registry_facade_host: or(&spec.registry_facade_host, &manager.registry_facade_host),
        heartbeat_interval: manager.heartbeat_interval,
        custom_ca: manager.custom_ssl_certificate,
        pod_annotations: manager.pod_annotations.clone(),
        recreation: manager.pod_recreation,
        concurrency: manager.workspace_reconcilers,
        pass_deadline: Duration::from_mins(1),
    }
}
