//! Clusters, their specification and results of checks: conversion to and from the wire.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::convert::{number, timestamp};
use crate::parse::Problems;
use domain::check::{Check, Outcome};
use domain::cluster::{
    Capacity, ClusterSpec, Constraint, DEFAULT_MAX_WEIGHT, DefaultNamespaces, FenceMode, ImageBuilder,
    NamespaceSpec,
};
use domain::condition::{Condition, State};
use domain::health::Health;
use domain::names::{Namespace, quoted};
use domain::secret_ref::SecretRef;
use federation::clusters::ClusterView;
use proto::spaceport::v1;
use proto::spaceport::v1::admission_constraint::Constraint as Wire;

/// A cluster on the wire.
pub(super) fn view(cluster: &ClusterView) -> v1::Cluster {
    let health = match cluster.health {
        Health::Connecting => v1::cluster_status::Health::Connecting,
        Health::Available => v1::cluster_status::Health::Available,
        Health::Suspect => v1::cluster_status::Health::Suspect,
        Health::Lost => v1::cluster_status::Health::Lost,
    };
    v1::Cluster {
        spec: Some(spec_to_wire(&cluster.spec)),
        status: Some(v1::ClusterStatus {
            health: health.into(),
            reason: cluster.reason.clone(),
            since: Some(timestamp(cluster.since)),
            last_seen: cluster.last_answer.map(timestamp),
            server_version: cluster.server_version.clone(),
            api_server: cluster.api_server.clone(),
            workspaces: number(cluster.workspaces),
            classes: cluster.classes.iter().map(ToString::to_string).collect(),
            maintenance: cluster.maintenance.iter().map(maintenance).collect(),
            drain: super::drain::state_of(cluster.drain).into(),
            conditions: cluster.conditions.iter().map(condition).collect(),
        }),
        version: cluster.version,
    }
}

fn condition(condition: &Condition) -> v1::Condition {
    let state = match condition.state {
        State::True => v1::condition::State::True,
        State::False => v1::condition::State::False,
        State::Unknown => v1::condition::State::Unknown,
    };
    v1::Condition {
        r#type: condition.kind.to_owned(),
        state: state.into(),
        reason: condition.reason.to_owned(),
        message: condition.message.clone(),
        since: Some(timestamp(condition.since)),
    }
}

/// A check's result on the wire.
pub(super) fn check(check: &Check) -> v1::Check {
    let outcome = match check.outcome {
        Outcome::Ok => v1::check::Outcome::Ok,
        Outcome::Warning => v1::check::Outcome::Warning,
        Outcome::Failed => v1::check::Outcome::Failed,
        Outcome::Skipped => v1::check::Outcome::Skipped,
    };
    v1::Check {
        name: check.name.to_owned(),
        outcome: outcome.into(),
        detail: check.detail.clone(),
        remedy: check.remedy.clone(),
    }
}

fn maintenance((namespace, until): (&Namespace, &Timestamp)) -> v1::NamespaceMaintenance {
    v1::NamespaceMaintenance { namespace: namespace.to_string(), until: Some(timestamp(*until)) }
}

/// Parses the specification of a cluster.
pub(super) fn spec(
    problems: &mut Problems,
    spec: Option<v1::ClusterSpec>,
    defaults: &DefaultNamespaces,
) -> Option<ClusterSpec> {
    let Some(spec) = spec else {
        problems.add("spec", "is required");
        return None;
    };
    let name = problems.parse("spec.name", &spec.name);
    let region = problems.parse("spec.region", &spec.region);
    let namespaces = namespaces(problems, "spec.namespaces", spec.namespaces, defaults);
    let mut constraints = Vec::with_capacity(spec.admission_constraints.len());
    for (at, constraint) in spec.admission_constraints.into_iter().enumerate() {
        constraints.extend(self::constraint(
            problems,
            &format!("spec.admission_constraints[{at}]"),
            constraint,
        ));
    }
    let capacity = capacity(problems, spec.capacity);
    let fence = fence_mode(problems, spec.fence);
    let kubeconfig_secret = match spec.kubeconfig_secret {
        Some(reference) => Some(secret(problems, reference)?),
        None => None,
    };
    let max_weight = if spec.max_weight == 0 { DEFAULT_MAX_WEIGHT } else { spec.max_weight };
    let spec = ClusterSpec {
        name: name?,
        region: region?,
        labels: spec.labels,
        weight: spec.weight,
        max_weight,
        cordoned: spec.cordoned,
        capacity: capacity?,
        fence,
        admission_constraints: constraints,
        namespaces,
        kubeconfig_secret,
    };
    if let Err(error) = spec.validate() {
        problems.add(format!("spec.{}", error.field), error.rule);
        return None;
    }
    Some(spec)
}

