//! A change of a cluster's specification.

use std::collections::{BTreeMap, BTreeSet};

use super::{Capacity, ClusterSpec, Constraint, FenceMode, NamespaceSpec};
use crate::names::Region;

/// New values of fields; absent fields stay. Idempotent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpecChange {
    /// Region.
    pub region: Option<Region>,
    /// All labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Labels to set, after `labels`.
    pub set_labels: BTreeMap<String, String>,
    /// Labels to remove.
    pub remove_labels: BTreeSet<String>,
    /// Share of new workspaces.
    pub weight: Option<u32>,
    /// Upper bound of `weight`.
    pub max_weight: Option<u32>,
    /// Whether the cluster gets no new workspaces.
    pub cordoned: Option<bool>,
    /// Whether available capacity limits placement.
    pub capacity: Option<Capacity>,
    /// Whether it is fenced.
    pub fence: Option<FenceMode>,
    /// All constraints.
    pub constraints: Option<Vec<Constraint>>,
    /// Constraints to add if absent, after `constraints`.
    pub add_constraints: Vec<Constraint>,
    /// Constraints to remove.
    pub remove_constraints: Vec<Constraint>,
    /// All namespaces with their settings.
    pub namespaces: Option<Vec<NamespaceSpec>>,
}

impl SpecChange {
    /// Whether no field is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The specification after the change, which the caller must [validate](ClusterSpec::validate).
    pub fn apply(&self, spec: &ClusterSpec) -> ClusterSpec {
        let mut labels = self.labels.clone().unwrap_or_else(|| spec.labels.clone());
        labels.extend(self.set_labels.clone());
        labels.retain(|key, _| !self.remove_labels.contains(key));
        let mut constraints = self.constraints.clone().unwrap_or_else(|| spec.admission_constraints.clone());
        for constraint in &self.add_constraints {
            if !constraints.contains(constraint) {
                constraints.push(constraint.clone());
            }
        }
        constraints.retain(|constraint| !self.remove_constraints.contains(constraint));
        ClusterSpec {
            name: spec.name.clone(),
            region: self.region.clone().unwrap_or_else(|| spec.region.clone()),
            labels,
            weight: self.weight.unwrap_or(spec.weight),
            max_weight: self.max_weight.unwrap_or(spec.max_weight),
            cordoned: self.cordoned.unwrap_or(spec.cordoned),
            capacity: self.capacity.unwrap_or(spec.capacity),
            fence: self.fence.unwrap_or(spec.fence),
            admission_constraints: constraints,
            namespaces: self.namespaces.clone().unwrap_or_else(|| spec.namespaces.clone()),
            // The login changes only after it is verified.
            kubeconfig_secret: spec.kubeconfig_secret.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ClusterSpec {
        serde_json::from_value(serde_json::json!({
            "name": "eu", "region": "europe", "weight": 50, "maxWeight": 100,
            "labels": {"tier": "standard", "provider": "a"},
            "admissionConstraints": [{"permission": "early"}],
            "namespaces": [{"namespace": "a", "secretsNamespace": "b"}],
        }))
        .unwrap()
    }

    #[test]
    fn an_empty_change_changes_nothing() {
        assert!(SpecChange::default().is_empty());
        assert_eq!(SpecChange::default().apply(&spec()), spec());
    }

    #[test]
    fn what_is_not_named_stays() {
        let change = SpecChange { weight: Some(7), cordoned: Some(true), ..SpecChange::default() };
        let expected = ClusterSpec { weight: 7, cordoned: true, ..spec() };
        assert_eq!(change.apply(&spec()), expected);
    }

    #[test]
    fn labels_and_constraints_are_added_and_removed_once() {
        let early = Constraint::Permission("early".to_owned());
        let change = SpecChange {
            set_labels: BTreeMap::from([("tier".to_owned(), "gold".to_owned())]),
            remove_labels: BTreeSet::from(["provider".to_owned(), "absent".to_owned()]),
            add_constraints: vec![Constraint::FeaturePreview(true), Constraint::FeaturePreview(true)],
            remove_constraints: vec![early],
            ..SpecChange::default()
        };
        let once = change.apply(&spec());
        assert_eq!(once.labels, BTreeMap::from([("tier".to_owned(), "gold".to_owned())]));
        assert_eq!(once.admission_constraints, [Constraint::FeaturePreview(true)]);
        assert_eq!(change.apply(&once), once);
    }

    #[test]
    fn a_label_that_no_program_could_select_by_is_refused() {
        for (key, value) in [("", "a"), ("a b", "a"), ("a=b", "a"), ("a", "x\ny")] {
            let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            let error = ClusterSpec { labels, ..spec() }.validate().unwrap_err();
            assert_eq!(error.field, "labels", "{key:?}={value:?}");
        }
        assert_eq!(spec().validate(), Ok(()));
    }
}
