//! Checks that an apiserver accepts the pods of a class with their templates, by the rules of Kubernetes 1.30. It checks the
//! finished pod, so that what a template adds is judged together with the rest.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements, Toleration, Volume};
use k8s_openapi::apimachinery::pkg::api::resource;

use crate::settings::Settings;
use domain::annotation::{is_annotation_key, is_qualified_name};
use domain::class::Quantity;
use domain::names::{is_dns_label, is_dns_subdomain, is_label_value};
use domain::workspace::Kind;
use domain::{env, path};

use super::shape::sample;

/// Problems of the pods of a class, without duplicates.
pub fn problems(settings: &Settings, class: &str) -> BTreeSet<String> {
    let kinds = [Kind::Regular, Kind::Prebuild, Kind::ImageBuild].into_iter();
    let mut found = Found(BTreeSet::new());
    for pod in kinds.filter_map(|kind| sample(settings, class, kind, "any")) {
        found.pod(&pod);
    }
    found.0
}

struct Found(BTreeSet<String>);

impl Found {
    fn unless(&mut self, is_good: bool, field: &str, rule: &str) {
        if !is_good {
            self.0.insert(format!("{field} {rule}"));
        }
    }

    fn pod(&mut self, pod: &Pod) {
        for key in pod.metadata.annotations.iter().flatten().map(|(key, _)| key) {
            self.unless(is_annotation_key(key), &format!("metadata.annotations {key:?}"), "is no valid key");
        }
        self.labels("metadata.labels", pod.metadata.labels.as_ref());
        if let Some(spec) = &pod.spec {
            self.spec(spec);
        }
    }

    fn labels(&mut self, field: &str, labels: Option<&BTreeMap<String, String>>) {
        for (key, value) in labels.into_iter().flatten() {
            let is_good = is_qualified_name(key) && (value.is_empty() || is_label_value(value));
            self.unless(is_good, &format!("{field} {key:?}"), "is no valid label");
        }
    }

    fn spec(&mut self, spec: &PodSpec) {
        self.labels("spec.nodeSelector", spec.node_selector.as_ref());
        for (field, name) in [
            ("spec.priorityClassName", &spec.priority_class_name),
            ("spec.runtimeClassName", &spec.runtime_class_name),
            ("spec.serviceAccountName", &spec.service_account_name),
            ("spec.schedulerName", &spec.scheduler_name),
        ] {
            self.unless(name.as_deref().is_none_or(is_dns_subdomain), field, "is no name of an object");
        }
        for toleration in spec.tolerations.iter().flatten() {
            self.unless(is_toleration(toleration), "spec.tolerations", "has one that no node could have");
        }
        let volumes = spec.volumes.as_deref().unwrap_or_default();
        let mut names = BTreeSet::new();
        for volume in volumes {
            let field = format!("spec.volumes {:?}", volume.name);
            self.unless(is_dns_label(&volume.name), &field, "must be lower-case letters, digits and dashes");
            self.unless(names.insert(volume.name.as_str()), &field, "is there twice");
            self.unless(sources(volume) == 1, &field, "must have exactly one source");
        }
        for container in &spec.containers {
            self.container(container, &names);
        }
    }

    fn container(&mut self, container: &Container, volumes: &BTreeSet<&str>) {
        let field = |name: &str| format!("spec.containers {:?}: {name}", container.name);
        for variable in container.env.iter().flatten() {
            let name = field(&format!("env {:?}", variable.name));
            self.unless(env::check_name(&variable.name).is_ok(), &name, "is no name of a variable");
            let both = variable.value.as_ref().is_some_and(|value| !value.is_empty())
                && variable.value_from.is_some();
            self.unless(!both, &name, "has a value and a reference");
        }
        let mut paths = BTreeSet::new();
        for mount in container.volume_mounts.iter().flatten() {
            let name = field(&format!("volumeMounts {:?}", mount.mount_path));
            self.unless(volumes.contains(mount.name.as_str()), &name, "is of a volume that is not there");
            self.unless(paths.insert(mount.mount_path.as_str()), &name, "is there twice");
            let is_path = !mount.mount_path.is_empty() && !mount.mount_path.contains(':');
            self.unless(is_path, &name, "must be a path without colons");
            let sub_path = mount.sub_path.as_deref().filter(|path| !path.is_empty());
            self.unless(
                sub_path.is_none_or(|path| path::check_file(path).is_ok()),
                &name,
                "has a subPath outside",
            );
        }
        for port in container.ports.iter().flatten() {
            let is_port = (1..=65_535).contains(&port.container_port);
            self.unless(is_port, &field("ports"), "must be from 1 to 65535");
        }
        let policy = container.image_pull_policy.as_deref().unwrap_or("Always");
        let is_policy = matches!(policy, "Always" | "Never" | "IfNotPresent");
        self.unless(is_policy, &field("imagePullPolicy"), "must be Always, Never or IfNotPresent");
        if let Some(resources) = &container.resources {
            self.resources(&field("resources"), resources);
        }
    }

