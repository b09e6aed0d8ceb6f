//! Builds the etcd keys that the head comment of the crate documents.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use domain::names::{ClusterName, MetaId, WorkspaceId};

/// All but the unreserved characters of RFC 3986, so that an encoded address is one segment of a key.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Keys below a prefix.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    /// Keys below `prefix`, to which a missing trailing slash is added.
    pub(super) fn new(prefix: &str) -> Self {
        let slash = if prefix.ends_with('/') { "" } else { "/" };
        Self { prefix: format!("{prefix}{slash}") }
    }

    /// A key or a prefix of keys by its name below the prefix.
    pub(super) fn below(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) fn installation(&self) -> String {
        self.below("installation")
    }

    pub(super) fn leaders(&self) -> String {
        self.below("leader/")
    }

    pub(super) fn leader(&self, lease: i64) -> String {
        format!("{}leader/{lease:016x}", self.prefix)
    }

    pub(super) fn clusters(&self) -> String {
        self.below("clusters/")
    }

    pub(super) fn cluster_spec(&self, name: &ClusterName) -> String {
        format!("{}clusters/{name}/spec", self.prefix)
    }

    pub(super) fn cluster_status(&self, name: &ClusterName) -> String {
        format!("{}clusters/{name}/status", self.prefix)
    }

    pub(super) fn former_clusters(&self) -> String {
        self.below("departed/")
    }

    pub(super) fn former_cluster(&self, name: &ClusterName) -> String {
        format!("{}departed/{name}", self.prefix)
    }

    pub(super) fn address(&self, address: &str) -> String {
        format!("{}addresses/{}", self.prefix, utf8_percent_encode(address, &RESERVED))
    }

    pub(super) fn placements(&self) -> String {
        self.below("placements/")
    }

    pub(super) fn placement(&self, workspace: &WorkspaceId) -> String {
        format!("{}placements/{workspace}", self.prefix)
    }

    pub(super) fn decisions(&self) -> String {
        self.below("decisions/")
    }

    pub(super) fn decision(&self, workspace: &WorkspaceId) -> String {
        format!("{}decisions/{workspace}", self.prefix)
    }

    pub(super) fn drains(&self) -> String {
        self.below("drains/")
    }

    pub(super) fn drain(&self, cluster: &ClusterName) -> String {
        format!("{}drains/{cluster}", self.prefix)
    }

    /// Prefix of the entries for live workspaces whose URL is that of a port of `owner`.
    pub(super) fn hosts(&self, owner: &MetaId) -> String {
        format!("{}hosts/{owner}/", self.prefix)
    }

    pub(super) fn host(&self, owner: &MetaId, meta: &MetaId) -> String {
        format!("{}{meta}", self.hosts(owner))
    }

    pub(super) fn meta(&self, meta: &MetaId) -> String {
        format!("{}meta/{meta}", self.prefix)
    }
}

/// The end of the range of keys that begin with `prefix`.
pub(super) fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return end;
        }
        end.pop();
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_below_the_prefix_with_exactly_one_slash() {
        for prefix in ["/spaceport", "/spaceport/"] {
            let keys = Keys::new(prefix);
            assert_eq!(keys.installation(), "/spaceport/installation");
            assert_eq!(keys.leader(0x1234), "/spaceport/leader/0000000000001234");
            assert_eq!(keys.cluster_spec(&"eu-1".parse().unwrap()), "/spaceport/clusters/eu-1/spec");
        }
    }

    #[test]
    fn an_address_is_one_segment_of_a_key() {
        let key = Keys::new("/s/").address("https://eu.example:6443/k8s");
        assert_eq!(key, "/s/addresses/https%3A%2F%2Feu.example%3A6443%2Fk8s");
        assert_eq!(Keys::new("/s/").address("a-b_c~%ü"), "/s/addresses/a-b_c~%25%C3%BC");
    }

    #[test]
    fn a_range_ends_just_after_the_last_key_of_its_prefix() {
        assert_eq!(range_end("/s/leader/"), b"/s/leader0");
    }
}
