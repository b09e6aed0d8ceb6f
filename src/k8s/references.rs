//! Which Secrets of its namespace a workspace's variables may reference: those that an admin allows by a label on the
//! Secret or by name in the cluster file, and none that a workspace manager created for another workspace.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::resources::Workspace;
use crate::resources::names::{ALLOW_REFERENCE, INSTANCE_ID, MANAGED_BY, env_secret, is_ours};
use domain::workspace::{EnvValue, Start};

/// Whose references are checked.
#[derive(Debug, Clone, Copy)]
pub struct Referrer<'a> {
    /// The workspace's id, where its own Secret of variables may be referenced: not in a request.
    pub own: Option<&'a str>,
    /// Secrets that the cluster file allows by name.
    pub allowed: &'a BTreeSet<String>,
}

/// Secrets that a request references, each with a variable that does.
pub fn of_start(start: &Start) -> BTreeMap<&str, String> {
    let lists = [("spec.envvars", &start.user_env), ("spec.sys_envvars", &start.sys_env)];
    let mut found = BTreeMap::new();
    for (field, variables) in lists {
        for variable in variables {
            if let EnvValue::Secret(secret) = &variable.value {
                found.entry(secret.name.as_str()).or_insert_with(|| format!("{field} {}", variable.name));
            }
        }
    }
    found
}

/// Secrets that a Workspace references, each with a variable that does.
pub fn of_workspace(workspace: &Workspace) -> BTreeMap<&str, String> {
    let spec = &workspace.spec;
    let mut found = BTreeMap::new();
    for variable in spec.user_env_vars.iter().chain(&spec.sys_env_vars) {
        let source = variable.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref());
        if let Some(secret) = source {
            found.entry(secret.name.as_str()).or_insert_with(|| format!("variable {}", variable.name));
        }
    }
    found
}

/// Whether a Secret may be referenced, by its metadata; `None` where there is none of the name.
pub fn judge(name: &str, metadata: Option<&ObjectMeta>, referrer: Referrer<'_>) -> Result<(), &'static str> {
    let label = |key: &str| metadata?.labels.as_ref()?.get(key).map(String::as_str);
    if let Some(own) = referrer.own.filter(|own| env_secret(own) == name) {
        let is_own = metadata.is_none_or(|found| is_ours(found) && label(INSTANCE_ID) == Some(own));
        if is_own {
            return Ok(());
        }
    }
    if label(MANAGED_BY).is_some() {
        return Err("belongs to a manager of workspaces");
    }
    if referrer.allowed.contains(name) || label(ALLOW_REFERENCE) == Some("true") {
        return Ok(());
    }
    Err(
        "is not one that an admin allows to be referenced, by the label spaceport.dev/allow-reference: \"true\" or under \
         allowedSecrets in the cluster file",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(labels: &[(&str, &str)], name: &str, own: Option<&str>) -> bool {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let metadata = ObjectMeta { labels: Some(labels), ..ObjectMeta::default() };
        let allowed = ["named".to_owned()].into();
        judge(name, Some(&metadata), Referrer { own, allowed: &allowed }).is_ok()
    }

    #[test]
    fn only_secrets_that_an_admin_allows_may_be_referenced_and_none_that_a_manager_made() {
        let (allow, ours) = ((ALLOW_REFERENCE, "true"), (MANAGED_BY, "spaceport"));
        assert!(judged(&[allow], "pull", None) && judged(&[], "named", None));
        assert!(!judged(&[], "pull", None) && !judged(&[(ALLOW_REFERENCE, "false")], "pull", None));
        for managed in [ours, (MANAGED_BY, "another")] {
            assert!(!judged(&[allow, managed], "other-env", None));
            assert!(!judged(&[managed], "named", None));
        }
        // Whether it is there or not: nobody learns which names there are.
        let allowed = BTreeSet::new();
        let referrer = Referrer { own: None, allowed: &allowed };
        let absent = judge("pull", None, referrer);
        assert_eq!(absent, judge("pull", Some(&ObjectMeta::default()), referrer));
    }

    #[test]
    fn a_workspaces_own_secret_is_one_that_was_made_for_it() {
        let own = [(MANAGED_BY, "spaceport"), (INSTANCE_ID, "a")];
        assert!(judged(&own, "a-env", Some("a")));
        assert!(!judged(&own, "a-env", None), "a request names it");
        assert!(!judged(&own, "a-env", Some("b")), "of another workspace");
        assert!(!judged(&[], "a-env", Some("a")), "somebody else's of that name");
    }
}
