use proptest::prelude::*;

use std::collections::BTreeMap;

use super::capacity::Available;
use super::*;
use crate::cluster::{CANARY_PERMISSION, Capacity, Constraint};
use crate::health::Health;
use crate::names::{ClassId, Namespace};
use crate::workspace::Kind;

fn cluster(name: &str, region: &str) -> Candidate {
    Candidate {
        name: name.parse().unwrap(),
        region: region.parse().unwrap(),
        labels: BTreeMap::new(),
        weight: 50,
        capacity: Capacity::Nodes,
        cordoned: false,
        draining: false,
        health: Health::Available,
        barred: None,
        constraints: Vec::new(),
        namespaces: vec![CandidateNamespace {
            name: "workspaces".parse().unwrap(),
            offers: BTreeMap::from([("small".parse().unwrap(), offer(name, region, 1000))]),
            preferred_class: Some("small".parse().unwrap()),
            maintenance: false,
            closed: None,
            last_choice: None,
        }],
        placed: 0,
    }
}

fn offer(name: &str, region: &str, left: u64) -> Offer {
    let target = Target {
        cluster: name.parse().unwrap(),
        region: region.parse().unwrap(),
        namespace: "workspaces".parse().unwrap(),
        class: "small".parse().unwrap(),
    };
    Offer { target: Arc::new(target), rooms: rooms(left) }
}

fn rooms(left: u64) -> AvailableByKind {
    let room = Available::Counted { left, of: 1000, shortage: None };
    AvailableByKind([room.clone(), room.clone(), room])
}

/// Sets the available capacity of a cluster.
fn leave(candidate: &mut Candidate, left: u64) {
    for offer in candidate.namespaces[0].offers.values_mut() {
        offer.rooms = rooms(left);
    }
}

fn fleet() -> Vec<Candidate> {
    vec![cluster("eu-1", "europe"), cluster("us-1", "north-america"), cluster("ap-1", "asia")]
}

fn chosen(request: &PlacementRequest, fleet: &[Candidate]) -> Option<String> {
    place(request, fleet).ranked.first().map(|(target, _)| target.cluster.to_string())
}

fn regions(names: &[&str]) -> PlacementRequest {
    PlacementRequest { regions: names.iter().map(|n| n.parse().unwrap()).collect(), ..Default::default() }
}

/// The rejection of the only cluster `eu-1` after `spoil` changed cluster and request.
fn rejection(spoil: impl FnOnce(&mut Candidate, &mut PlacementRequest)) -> Rejection {
    let mut cluster = cluster("eu-1", "europe");
    let mut request = PlacementRequest::default();
    spoil(&mut cluster, &mut request);
    let decision = place(&request, &[cluster]);
    assert!(decision.ranked.is_empty());
    decision.rejected[0].1.clone()
}

#[test]
fn the_first_preferred_region_wins_and_the_others_come_after() {
    assert_eq!(chosen(&regions(&["asia", "europe"]), &fleet()).unwrap(), "ap-1");
    let mut without_asia = fleet();
    without_asia[2].cordoned = true;
    assert_eq!(chosen(&regions(&["asia", "europe"]), &without_asia).unwrap(), "eu-1");
    without_asia[0].health = Health::Suspect;
    assert_eq!(chosen(&regions(&["asia", "europe"]), &without_asia).unwrap(), "us-1");
}

#[test]
fn clusters_outside_of_a_required_region_are_rejected() {
    let request = PlacementRequest { require_region: true, ..regions(&["africa"]) };
    assert!(place(&request, &fleet()).ranked.is_empty());
}

#[test]
fn every_filter_gives_its_reason() {
    assert_eq!(rejection(|c, _| c.health = Health::Lost), Rejection::Unhealthy(Health::Lost));
    assert_eq!(rejection(|c, _| c.cordoned = true), Rejection::Cordoned);
    assert_eq!(rejection(|c, _| c.draining = true), Rejection::Draining);
    assert_eq!(rejection(|c, _| c.weight = 0), Rejection::NoWeight);
    assert_eq!(rejection(|c, _| c.namespaces[0].maintenance = true), Rejection::Maintenance);
    assert_eq!(rejection(|c, _| c.namespaces[0].preferred_class = None), Rejection::NoPreferredClass);
    let other: ClusterName = "us-1".parse().unwrap();
    assert_eq!(rejection(|_, r| r.cluster = Some(other.clone())), Rejection::NotPinned(other.clone()));
    let class: ClassId = "large".parse().unwrap();
    assert_eq!(rejection(|_, r| r.class = Some(class.clone())), Rejection::Class(class.clone()));
    let namespace: Namespace = "other".parse().unwrap();
    assert_eq!(
        rejection(|_, r| r.namespace = Some(namespace.clone())),
        Rejection::Namespace(namespace.clone())
    );
    assert_eq!(
        rejection(|_, r| r.labels = BTreeMap::from([("gpu".into(), "yes".into())])),
        Rejection::Label("gpu".into())
    );
    assert_eq!(
        rejection(|c, _| c.constraints = vec![Constraint::FeaturePreview(true)]),
        Rejection::Permission("feature-preview".into())
    );
}

