//! The rights that the manager needs in a cluster. `clusters/member/rbac.yaml` grants exactly these, which a test checks;
//! the check `permissions` asks the apiserver for them.

use k8s::resources::names::GROUP;

/// Group, resource with its subresource, verbs.
pub type Needs = &'static [(&'static str, &'static str, &'static [&'static str])];

/// In each workspace namespace.
pub const IN_NAMESPACE: Needs = &[
    (GROUP, "workspaces", &["create", "delete", "get", "list", "patch", "watch"]),
    (GROUP, "workspaces/status", &["patch"]),
    // To own pods in a way that blocks the owner's deletion.
    (GROUP, "workspaces/finalizers", &["update"]),
    (GROUP, "snapshots", &["create", "get", "list", "watch"]),
    ("", "pods", &["create", "delete", "get", "list", "patch", "watch"]),
    ("", "pods/log", &["get"]),
    // Shells, copies and forwarded ports. Kubernetes asks for `get` or `create`, by its version and the kind of connection.
    ("", "pods/exec", &["create", "get"]),
    ("", "pods/portforward", &["create", "get"]),
    ("", "secrets", &["create", "delete", "get", "list", "patch", "update"]),
    ("", "configmaps", &["create", "get", "list", "patch", "watch"]),
    ("", "events", &["create", "list"]),
    // The canary.
    ("coordination.k8s.io", "leases", &["create", "list", "patch", "watch"]),
];
/// In each secrets namespace.
pub const IN_SECRETS_NAMESPACE: Needs = &[
    ("", "secrets", &["create", "delete", "get", "list", "update"]),
    ("", "configmaps", &["create", "get", "patch"]),
];
/// In the cluster.
pub const IN_CLUSTER: Needs = &[("", "nodes", &["list", "watch"])];
/// In the cluster, where what its nodes have left is a limit: what pods of others request. RBAC cannot grant less than the
/// whole pod, plain variables included.
pub const TO_COUNT: Needs = &[("", "pods", &["list", "watch"])];
/// In the cluster, for checks and for quotas; without them a check says less, and placement learns of a full quota by rejected pods.
pub const TO_CHECK: Needs = &[
    ("", "namespaces", &["get"]),
    ("apiextensions.k8s.io", "customresourcedefinitions", &["get"]),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies", &["get"]),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings", &["get"]),
    ("coordination.k8s.io", "leases", &["get"]),
    // Which node agents run.
    ("apps", "daemonsets", &["list"]),
    // What quotas of workspace namespaces have left.
    ("", "resourcequotas", &["list"]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Group, resource and verb, one by one.
    type Rights = BTreeSet<(String, String, String)>;

    fn needed(needs: &[Needs]) -> Rights {
        let all = needs.iter().flat_map(|needs| needs.iter());
        let one = |(group, resource, verbs): &(&str, &str, &'static [&str])| {
            let (group, resource) = (*group, *resource);
            let of = |verb: &&str| (group.to_owned(), resource.to_owned(), (*verb).to_owned());
            verbs.iter().map(of).collect::<Vec<_>>()
        };
        all.flat_map(one).collect()
    }

    /// What the roles named `spaceport` of a kind grant in a namespace.
    fn granted(kind: &str, namespace: Option<&str>) -> Rights {
        granted_by("spaceport", kind, namespace)
    }

    fn granted_by(name: &str, kind: &str, namespace: Option<&str>) -> Rights {
        let text = include_str!("../../clusters/member/rbac.yaml");
        let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(text).unwrap();
        let of = |object: &&serde_json::Value| {
            object["kind"] == kind
                && object["metadata"]["name"] == name
                && object["metadata"]["namespace"].as_str() == namespace
        };
        let mut rights = Rights::new();
        for rule in objects.iter().filter(of).flat_map(|object| object["rules"].as_array().unwrap()) {
            let texts = |key: &str| -> Vec<String> {
                let list = rule[key].as_array().into_iter().flatten();
                list.map(|text| text.as_str().unwrap().to_owned()).collect()
            };
            for group in texts("apiGroups") {
                for resource in texts("resources") {
                    let of = |verb| (group.clone(), resource.clone(), verb);
                    rights.extend(texts("verbs").into_iter().map(of));
                }
            }
        }
        rights
    }

    #[test]
    fn the_role_in_a_workspace_namespace_grants_what_is_needed_and_no_more() {
        assert_eq!(granted("Role", Some("workspaces")), needed(&[IN_NAMESPACE]));
    }

    #[test]
    fn the_role_in_a_secrets_namespace_grants_what_is_needed_and_no_more() {
        assert_eq!(granted("Role", Some("workspace-secrets")), needed(&[IN_SECRETS_NAMESPACE]));
    }

    #[test]
    fn the_role_in_the_cluster_grants_what_is_needed_and_the_questions_about_oneself() {
        let mut rights = granted("ClusterRole", None);
        rights.retain(|(_, resource, _)| !resource.starts_with("selfsubject"));
        assert_eq!(rights, needed(&[IN_CLUSTER, TO_CHECK]));
    }

    #[test]
    fn pods_of_the_whole_cluster_are_read_by_a_role_of_their_own_that_an_admin_may_leave_out() {
        assert_eq!(granted_by("spaceport-capacity", "ClusterRole", None), needed(&[TO_COUNT]));
    }
}