/// Fenced, unless the request says `FENCE_OFF`.
pub(super) fn fence_mode(problems: &mut Problems, wire: i32) -> FenceMode {
    match v1::FenceMode::try_from(wire) {
        Ok(v1::FenceMode::Off) => FenceMode::Off,
        Ok(_) => FenceMode::Enforced,
        Err(_) => {
            problems.add("spec.fence", "is unknown");
            FenceMode::Enforced
        }
    }
}

/// Parses a reference to a kubeconfig Secret.
pub(super) fn secret(problems: &mut Problems, wire: v1::SecretReference) -> Option<SecretRef> {
    let v1::SecretReference { namespace, name, key } = wire;
    SecretRef::of(&namespace, &name, &key)
        .map_err(|error| problems.add("spec.kubeconfig_secret", error.to_string()))
        .ok()
}

/// Parses an admission constraint.
pub(super) fn constraint(
    problems: &mut Problems,
    field: &str,
    constraint: v1::AdmissionConstraint,
) -> Option<Constraint> {
    match constraint.constraint {
        Some(Wire::Permission(permission)) if permission.is_empty() => {
            problems.add(format!("{field}.permission"), "must not be empty");
            None
        }
        Some(Wire::Permission(permission)) => Some(Constraint::Permission(permission)),
        Some(Wire::FeaturePreview(on)) => Some(Constraint::FeaturePreview(on)),
        None => {
            problems.add(field, "must name a constraint");
            None
        }
    }
}

/// Parses whether the capacity of nodes is a limit.
pub(super) fn capacity(problems: &mut Problems, number: i32) -> Option<Capacity> {
    match v1::cluster_spec::Capacity::try_from(number) {
        Ok(v1::cluster_spec::Capacity::Unlimited) => Some(Capacity::Unlimited),
        Ok(_) => Some(Capacity::Nodes),
        Err(_) => {
            problems.add("spec.capacity", "must be CAPACITY_NODES or CAPACITY_UNLIMITED");
            None
        }
    }
}

/// Parses the namespaces of a cluster; the default of the configuration if none is given.
pub(super) fn namespaces(
    problems: &mut Problems,
    field: &str,
    specs: Vec<v1::NamespaceSpec>,
    defaults: &DefaultNamespaces,
) -> Vec<NamespaceSpec> {
    let specs = if specs.is_empty() { vec![v1::NamespaceSpec::default()] } else { specs };
    let specs = specs.into_iter().enumerate();
    specs
        .filter_map(|(at, spec)| namespace_spec(problems, &format!("{field}[{at}]"), spec, defaults))
        .collect()
}