    fn resources(&mut self, field: &str, resources: &ResourceRequirements) {
        let parsed =
            |list: &Option<BTreeMap<String, resource::Quantity>>| -> BTreeMap<String, Option<Quantity>> {
                list.iter()
                    .flatten()
                    .map(|(name, quantity)| (name.clone(), quantity.0.parse().ok()))
                    .collect()
            };
        let (requests, limits) = (parsed(&resources.requests), parsed(&resources.limits));
        for (name, quantity) in requests.iter().chain(&limits) {
            self.unless(is_qualified_name(name), &format!("{field} {name:?}"), "is no name of a resource");
            self.unless(quantity.is_some(), &format!("{field}.{name}"), "is no quantity of zero or more");
        }
        for (name, request) in &requests {
            let is_above = limits.get(name).is_some_and(|limit| request > limit);
            self.unless(!is_above, &format!("{field}.{name}"), "requests more than its limit");
        }
    }
}

fn sources(volume: &Volume) -> usize {
    // The fields of a volume are its name and its sources.
    match serde_json::to_value(volume) {
        Ok(serde_json::Value::Object(fields)) => fields.len().saturating_sub(1),
        _ => 0,
    }
}

fn is_toleration(toleration: &Toleration) -> bool {
    let value = toleration.value.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let operator = toleration.operator.as_deref().unwrap_or("Equal");
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let fits = match operator {
        "Exists" => value.is_empty(),
        "Equal" | "" => !key.is_empty() && (value.is_empty() || is_label_value(value)),
        _ => false,
    };
    fits && (key.is_empty() || is_qualified_name(key))
        && matches!(effect, "" | "NoSchedule" | "PreferNoSchedule" | "NoExecute")
        && (toleration.toleration_seconds.is_none() || effect == "NoExecute")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::decide::tests::fresh;
    use crate::settings::ClassSettings;
    use crate::templates::PodTemplates;

    const CLASS: &str = "g1-standard";

    fn found(template: Value) -> Vec<String> {
        let mut settings = fresh().settings;
        let class = settings.classes[CLASS].class.clone();
        let default = Some(serde_json::from_value(template).unwrap());
        let class = ClassSettings::new(class, &PodTemplates { default, ..PodTemplates::default() });
        settings.classes.insert(CLASS.to_owned(), class);
        problems(&settings, CLASS).into_iter().collect()
    }

    #[test]
    fn pods_without_templates_and_with_good_ones_are_accepted() {
        assert!(problems(&fresh().settings, CLASS).is_empty());
        let good = json!({
            "metadata": { "labels": { "team.example.org/a": "" }, "annotations": { "A.example/b": "any\n" } },
            "spec": {
                "nodeSelector": { "pool": "workspaces" },
                "tolerations": [{ "key": "pool", "value": "a", "effect": "NoSchedule" }],
                "volumes": [{ "name": "cache", "emptyDir": {} }],
                "containers": [{ "name": "workspace", "env": [{ "name": "A", "value": "$(GITPOD_HOST)" }],
                    "volumeMounts": [{ "name": "cache", "mountPath": "/cache" }] }],
            },
        });
        assert!(found(good.clone()).is_empty(), "{:?}", found(good));
    }

    #[test]
    fn template_fields_that_no_apiserver_accepts_are_named() {
        let container = |container: Value| {
            let mut container = container;
            container["name"] = "workspace".into();
            json!({ "spec": { "containers": [container] } })
        };
        for (template, named) in [
            (json!({ "metadata": { "labels": { "a": "b c" } } }), "metadata.labels"),
            (json!({ "metadata": { "annotations": { "a b": "c" } } }), "metadata.annotations"),
            (json!({ "spec": { "nodeSelector": { "a": "-" }, "containers": [] } }), "spec.nodeSelector"),
            (json!({ "spec": { "priorityClassName": "High", "containers": [] } }), "priorityClassName"),
            (json!({ "spec": { "tolerations": [{ "operator": "In" }], "containers": [] } }), "tolerations"),
            (json!({ "spec": { "volumes": [{ "name": "A" }], "containers": [] } }), "exactly one source"),
            (
                json!({ "spec": { "volumes": [{ "name": "vol-this-workspace", "emptyDir": {} }], "containers": [] } }),
                "there twice",
            ),
            (container(json!({ "env": [{ "name": "A=B", "value": "1" }] })), "env \"A=B\""),
            (container(json!({ "volumeMounts": [{ "name": "x", "mountPath": "/x" }] })), "not there"),
            (
                container(json!({ "volumeMounts": [{ "name": "daemon-mount", "mountPath": "/workspace" }] })),
                "there twice",
            ),
            (container(json!({ "resources": { "limits": { "cpu": "two" } } })), "no quantity"),
            (container(json!({ "resources": { "requests": { "memory": "1Ei" } } })), "more than its limit"),
            (container(json!({ "imagePullPolicy": "Sometimes" })), "imagePullPolicy"),
        ] {
            let found = found(template.clone());
            assert!(found.iter().any(|wrong| wrong.contains(named)), "{template}: {found:?}");
        }
    }
}
