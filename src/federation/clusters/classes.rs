//! Which classes clusters offer, and how clients see them.
//!
//! Clients see the classes of the clusters that accept starts. Where two of these define a class
//! differently, the first cluster by name decides. Every cluster is compared with that list: a cordoned or
//! lost cluster decides nothing, and a class that only one cluster has is no conflict.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::fleet::settings::Settings;
use crate::fleet::{Connected, Fleet};
use crate::view::index::Index;
use domain::condition::Condition;
use domain::health::Health;
use domain::names::{ClassId, ClusterName};
use domain::workspace::ClassView;

/// The settings of every namespace of the clusters that take starts, by cluster.
pub(super) type Offers = Vec<(ClusterName, Arc<Settings>)>;
/// Classes as clients see them, each with the cluster that it is taken from.
pub(super) type Shown<'a> = BTreeMap<&'a ClassId, (&'a ClusterName, &'a ClassView)>;

/// Classes that clusters offer.
pub struct Classes {
    fleet: Arc<Fleet>,
    index: Arc<Index>,
}

impl Classes {
    pub(crate) fn new(fleet: Arc<Fleet>, index: Arc<Index>) -> Arc<Self> {
        Arc::new(Self { fleet, index })
    }

    /// Classes as clients see them, by id, and the preferred one: that of the configuration where a cluster offers it, else
    /// that of the first cluster that has one. The condition `ClassesAgree` names clusters that have another class of an id.
    pub fn shown(&self) -> (Vec<ClassView>, Option<ClassId>) {
        let offers = self.offers();
        let shown = shown(&offers);
        let configured = self.fleet.defaults().manager.preferred_class.clone();
        let first = || offers.iter().find_map(|(_, settings)| settings.preferred_class.clone());
        let preferred = configured.filter(|preferred| shown.contains_key(preferred));
        let preferred = preferred.or_else(first).filter(|preferred| shown.contains_key(preferred));
        (shown.into_values().map(|(_, class)| class.clone()).collect(), preferred)
    }

    /// What the clusters that take starts offer now.
    pub(super) fn offers(&self) -> Offers {
        let members = self.fleet.connected();
        let of = |connected: &Arc<Connected>| {
            let name = connected.member.name().clone();
            settings_of(connected).into_iter().map(move |settings| (name.clone(), settings))
        };
        members.iter().filter(|connected| self.takes_starts(connected)).flat_map(of).collect()
    }

    fn takes_starts(&self, connected: &Connected) -> bool {
        let spec = connected.spec();
        !spec.cordoned
            && spec.weight > 0
            && !self.index.is_draining(&spec.name)
            && connected.member.health().health() == Health::Available
    }
}

/// The settings of every namespace of a cluster.
pub(super) fn settings_of(connected: &Connected) -> Vec<Arc<Settings>> {
    connected.places().values().map(|place| place.settings.load_full()).collect()
}

/// As which clients see classes.
pub(super) fn shown(offers: &Offers) -> Shown<'_> {
    let mut shown = BTreeMap::new();
    for (cluster, settings) in offers {
        for class in settings.class_views() {
            shown.entry(&class.id).or_insert((cluster, class));
        }
    }
    shown
}

/// Whether a cluster's classes are those that clients see.
pub(super) fn classes_agree(connected: &Connected, shown: &Shown<'_>, now: Timestamp) -> Condition {
    const KIND: &str = "ClassesAgree";
    let settings = settings_of(connected);
    let differing = differing(settings.iter().flat_map(|settings| settings.class_views()), shown);
    if differing.is_empty() {
        return Condition::holds(KIND, now);
    }
    Condition::fails(KIND, "ClassConflict", differing.join("; "), now)
}

/// Classes that clients see as another cluster has them.
fn differing<'a>(classes: impl Iterator<Item = &'a ClassView>, shown: &Shown<'_>) -> Vec<String> {
    let differs = |class: &ClassView| {
        let (cluster, other) = shown.get(&class.id)?;
        (*other != class).then(|| format!("class {} is another one on {cluster}", class.id))
    };
    let mut differing: Vec<String> = classes.filter_map(differs).collect();
    differing.dedup();
    differing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_differs_from_the_one_shown_is_named_with_the_cluster_that_has_the_other() {
        let class = |id: &str, description: &str| ClassView {
            id: id.parse().unwrap(),
            display_name: id.to_owned(),
            description: description.to_owned(),
            credits_per_minute: 0.0,
        };
        let eu: ClusterName = "eu-1".parse().unwrap();
        let offered = [class("small", "2 cores"), class("large", "8 cores")];
        let shown = offered.iter().map(|class| (&class.id, (&eu, class))).collect();
        let same = [class("small", "2 cores"), class("only-here", "1 core")];
        assert!(differing(same.iter(), &shown).is_empty());
        let other = [class("small", "4 cores"), class("small", "4 cores"), class("large", "8 cores")];
        assert_eq!(differing(other.iter(), &shown), ["class small is another one on eu-1"]);
    }
}