/// Parses one namespace. The names are stored as they are now; later changes of the configuration do not affect them.
fn namespace_spec(
    problems: &mut Problems,
    field: &str,
    spec: v1::NamespaceSpec,
    defaults: &DefaultNamespaces,
) -> Option<NamespaceSpec> {
    let mut name = |key: &str, text: &str, default: &Namespace| {
        if text.is_empty() { Some(default.clone()) } else { problems.parse(&format!("{field}.{key}"), text) }
    };
    let namespace = name("namespace", &spec.namespace, &defaults.workspaces);
    let secrets = name("secrets_namespace", &spec.secrets_namespace, &defaults.secrets);
    let mut classes = BTreeMap::new();
    for (id, json) in spec.classes {
        match serde_json::from_str(&json) {
            Ok(class) => {
                classes.insert(id, class);
            }
            Err(error) => {
                let id = quoted(&id);
                problems.add(format!("{field}.classes.{id}"), format!("is not JSON: {error}"));
            }
        }
    }
    let node_agent = problems.optional(&format!("{field}.node_agent"), &spec.node_agent);
    let clear_text_secrets =
        problems.optional(&format!("{field}.clear_text_secrets"), &spec.clear_text_secrets);
    let mut allowed_secrets = BTreeSet::new();
    for (at, name) in spec.allowed_secrets.iter().enumerate() {
        allowed_secrets.extend(problems.parse(&format!("{field}.allowed_secrets[{at}]"), name));
    }
    let optional = |text: String| Some(text).filter(|text| !text.is_empty());
    Some(NamespaceSpec {
        namespace: namespace?,
        secrets_namespace: secrets?,
        preferred_class: optional(spec.preferred_class),
        classes,
        url_template: optional(spec.url_template),
        port_url_template: optional(spec.port_url_template),
        workspace_cluster_host: optional(spec.workspace_cluster_host),
        registry_facade_host: optional(spec.registry_facade_host),
        seccomp_profile: optional(spec.seccomp_profile),
        scheduler_name: optional(spec.scheduler_name),
        node_agent,
        clear_text_secrets,
        allowed_secrets,
        image_builder: optional(spec.image_builder_target).map(|target_addr| ImageBuilder { target_addr }),
    })
}

fn spec_to_wire(spec: &ClusterSpec) -> v1::ClusterSpec {
    let constraint = |constraint: &Constraint| v1::AdmissionConstraint {
        constraint: Some(match constraint {
            Constraint::Permission(permission) => Wire::Permission(permission.clone()),
            Constraint::FeaturePreview(on) => Wire::FeaturePreview(*on),
        }),
    };
    v1::ClusterSpec {
        name: spec.name.to_string(),
        region: spec.region.to_string(),
        labels: spec.labels.clone(),
        weight: spec.weight,
        max_weight: spec.max_weight,
        cordoned: spec.cordoned,
        capacity: match spec.capacity {
            Capacity::Nodes => v1::cluster_spec::Capacity::Nodes.into(),
            Capacity::Unlimited => v1::cluster_spec::Capacity::Unlimited.into(),
        },
        admission_constraints: spec.admission_constraints.iter().map(constraint).collect(),
        namespaces: spec.namespaces.iter().map(namespace_to_wire).collect(),
        fence: match spec.fence {
            FenceMode::Enforced => v1::FenceMode::Enforced,
            FenceMode::Off => v1::FenceMode::Off,
        }
        .into(),
        kubeconfig_secret: spec.kubeconfig_secret.as_ref().map(|reference| v1::SecretReference {
            namespace: reference.namespace.to_string(),
            name: reference.name.to_string(),
            key: reference.key.to_string(),
        }),
    }
}

fn namespace_to_wire(spec: &NamespaceSpec) -> v1::NamespaceSpec {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    v1::NamespaceSpec {
        namespace: spec.namespace.to_string(),
        secrets_namespace: spec.secrets_namespace.to_string(),
        preferred_class: text(&spec.preferred_class),
        classes: spec.classes.iter().map(|(id, class)| (id.clone(), class.to_string())).collect(),
        url_template: text(&spec.url_template),
        port_url_template: text(&spec.port_url_template),
        workspace_cluster_host: text(&spec.workspace_cluster_host),
        registry_facade_host: text(&spec.registry_facade_host),
        seccomp_profile: text(&spec.seccomp_profile),
        scheduler_name: text(&spec.scheduler_name),
        node_agent: spec.node_agent.map(|agent| agent.to_string()).unwrap_or_default(),
        clear_text_secrets: spec.clear_text_secrets.map(|rule| rule.to_string()).unwrap_or_default(),
        allowed_secrets: spec.allowed_secrets.iter().map(ToString::to_string).collect(),
        image_builder_target: spec.image_builder.as_ref().map(|b| b.target_addr.clone()).unwrap_or_default(),
    }
}
