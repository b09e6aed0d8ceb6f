//! Annotations of clients: which ones are reserved, and which are copied to pods.
//!
//! Annotations of pods control networks, service meshes, AppArmor, scrapers and autoscalers, so a client's annotation stays on
//! the Workspace unless the configuration allows it on pods.

use std::str::FromStr;

use super::annotation::is_qualified_name;

/// Prefix of Spaceport's own annotations.
const OWN_PREFIX: &str = "spaceport.dev/";
/// Node agents act on these, on Workspaces and pods: only the manager writes them.
const AGENT: [&str; 4] =
    ["gitpod.io/cpuMinLimit", "gitpod.io/cpuBurstLimit", "gitpod.io/netConnLimitPerMinute", "gitpod.io/psi"];
/// The manager writes these on pods; on a Workspace they have no effect.
const ON_PODS: [&str; 4] = [
    "cluster-autoscaler.kubernetes.io/safe-to-evict",
    "prometheus.io/path",
    "prometheus.io/port",
    "prometheus.io/scrape",
];

/// Whether clients may not send this annotation, compared without case: Kubernetes accepts upper case, too.
pub fn is_reserved(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.starts_with(OWN_PREFIX) || AGENT.iter().any(|own| own.eq_ignore_ascii_case(&key))
}

/// Whether only the manager, or a pod template, sets this annotation on pods, whatever the allow-list says.
fn is_managed(key: &str) -> bool {
    is_reserved(key) || ON_PODS.iter().any(|own| own.eq_ignore_ascii_case(key))
}

/// A name or a prefix in the allow-list: `example.com/team` or `example.com/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Prefix(String),
}

/// Why an entry of the allow-list is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is not a valid name of an annotation.
    #[error(
        "must be an annotation's name such as example.com/team, or a domain and what follows such as example.com/*"
    )]
    Malformed,
    /// It would never match.
    #[error("only the manager sets this annotation")]
    Reserved,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let Some(prefix) = text.strip_suffix('*') else {
            return match text {
                _ if is_managed(text) => Err(PatternError::Reserved),
                _ if is_qualified_name(text) => Ok(Self::Exact(text.to_owned())),
                _ => Err(PatternError::Malformed),
            };
        };
        // The shortest name with this prefix must be valid.
        let shortest = format!("{prefix}a");
        match prefix {
            _ if prefix.starts_with(OWN_PREFIX) => Err(PatternError::Reserved),
            _ if prefix.contains('/') && is_qualified_name(&shortest) => Ok(Self::Prefix(prefix.to_owned())),
            _ => Err(PatternError::Malformed),
        }
    }
}

/// Allow-list of annotations that are copied to pods; empty by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodAnnotations(Vec<Pattern>);

impl PodAnnotations {
    /// Parses an allow-list. The error has the index of each invalid entry, and why.
    pub fn parse<T: AsRef<str>>(entries: &[T]) -> Result<Self, Vec<(usize, PatternError)>> {
        let (mut patterns, mut problems) = (Vec::new(), Vec::new());
        for (at, entry) in entries.iter().enumerate() {
            match entry.as_ref().parse() {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => problems.push((at, error)),
            }
        }
        if problems.is_empty() { Ok(Self(patterns)) } else { Err(problems) }
    }

    /// Whether a client's annotation of this name is copied to the pod.
    pub fn allows(&self, key: &str) -> bool {
        let matches = |pattern: &Pattern| match pattern {
            Pattern::Exact(name) => key == name,
            Pattern::Prefix(prefix) => key.starts_with(prefix.as_str()),
        };
        !is_managed(key) && self.0.iter().any(matches)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(entries: &[&str]) -> PodAnnotations {
        PodAnnotations::parse(entries).unwrap()
    }

    #[test]
    fn names_and_prefixes_reach_pods_and_nothing_else_does() {
        let some = list(&["example.com/team", "metrics.example.com/*", "example.com/x-*", "plain"]);
        for key in ["example.com/team", "metrics.example.com/a", "example.com/x-1", "plain"] {
            assert!(some.allows(key), "{key}");
        }
        for key in [
            "example.com/teams",
            "example.com/Team",
            "xmetrics.example.com/a",
            "metrics.example.com",
            "example.com/x",
            "plain/a",
            "k8s.v1.cni.cncf.io/networks",
            "cni.projectcalico.org/ipAddrs",
            "sidecar.istio.io/inject",
            "container.apparmor.security.beta.kubernetes.io/workspace",
        ] {
            assert!(!some.allows(key), "{key}");
            assert!(!PodAnnotations::default().allows(key), "{key}");
        }
    }

    #[test]
    fn no_allow_list_gives_clients_what_the_manager_sets() {
        let wide = list(&["gitpod.io/*", "prometheus.io/*", "cluster-autoscaler.kubernetes.io/s*"]);
        for key in AGENT.iter().chain(&ON_PODS).chain(&["spaceport.dev/generation"]) {
            assert!(!wide.allows(key), "{key}");
            assert_eq!(PodAnnotations::parse(&[key]), Err(vec![(0, PatternError::Reserved)]));
            assert!(is_managed(&key.to_uppercase()), "{key}");
        }
        assert!(wide.allows("gitpod.io/other"));
    }

    #[test]
    fn every_entry_that_names_no_annotation_is_a_problem() {
        let bad =
            ["*", "", "/", "/*", "a*", "a b/c", "a/*/b", "Example.com/*", "a/b/c", "example.com/-*", "a/é"];
        let problems = PodAnnotations::parse(&bad).unwrap_err();
        assert_eq!(problems.len(), bad.len(), "{problems:?}");
        assert!(problems.iter().all(|(_, error)| *error == PatternError::Malformed));
        let own = PodAnnotations::parse(&["example.com/a", "spaceport.dev/*"]).unwrap_err();
        assert_eq!(own, [(1, PatternError::Reserved)]);
    }

    proptest! {
        #[test]
        fn what_reaches_a_pod_is_in_the_list_and_not_the_managers(key in "\\PC{0,80}") {
            let some = list(&["example.com/team", "example.com/x-*"]);
            if some.allows(&key) {
                prop_assert!(key == "example.com/team" || key.starts_with("example.com/x-"));
                prop_assert!(!is_managed(&key));
            }
        }
    }
}
