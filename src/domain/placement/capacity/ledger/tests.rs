use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{Operator, Requirement, Taint, Toleration};
use super::*;

fn resources(cpu: u64, memory: u64, pods: u64) -> Resources {
    Resources { cpu, memory, storage: 0, pods }
}

fn node(name: &str, cpu: u64, memory: u64, pods: u64) -> Node {
    Node { name: name.into(), ready: true, allocatable: resources(cpu, memory, pods), ..Node::default() }
}

fn shape(cpu: u64, memory: u64) -> Shape {
    Shape { requests: resources(cpu, memory, 1), ..Shape::default() }
}

fn left(ledger: &Ledger, shape: ShapeId) -> u64 {
    ledger.room(shape).left()
}

fn shortage(ledger: &Ledger, shape: ShapeId) -> String {
    match ledger.room(shape) {
        Available::Counted { shortage: Some(shortage), .. } => shortage.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn capacity_is_counted_per_node_and_by_the_scarcest_resource() {
    let mut ledger = Ledger::default();
    let large = ledger.shape(shape(2000, 100));
    ledger.node(node("a", 3000, 1000, 10));
    ledger.node(node("b", 3000, 1000, 10));
    assert_eq!(left(&ledger, large), 2, "three cores on one node and three on another make two times two");
    ledger.bind("kube-system/agent", "a", resources(1500, 0, 1));
    assert_eq!(left(&ledger, large), 1);
    ledger.unbind("kube-system/agent");
    assert_eq!(left(&ledger, large), 2);
    ledger.node_gone("b");
    assert_eq!(left(&ledger, large), 1);
}

#[test]
fn a_shortage_names_the_maximum_that_one_node_has_available() {
    let mut ledger = Ledger::default();
    let large = ledger.shape(shape(2000, 100));
    assert!(shortage(&ledger, large).starts_with("it has no nodes"));
    ledger.node(node("a", 1500, 1000, 10));
    ledger.node(node("b", 1000, 1000, 10));
    let told = "none of the 2 nodes on which its pods fit has enough cpu (2 wanted, 1500m left at most on one node, 2500m on all)";
    assert_eq!(shortage(&ledger, large), told);
    ledger.node(Node { ready: false, ..node("a", 1500, 1000, 10) });
    ledger.node(Node { cordoned: true, ..node("b", 1000, 1000, 10) });
    assert_eq!(shortage(&ledger, large), "a pod of it fits on none of the 2 nodes: 1 not ready, 1 cordoned");
}

#[test]
fn only_nodes_whose_labels_and_taints_suit_count() {
    let mut ledger = Ledger::default();
    let wanted = Requirement { label: Some("work".into()), operator: Operator::Exists, values: Vec::new() };
    let tolerated = Toleration { key: Some("gpu".into()), value: None, effect: None };
    let id = ledger.shape(Shape { any: vec![vec![wanted]], tolerations: vec![tolerated], ..shape(1, 1) });
    ledger.node(node("plain", 10, 10, 10));
    assert_eq!(left(&ledger, id), 0);
    let labels = BTreeMap::from([("work".to_owned(), "true".to_owned())]);
    let taint = |key: &str| Taint { key: key.into(), value: String::new(), effect: "NoSchedule".into() };
    ledger.node(Node { labels: labels.clone(), taints: vec![taint("gpu")], ..node("suits", 10, 10, 10) });
    assert_eq!(left(&ledger, id), 10);
    ledger.node(Node { labels, taints: vec![taint("other")], ..node("tainted", 10, 10, 10) });
    assert_eq!(left(&ledger, id), 10);
}

#[test]
fn a_reservation_follows_its_pod_and_is_reassigned_when_the_scheduler_uses_its_node() {
    let mut ledger = Ledger::default();
    let id = ledger.shape(shape(1000, 0));
    ledger.node(node("a", 1000, 0, 10));
    ledger.node(node("b", 1000, 0, 10));
    assert!(ledger.reserve("one", id), "on a");
    assert!(ledger.reserve("two", id), "on b");
    assert!(!ledger.reserve("three", id));
    // The scheduler decides differently.
    ledger.settled("one");
    ledger.bind("pod-of-one", "b", resources(1000, 0, 1));
    assert_eq!(left(&ledger, id), 0, "two waits on a now");
    ledger.settled("two");
    ledger.bind("pod-of-two", "a", resources(1000, 0, 1));
    assert_eq!(left(&ledger, id), 0);
    ledger.unbind("pod-of-one");
    assert_eq!(left(&ledger, id), 1);
}

#[test]
fn available_capacity_is_assigned_to_waiting_workspaces_first() {
    let mut ledger = Ledger::default();
    let id = ledger.shape(shape(1000, 0));
    ledger.wait("early", id);
    assert_eq!(ledger.waiting(), 1);
    ledger.node(node("a", 1000, 0, 10));
    assert_eq!(left(&ledger, id), 0);
    ledger.settled("early");
    assert_eq!(left(&ledger, id), 1);
}

#[test]
fn pods_on_an_unknown_node_count_once_it_is_known() {
    let mut ledger = Ledger::default();
    let id = ledger.shape(shape(1000, 0));
    ledger.bind("pod", "a", resources(1000, 0, 1));
    ledger.node(node("a", 2000, 0, 10));
    assert_eq!(left(&ledger, id), 1);
    ledger.node_gone("a");
    ledger.unbind("pod");
    ledger.node(node("a", 2000, 0, 10));
    assert_eq!(left(&ledger, id), 2);
}

#[derive(Debug, Clone)]
enum Step {
    Node(u8, u64),
    NodeGone(u8),
    Reserve(u8, bool),
    Bind(u8),
    Over(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u8, 0..5000u64).prop_map(|(n, cpu)| Step::Node(n, cpu)),
        (0..4u8).prop_map(Step::NodeGone),
        (0..30u8, any::<bool>()).prop_map(|(w, large)| Step::Reserve(w, large)),
        (0..30u8).prop_map(Step::Bind),
        (0..30u8).prop_map(Step::Over),
    ]
}

proptest! {
    #[test]
    fn the_incremental_count_is_what_a_count_from_scratch_gives(steps in prop::collection::vec(step(), 0..80)) {
        let mut ledger = Ledger::default();
        let small = ledger.shape(shape(500, 1));
        let large = ledger.shape(shape(1300, 1));
        for step in steps {
            match step {
                Step::Node(n, cpu) => ledger.node(node(&format!("n{n}"), cpu, 1000, 6)),
                Step::NodeGone(n) => ledger.node_gone(&format!("n{n}")),
                Step::Reserve(w, large_one) => {
                    ledger.reserve(&format!("w{w}"), if large_one { large } else { small });
                }
                Step::Bind(w) => {
                    let key = format!("w{w}");
                    let at = ledger.waiting.get(&key).cloned();
                    if let Some((shape, Some(node))) = at {
                        let requests = ledger.shapes[shape.0].requests;
                        ledger.settled(&key);
                        ledger.bind(&key, &node, requests);
                    }
                }
                Step::Over(w) => {
                    ledger.settled(&format!("w{w}"));
                    ledger.unbind(&format!("w{w}"));
                }
            }
            for id in [small, large] {
                let requests = ledger.shapes[id.0].requests;
                let counted: u64 = ledger.nodes.values()
                    .map(|entry| if entry.is_over() { 0 } else { entry.free().times(&requests) })
                    .sum();
                prop_assert_eq!(left(&ledger, id), counted);
                // No workspace is unassigned while capacity is available.
                prop_assert!(counted == 0 || ledger.unassigned[id.0].is_empty());
            }
            for entry in ledger.nodes.values() {
                let promised = entry.reserved.iter()
                    .fold(Resources::default(), |sum, guest| sum + ledger.shapes[ledger.waiting[guest].0.0].requests);
                prop_assert_eq!(promised, entry.promised);
            }
        }
    }

    #[test]
    fn a_burst_never_takes_more_than_nodes_have(
        nodes in prop::collection::vec((0..9000u64, 0..9u64), 0..6),
        burst in prop::collection::vec(0..3usize, 0..60),
    ) {
        let mut ledger = Ledger::default();
        let ids: Vec<ShapeId> = [300, 1000, 2500].into_iter().map(|cpu| ledger.shape(shape(cpu, 0))).collect();
        for (n, (cpu, pods)) in nodes.iter().enumerate() {
            ledger.node(node(&format!("n{n}"), *cpu, 0, *pods));
        }
        for (n, kind) in burst.into_iter().enumerate() {
            let room = left(&ledger, ids[kind]);
            prop_assert_eq!(ledger.reserve(&format!("w{n}"), ids[kind]), room > 0);
        }
        for entry in ledger.nodes.values() {
            prop_assert!(!entry.is_over());
        }
    }
}
