//! Which cluster's image builder a call goes to.

use super::{Error, Federation, Result};
use crate::domain::health::Health;
use crate::domain::names::{ClusterName, Namespace};
use crate::domain::placement::{self, Candidate, PlacementRequest};

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

impl Federation {
    /// Image builders of clusters that take such a request, best first: placement as for a workspace, over the
    /// namespaces that have a builder. A build has no class of its own, so that any class will do.
    pub fn builders_for(&self, request: &PlacementRequest) -> Result<Vec<Builder>> {
        let (mut candidates, mut verdicts) = (Vec::new(), Vec::new());
        for candidate in self.fleet.candidates() {
            let name = candidate.name.clone();
            match self.with_builder(candidate) {
                Some(candidate) => candidates.push(candidate),
                None => verdicts.push((name, "has no image builder".to_owned())),
            }
        }
        let decision = placement::place(request, &candidates);
        let builder = |(target, _): (placement::Target, _)| {
            let address = self.target(&target.cluster, &target.namespace)?;
            Some(Builder { cluster: target.cluster, namespace: target.namespace, target: address })
        };
        let builders: Vec<Builder> = decision.ranked.into_iter().filter_map(builder).collect();
        if builders.is_empty() {
            verdicts.extend(decision.rejected.iter().map(|(name, why)| (name.clone(), why.to_string())));
            verdicts.sort();
            return Err(Error::NoBuilder { verdicts });
        }
        Ok(builders)
    }

    /// Every image builder of clusters that are not lost, each address once.
    pub fn builders(&self) -> Vec<Builder> {
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

    /// The candidate with those of its namespaces that have a builder, if there are any.
    fn with_builder(&self, mut candidate: Candidate) -> Option<Candidate> {
        let name = candidate.name.clone();
        candidate.namespaces.retain(|namespace| self.target(&name, &namespace.name).is_some());
        for namespace in &mut candidate.namespaces {
            if namespace.preferred_class.is_none() {
                namespace.preferred_class = namespace.classes.iter().next().cloned();
            }
        }
        (!candidate.namespaces.is_empty()).then_some(candidate)
    }

    /// Address of a namespace's builder: as its cluster file says, else as the configuration does.
    fn target(&self, cluster: &ClusterName, namespace: &Namespace) -> Option<String> {
        let connected = self.fleet.get(cluster)?;
        let spec = connected.spec.load();
        let own = spec.namespaces.iter().find(|spec| spec.namespace == *namespace)?.image_builder.as_ref();
        own.map(|builder| builder.target_addr.clone()).or_else(|| self.options.image_builder.clone())
    }
}
