//! Selects the image builder for a call.

use std::sync::Arc;

use crate::fleet::Fleet;
use crate::{Error, Result};
use domain::health::Health;
use domain::names::{ClusterName, Namespace};
use domain::placement::{self, PlacementRequest};

/// An image builder, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builder {
    /// Its cluster.
    pub cluster: ClusterName,
    /// The workspace namespace that names it.
    pub namespace: Namespace,
    /// Host and port.
    pub target: String,
}

/// Image builders of all clusters.
pub struct Builders {
    fleet: Arc<Fleet>,
    /// Of namespaces whose cluster file names none: host and port.
    image_builder: Option<String>,
}

impl Builders {
    pub(crate) fn new(fleet: Arc<Fleet>, image_builder: Option<String>) -> Arc<Self> {
        Arc::new(Self { fleet, image_builder })
    }

    /// Image builders of clusters that take such a request, best first: placement as for a workspace, among clusters
    /// that have a builder. The namespace's own builder is the one, else another of the cluster.
    pub fn ranked_for(&self, request: &PlacementRequest) -> Result<Vec<Builder>> {
        let mut verdicts = Vec::new();
        let mut candidates = self.fleet.candidates();
        candidates.retain(|candidate| {
            let has_builder = self.builder_of(&candidate.name, None).is_some();
            if !has_builder {
                verdicts.push((candidate.name.clone(), "has no image builder".to_owned()));
            }
            has_builder
        });
        let decision = placement::place(request, &candidates);
        let ranked = decision.ranked.iter();
        let builders: Vec<Builder> = ranked
            .filter_map(|(target, _)| self.builder_of(&target.cluster, Some(&target.namespace)))
            .collect();
        if builders.is_empty() {
            verdicts.extend(decision.rejected.iter().map(|(name, why)| (name.clone(), why.to_string())));
            verdicts.sort();
            return Err(Error::NoBuilder { verdicts });
        }
        Ok(builders)
    }

    /// Every image builder of clusters that are not lost, each address once.
    pub fn all(&self) -> Vec<Builder> {
        let mut builders: Vec<Builder> = Vec::new();
        for connected in self.fleet.connected() {
            if connected.member.health().report().health == Health::Lost {
                continue;
            }
            let cluster = connected.member.name();
            for namespace in connected.places().keys() {
                let Some(target) = self.target(cluster, namespace) else { continue };
                if builders.iter().all(|known| known.target != target) {
                    builders.push(Builder { cluster: cluster.clone(), namespace: namespace.clone(), target });
                }
            }
        }
        builders
    }

    /// A cluster's builder, that of a namespace before others.
    fn builder_of(&self, cluster: &ClusterName, preferred: Option<&Namespace>) -> Option<Builder> {
        let connected = self.fleet.get(cluster)?;
        preferred.into_iter().chain(connected.places().keys()).find_map(|namespace| {
            let target = self.target(cluster, namespace)?;
            Some(Builder { cluster: cluster.clone(), namespace: namespace.clone(), target })
        })
    }

    /// Address of a namespace's builder: as its cluster file says, else as the configuration does.
    fn target(&self, cluster: &ClusterName, namespace: &Namespace) -> Option<String> {
        let connected = self.fleet.get(cluster)?;
        let spec = connected.spec();
        let own = spec.namespaces.iter().find(|spec| spec.namespace == *namespace)?.image_builder.as_ref();
        own.map(|builder| builder.target_addr.clone()).or_else(|| self.image_builder.clone())
    }
}
