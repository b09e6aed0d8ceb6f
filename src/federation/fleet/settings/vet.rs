//! Whether workspaces of a namespace can start with its settings: checked before they are registered or changed.

use super::{Defaults, Problem, Settings, urls};
use domain::cluster::{NamespaceSpec, rules};

/// Everything that is wrong with a namespace that is new or changes.
pub fn vet(spec: &NamespaceSpec, defaults: &Defaults) -> Vec<Problem> {
    let mut problems = Settings::resolve(spec, defaults)
        .map_or_else(|problems| problems, |settings| of_pods(spec, &settings.controller));
    // What is no template at all is reported above.
    let (url, port_url) = urls(spec, defaults, &mut |_, _| {});
    let manager = &defaults.manager;
    let host = manager.host_url.as_str();
    let either = |own: &Option<String>, default: &Option<String>, check: fn(&str) -> Result<(), String>| {
        own.as_deref().or(default.as_deref()).map_or(Ok(()), check)
    };
    let cluster_host = spec.workspace_cluster_host.as_ref().or(manager.workspace_cluster_host.as_ref());
    let checks = [
        ("namespace", rules::check_workspace_namespace(spec.namespace.as_str())),
        ("urlTemplate", url.map_or(Ok(()), |url| rules::check_url(&url, host))),
        ("portUrlTemplate", port_url.map_or(Ok(()), |url| rules::check_port_url(&url, host))),
        (
            "registryFacadeHost",
            either(&spec.registry_facade_host, &manager.registry_facade_host, rules::check_registry),
        ),
        ("workspaceClusterHost", cluster_host.map_or(Ok(()), |host| rules::check_cluster_host(host))),
        ("seccompProfile", either(&spec.seccomp_profile, &manager.seccomp_profile, rules::check_seccomp)),
        ("schedulerName", either(&spec.scheduler_name, &None, rules::check_scheduler)),
        (
            "imageBuilder.targetAddr",
            spec.image_builder.as_ref().map_or(Ok(()), |builder| rules::check_builder(&builder.target_addr)),
        ),
    ];
    let wrong = checks.into_iter().filter_map(|(field, outcome)| Some((field, outcome.err()?)));
    problems.extend(wrong.map(|(field, message)| problem(spec, field.to_owned(), message)));
    problems
}

/// Classes whose pods no apiserver accepts.
fn of_pods(spec: &NamespaceSpec, controlled: &controller::Settings) -> Vec<Problem> {
    let of_class = |class: &String| {
        let field = format!("classes.{class}.templates");
        let found = controller::pod_problems(controlled, class).into_iter();
        found.map(move |wrong| problem(spec, field.clone(), wrong)).collect::<Vec<_>>()
    };
    controlled.classes.keys().flat_map(of_class).collect()
}

fn problem(spec: &NamespaceSpec, field: String, message: String) -> Problem {
    Problem { namespace: spec.namespace.to_string(), field, message }
}
