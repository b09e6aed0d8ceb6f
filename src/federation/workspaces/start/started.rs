//! The answer to a start.

use domain::names::{ClusterName, Namespace, Region};

/// The answer to a start.
#[derive(Clone, PartialEq, Eq)]
pub struct Started {
    /// Where the workspace is served.
    pub url: String,
    /// Opens it.
    pub owner_token: String,
    /// Where it was placed.
    pub cluster: ClusterName,
    /// The cluster's region.
    pub region: Region,
    /// The namespace there.
    pub namespace: Namespace,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Started {
    /// What the workspace itself says is what the first call was answered: the URL's template may have changed since.
    pub(super) fn into_first_answered(self, url: &str, owner_token: &str) -> Self {
        let first = |said: &str, now: String| if said.is_empty() { now } else { said.to_owned() };
        Self { url: first(url, self.url), owner_token: first(owner_token, self.owner_token), ..self }
    }
}