#[test]
fn an_unknown_requested_cluster_is_named() {
    let request = PlacementRequest { cluster: "mars".parse().ok(), ..PlacementRequest::default() };
    let rejected = place(&request, &fleet()).rejected;
    assert_eq!(Rejection::unknown_pin(&rejected).map(ClusterName::as_str), Some("mars"));
    let request = PlacementRequest { cluster: "eu-1".parse().ok(), ..PlacementRequest::default() };
    let mut full = fleet();
    for candidate in &mut full {
        candidate.cordoned = true;
    }
    let rejected = place(&request, &full).rejected;
    assert_eq!((rejected.len(), Rejection::unknown_pin(&rejected)), (full.len(), None));
    assert_eq!(Rejection::unknown_pin(&[]), None);
}

#[test]
fn a_canary_cluster_is_first_for_requests_with_the_permission_and_rejected_for_others() {
    let mut fleet = fleet();
    fleet[1].constraints = vec![Constraint::Permission(CANARY_PERMISSION.into())];
    let mut request = PlacementRequest::default();
    fleet[1].placed = 100;
    assert_ne!(chosen(&request, &fleet).unwrap(), "us-1");
    request.permissions.insert(CANARY_PERMISSION.into());
    assert_eq!(chosen(&request, &fleet).unwrap(), "us-1");
    request.regions = regions(&["europe"]).regions;
    assert_eq!(chosen(&request, &fleet).unwrap(), "eu-1", "a canary far away does not draw users there");
}

#[test]
fn a_cluster_without_capacity_is_rejected_unless_it_has_an_autoscaler() {
    let mut full = cluster("eu-1", "europe");
    leave(&mut full, 0);
    let decision = place(&PlacementRequest::default(), &[&full]);
    assert!(decision.rejected[0].1.is_capacity(), "{decision:?}");
    full.capacity = Capacity::Unlimited;
    assert_eq!(chosen(&PlacementRequest::default(), &[full]).unwrap(), "eu-1");
    let mut unknown = cluster("eu-1", "europe");
    let unlisted = AvailableByKind([Available::Unknown, Available::Unknown, Available::Unknown]);
    unknown.namespaces[0].offers.values_mut().for_each(|offer| offer.rooms = unlisted.clone());
    assert_eq!(place(&PlacementRequest::default(), &[&unknown]).rejected[0].1, Rejection::CapacityUnknown);
}

#[test]
fn of_equally_loaded_clusters_the_one_with_more_capacity_for_the_kind_wins() {
    let mut fleet = fleet();
    leave(&mut fleet[0], 10);
    leave(&mut fleet[1], 10);
    assert_eq!(chosen(&PlacementRequest::default(), &fleet).unwrap(), "ap-1");
    let none = Available::Counted { left: 0, of: 0, shortage: None };
    for candidate in &mut fleet[1..] {
        let offer = candidate.namespaces[0].offers.values_mut().next().unwrap();
        offer.rooms.0[1] = none.clone();
    }
    let prebuild = PlacementRequest { kind: Kind::Prebuild, ..Default::default() };
    assert_eq!(chosen(&prebuild, &fleet).unwrap(), "eu-1");
}

#[test]
fn a_simulation_fills_clusters_like_starts_and_reports_when_they_are_full() {
    let mut fleet: Vec<Candidate> = fleet();
    leave(&mut fleet[0], 3);
    leave(&mut fleet[1], 5);
    fleet[2].cordoned = true;
    let shared: Vec<Arc<Candidate>> = fleet.into_iter().map(Arc::new).collect();
    let forecast = simulate(&regions(&["europe"]), &shared, 10);
    let of = |name: &str| forecast.clusters[&name.parse::<ClusterName>().unwrap()].clone();
    assert_eq!((of("eu-1").placed, of("us-1").placed, forecast.left_over), (3, 5, 2));
    assert_eq!(of("eu-1").refuses_from.unwrap().0, 4);
    assert_eq!(of("ap-1").refuses_from, Some((1, Rejection::Cordoned)));
    assert_eq!(simulate(&regions(&["europe"]), &shared, 10), forecast);
}

#[test]
fn clusters_fill_in_proportion_to_their_weights() {
    let mut fleet = fleet();
    for (candidate, weight) in fleet.iter_mut().zip([10, 30, 60]) {
        candidate.weight = weight;
    }
    for n in 0..1000 {
        let request = PlacementRequest { seed: n.to_string(), ..Default::default() };
        let name = chosen(&request, &fleet).unwrap();
        fleet.iter_mut().find(|c| c.name.as_str() == name).unwrap().placed += 1;
    }
    let placed: Vec<usize> = fleet.iter().map(|c| c.placed).collect();
    assert_eq!(placed, [100, 300, 600]);
}

