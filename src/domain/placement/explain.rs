//! A placement decision that is stored for a while: the request and the verdict of every cluster, bounded in size.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Decision, PlacementRequest, Rejection, Score, Target};
use crate::names::{ClassId, ClusterName, Namespace, Region, WorkspaceId};
use crate::workspace::Kind;

/// Clusters that are stored by name; of others only the number.
const CLUSTERS_KEPT: usize = 32;
/// Regions, labels and permissions that are stored of a request, and bytes of each text: a caller may send megabytes, and
/// thousands of decisions are stored.
const WISHES_KEPT: usize = 32;
const WISH_KEPT: usize = 128;
/// Characters of a reason.
const REASON_KEPT: usize = 400;

/// A stored placement decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// When it was decided.
    pub at: Timestamp,
    /// The epoch of the leader that decided.
    pub epoch: i64,
    /// The request.
    pub wish: Wish,
    /// Clusters that fit, best first.
    pub ranked: Vec<Fit>,
    /// Clusters that do not fit or rejected the Workspace, with the reason.
    pub rejected: Vec<(ClusterName, String)>,
    /// Number of clusters that are omitted above.
    pub left_out: usize,
    /// The cluster where it was placed; `None` if every cluster rejected it.
    pub placed: Option<ClusterName>,
}

/// The stored part of a placement request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wish {
    /// Regions in order of preference.
    pub regions: Vec<Region>,
    /// Whether other regions are rejected.
    pub require_region: bool,
    /// Required cluster.
    pub cluster: Option<ClusterName>,
    /// Required labels of the cluster.
    pub labels: BTreeMap<String, String>,
    /// Permissions that the caller holds.
    pub permissions: BTreeSet<String>,
    /// Required namespace.
    pub namespace: Option<Namespace>,
    /// The class.
    pub class: Option<ClassId>,
    /// The kind.
    pub kind: Kind,
}

/// A cluster that fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fit {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its region.
    pub region: Region,
    /// The namespace there.
    pub namespace: Namespace,
    /// The class there.
    pub class: ClassId,
    /// Score; fields are compared in their order, and less is better.
    pub score: Score,
}

impl Explanation {
    /// The explanation of a decision before the Workspace is created.
    pub fn new(
        workspace: &WorkspaceId,
        request: &PlacementRequest,
        decision: &Decision,
        epoch: i64,
        at: Timestamp,
    ) -> Self {
        let ranked = decision.ranked.iter().take(CLUSTERS_KEPT);
        let rejected = decision.rejected.iter().take(CLUSTERS_KEPT);
        Self {
            workspace: workspace.clone(),
            at,
            epoch,
            wish: Wish::of(request),
            ranked: ranked.map(|(target, score)| Fit::of(target, *score)).collect(),
            rejected: rejected.map(|(cluster, why)| (cluster.clone(), shortened(why))).collect(),
            left_out: decision.ranked.len().saturating_sub(CLUSTERS_KEPT)
                + decision.rejected.len().saturating_sub(CLUSTERS_KEPT),
            placed: None,
        }
    }

    /// Notes that a cluster that fits rejected the Workspace.
    pub fn refused(&mut self, cluster: &ClusterName, why: &Rejection) {
        if self.rejected.len() < 2 * CLUSTERS_KEPT {
            self.rejected.push((cluster.clone(), shortened(why)));
        }
    }
}

impl Wish {
    fn of(request: &PlacementRequest) -> Self {
        let labels = request.labels.iter().take(WISHES_KEPT);
        Self {
            regions: request.regions.iter().take(WISHES_KEPT).cloned().collect(),
            require_region: request.require_region,
            cluster: request.cluster.clone(),
            labels: labels.map(|(key, value)| (cut(key), cut(value))).collect(),
            permissions: request.permissions.iter().take(WISHES_KEPT).map(|text| cut(text)).collect(),
            namespace: request.namespace.clone(),
            class: request.class.clone(),
            kind: request.kind,
        }
    }
}

impl Fit {
    fn of(target: &Target, score: Score) -> Self {
        Self {
            cluster: target.cluster.clone(),
            region: target.region.clone(),
            namespace: target.namespace.clone(),
            class: target.class.clone(),
            score,
        }
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(WISH_KEPT)].to_owned()
}

fn shortened(why: &Rejection) -> String {
    why.to_string().chars().take(REASON_KEPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_decision_is_small_however_large_the_request() {
        let long = "é".repeat(100_000);
        let request = PlacementRequest {
            regions: vec!["europe".parse().unwrap(); 10_000],
            labels: (0..1000).map(|at| (format!("{at}{long}"), long.clone())).collect(),
            permissions: (0..1000).map(|at| format!("{at}{long}")).collect(),
            ..PlacementRequest::default()
        };
        let decision = Decision { ranked: Vec::new(), rejected: Vec::new() };
        let id = "ws".parse().unwrap();
        let kept = Explanation::new(&id, &request, &decision, 1, Timestamp::UNIX_EPOCH);
        assert_eq!((kept.wish.regions.len(), kept.wish.permissions.len()), (WISHES_KEPT, WISHES_KEPT));
        assert!(serde_json::to_vec(&kept).unwrap().len() < 16 * 1024);
    }

    #[test]
    fn a_decision_of_an_earlier_version_can_be_read() {
        let earlier = r#"{"region":0,"canary":1,"load":2,"headroom":3,"spread":4,"tie":5}"#;
        assert_eq!(serde_json::from_str::<Score>(earlier).unwrap().last_choice, 0);
    }
}
