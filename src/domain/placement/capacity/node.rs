//! Which pods fit on which nodes, by the scheduler's filters for labels, taints and conditions.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Resources;

/// The properties of a node that the scheduler's filters use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Taints that keep pods from being scheduled.
    pub taints: Vec<Taint>,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is cordoned.
    pub cordoned: bool,
    /// Allocatable resources.
    pub allocatable: Resources,
}

/// A taint of effect `NoSchedule` or `NoExecute`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value; may be empty.
    pub value: String,
    /// Effect.
    pub effect: String,
}

/// Requirements of pods on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Requests of one pod, with 1 for `pods`.
    pub requests: Resources,
    /// Requirements that must all hold.
    pub all: Vec<Requirement>,
    /// Alternatives, of which one must hold as a whole; empty: no requirement.
    pub any: Vec<Vec<Requirement>>,
    /// Tolerations.
    pub tolerations: Vec<Toleration>,
}

/// A condition on a node's labels, or on its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label; `None` for the node's name.
    pub label: Option<String>,
    /// Operator.
    pub operator: Operator,
    /// Values of the comparison.
    pub values: Vec<String>,
}

/// The operators of node affinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// It is one of the values.
    In,
    /// It is absent or none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
    /// It is a number above the value.
    Gt,
    /// It is a number below the value.
    Lt,
}

/// A toleration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toleration {
    /// The taint's key; `None` for every key.
    pub key: Option<String>,
    /// The taint's value; `None` for every value.
    pub value: Option<String>,
    /// The taint's effect; `None` for every effect.
    pub effect: Option<String>,
}

/// Why pods of a shape do not fit on a node, whatever capacity it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    NotReady,
    Cordoned,
    Labels,
    Taints,
}

impl Node {
    /// Whether pods of a shape fit on the node, apart from capacity.
    pub(super) fn takes(&self, shape: &Shape) -> Result<(), Unfit> {
        if self.cordoned {
            return Err(Unfit::Cordoned);
        }
        if !self.ready {
            return Err(Unfit::NotReady);
        }
        let holds = |requirement: &Requirement| requirement.holds(self);
        if !shape.all.iter().all(holds)
            || (!shape.any.is_empty() && !shape.any.iter().any(|term| term.iter().all(holds)))
        {
            return Err(Unfit::Labels);
        }
        let borne = |taint: &Taint| shape.tolerations.iter().any(|toleration| toleration.bears(taint));
        if self.taints.iter().all(borne) { Ok(()) } else { Err(Unfit::Taints) }
    }
}

impl Requirement {
    fn holds(&self, node: &Node) -> bool {
        let found = match &self.label {
            Some(label) => node.labels.get(label).map(String::as_str),
            None => Some(&*node.name),
        };
        let listed = |found| self.values.iter().any(|value| value == found);
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = self.values.first().and_then(|value| number(value));
        match self.operator {
            Operator::In => found.is_some_and(listed),
            Operator::NotIn => !found.is_some_and(listed),
            Operator::Exists => found.is_some(),
            Operator::DoesNotExist => found.is_none(),
            Operator::Gt => found.and_then(number).zip(bound).is_some_and(|(found, bound)| found > bound),
            Operator::Lt => found.and_then(number).zip(bound).is_some_and(|(found, bound)| found < bound),
        }
    }
}

impl Toleration {
    fn bears(&self, taint: &Taint) -> bool {
        self.key.as_ref().is_none_or(|key| *key == taint.key)
            && self.value.as_ref().is_none_or(|value| *value == taint.value)
            && self.effect.as_ref().is_none_or(|effect| *effect == taint.effect)
    }
}