prop_compose! {
    fn any_candidate()(
        n in 0..40u32, region in "europe|asia|africa", weight in 0..3u32, cordoned in any::<bool>(),
        health in prop_oneof![Just(Health::Available), Just(Health::Suspect), Just(Health::Lost)],
        maintenance in any::<bool>(), placed in 0..50usize, canary in any::<bool>(), left in 0..3u64,
    ) -> Candidate {
        let mut candidate = cluster(&format!("c-{n}"), &region);
        candidate.weight = weight * 50;
        candidate.cordoned = cordoned;
        candidate.health = health;
        candidate.placed = placed;
        leave(&mut candidate, left);
        candidate.namespaces[0].maintenance = maintenance;
        if canary {
            candidate.constraints = vec![Constraint::Permission(CANARY_PERMISSION.into())];
        }
        candidate
    }
}

proptest! {
    #[test]
    fn a_filtered_cluster_is_never_chosen_and_the_answer_is_the_same_in_any_order(
        fleet in prop::collection::vec(any_candidate(), 0..8), seed in "[a-z]{4}", required in any::<bool>()
    ) {
        let request = PlacementRequest { seed, require_region: required, ..regions(&["europe"]) };
        let decision = place(&request, &fleet);
        prop_assert_eq!(decision.ranked.len() + decision.rejected.len(), fleet.len());
        for (target, _) in &decision.ranked {
            let fits = fleet.iter().any(|c| {
                c.name == target.cluster && c.health == Health::Available && !c.cordoned && c.weight > 0
                    && c.namespaces[0].offers.values().all(|offer| offer.rooms.0[0].left() > 0)
                    && !c.namespaces[0].maintenance && c.constraints.is_empty()
                    && (!required || c.region.as_str() == "europe")
            });
            prop_assert!(fits);
        }
        let mut reversed = fleet.clone();
        reversed.reverse();
        let again = place(&request, &reversed);
        prop_assert_eq!(decision.ranked.first(), again.ranked.first());
    }

    #[test]
    fn adding_a_cluster_never_makes_a_request_unplaceable(
        fleet in prop::collection::vec(any_candidate(), 0..8), extra in any_candidate()
    ) {
        let request = regions(&["europe"]);
        let before = place(&request, &fleet).ranked.len();
        let larger: Vec<Candidate> = fleet.into_iter().chain([extra]).collect();
        prop_assert!(place(&request, &larger).ranked.len() >= before);
    }
}

#[test]
fn the_deadline_of_an_attempt_is_a_third_of_the_start_and_at_least_a_second() {
    let seconds = |of: u64| one_try(Duration::from_secs(of)).as_secs_f64();
    assert_eq!((seconds(1), seconds(9), seconds(60)), (1.0, 3.0, 20.0));
}

#[test]
fn a_namespace_that_is_the_last_choice_comes_after_all_others_and_is_used_where_nothing_else_fits() {
    let mut fleet = fleet();
    fleet[0].namespaces[0].last_choice = Some("its rules rejected the last starts".to_owned());
    let decision = place(&regions(&["europe"]), &fleet);
    let ranked: Vec<&str> = decision.ranked.iter().map(|(target, _)| target.cluster.as_str()).collect();
    assert_eq!((ranked.len(), ranked[2]), (3, "eu-1"), "{ranked:?}");
    assert_eq!(decision.ranked[2].1.last_choice, 1);
    let pinned = PlacementRequest { cluster: Some("eu-1".parse().unwrap()), ..regions(&["europe"]) };
    assert_eq!(chosen(&pinned, &fleet).unwrap(), "eu-1");
    let candidates: Vec<Arc<Candidate>> = fleet.iter().cloned().map(Arc::new).collect();
    let forecast = simulate(&regions(&["europe"]), &candidates, 3);
    let outcome = &forecast.clusters[&fleet[0].name];
    assert_eq!((outcome.placed, outcome.refuses_from.is_none()), (0, true));
    assert_eq!(outcome.last_choice.as_deref(), Some("its rules rejected the last starts"));
    fleet.retain(|cluster| cluster.name.as_str() == "eu-1");
    assert_eq!(chosen(&regions(&["europe"]), &fleet).unwrap(), "eu-1");
}

#[test]
fn of_the_namespaces_of_a_cluster_one_that_is_the_last_choice_comes_last() {
    let mut cluster = cluster("eu-1", "europe");
    let mut second = cluster.namespaces[0].clone();
    second.name = "second".parse().unwrap();
    for offer in second.offers.values_mut() {
        let target = Target { namespace: second.name.clone(), ..Target::clone(&offer.target) };
        offer.target = Arc::new(target);
    }
    cluster.namespaces[0].last_choice = Some("rules".to_owned());
    cluster.namespaces.push(second);
    let ranked = place(&PlacementRequest::default(), &[cluster]).ranked;
    assert_eq!((ranked[0].0.namespace.as_str(), ranked[0].1.last_choice), ("second", 0));
}
