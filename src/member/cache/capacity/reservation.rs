//! Capacity that is reserved for a start in flight.

use std::sync::Arc;

use super::{Capacity, key};
use domain::names::Namespace;
use domain::workspace::Kind;

/// Capacity of one start that is not recorded yet. Dropping it releases the capacity, so that a cancelled start holds nothing.
#[must_use]
pub struct Reservation {
    capacity: Arc<Capacity>,
    /// Namespace and workspace; absent where nothing had to be reserved, or the record holds it now.
    of: Option<(Namespace, String)>,
}

impl Capacity {
    /// Reserves capacity for a start; `must`: only where there is some. `None`: it may not go on.
    pub fn reserve(
        self: &Arc<Self>,
        namespace: &Namespace,
        workspace: &str,
        class: &str,
        kind: Kind,
        must: bool,
    ) -> Option<Reservation> {
        let held = |of| Some(Reservation { capacity: Arc::clone(self), of });
        let mut inner = self.inner.lock();
        let Some(shape) = inner.shapes.get(&(namespace.clone(), class.to_owned(), kind)).copied() else {
            return held(None);
        };
        let key = key(namespace.as_str(), workspace);
        if inner.workspaces.get(&key).is_some_and(|waits| waits.wanted.is_some() || !waits.pods.is_empty()) {
            return held(None);
        }
        inner.rooms = None;
        if !inner.ledger.reserve(&key, shape) {
            if must {
                return None;
            }
            inner.ledger.wait(&key, shape);
        }
        let is_held = inner.workspaces.entry(key).or_default().claimed.replace(shape).is_some();
        held((!is_held).then(|| (namespace.clone(), workspace.to_owned())))
    }

    /// Releases the capacity that a failed start had reserved.
    pub fn release(&self, namespace: &Namespace, workspace: &str) {
        let key = key(namespace.as_str(), workspace);
        self.change(|inner| inner.workspace(&key, |waits| waits.claimed = None));
    }

    /// Releases every reservation: other replicas settle those of an earlier term of this one.
    pub fn release_all(&self) {
        self.change(|inner| {
            let claimed = inner.workspaces.iter().filter(|(_, waits)| waits.claimed.is_some());
            let keys: Vec<String> = claimed.map(|(key, _)| key.clone()).collect();
            for key in keys {
                inner.workspace(&key, |waits| waits.claimed = None);
            }
        });
    }
}

impl Reservation {
    /// The start is recorded: its capacity stays reserved until its resource is seen, or [`Capacity::release`].
    pub fn keep(mut self) {
        self.of = None;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some((namespace, workspace)) = self.of.take() {
            self.capacity.release(&namespace, &workspace);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;
    use serde_json::json;

    use super::*;
    use crate::cache::Source;
    use domain::placement::capacity::{Available, Resources, Shape};
    use k8s::convert;

    /// A cluster with capacity for one workspace of class `c`.
    fn capacity() -> (Arc<Capacity>, Namespace) {
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": "n" },
            "status": {
                "allocatable": { "cpu": "4", "memory": "4Gi", "pods": "1" },
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        }))
        .unwrap();
        let (capacity, namespace) = (Arc::new(Capacity::default()), "ws".parse::<Namespace>().unwrap());
        let requests = Resources { pods: 1, ..Resources::default() };
        let shape = Shape { requests, ..Shape::default() };
        capacity.set_shapes(&namespace, [("c".to_owned(), Kind::Regular, shape)]);
        capacity.begin(&Source::Nodes);
        capacity.put_node(convert::node(&node));
        capacity.end(&Source::Nodes);
        (capacity, namespace)
    }

    fn left(capacity: &Capacity, namespace: &Namespace) -> Available {
        capacity.rooms()[&(namespace.clone(), "c".to_owned(), Kind::Regular)].clone()
    }

    #[test]
    fn a_start_that_is_given_up_before_it_is_recorded_holds_no_capacity() {
        let (capacity, namespace) = capacity();
        let empty = left(&capacity, &namespace);
        let reservation = capacity.reserve(&namespace, "a", "c", Kind::Regular, true).unwrap();
        assert_ne!(left(&capacity, &namespace), empty);
        assert!(capacity.reserve(&namespace, "b", "c", Kind::Regular, true).is_none(), "it is taken");
        drop(reservation);
        assert_eq!((left(&capacity, &namespace), capacity.totals().waiting), (empty, 0));
        assert!(capacity.reserve(&namespace, "b", "c", Kind::Regular, true).is_some());
    }

    #[test]
    fn what_a_record_holds_stays_reserved_until_it_is_released() {
        let (capacity, namespace) = capacity();
        let empty = left(&capacity, &namespace);
        capacity.reserve(&namespace, "a", "c", Kind::Regular, true).unwrap().keep();
        assert_ne!(left(&capacity, &namespace), empty);
        // A repeat of the start reserves it once more, and is cancelled.
        drop(capacity.reserve(&namespace, "a", "c", Kind::Regular, false).unwrap());
        assert_ne!(left(&capacity, &namespace), empty, "the record holds it");
        capacity.release(&namespace, "a");
        assert_eq!(left(&capacity, &namespace), empty);
    }

    #[test]
    fn what_is_not_known_of_is_not_reserved() {
        let (capacity, namespace) = capacity();
        let empty = left(&capacity, &namespace);
        let reservation = capacity.reserve(&namespace, "a", "no-class", Kind::Regular, true);
        assert!(reservation.is_some());
        assert_eq!(left(&capacity, &namespace), empty);
    }
}
