//! Available capacity of a cluster for workspaces of one class, and what is missing if there is none.

use std::fmt;
use std::sync::Arc;

use super::node::Unfit;
use super::{Node, QuotaLeft, Resources, Shape, tightest};

/// Available capacity for workspaces of one class and kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Available {
    /// Nodes and pods were not listed yet.
    Unknown,
    /// Counted on nodes.
    Counted {
        /// How many more fit now. Workspaces whose pods have no node yet are subtracted.
        left: u64,
        /// How many would fit on empty nodes.
        of: u64,
        /// What is missing, if none fits.
        shortage: Option<Arc<Shortage>>,
    },
}

impl Available {
    /// How many more fit; 0 if not known.
    pub fn left(&self) -> u64 {
        match self {
            Self::Unknown => 0,
            Self::Counted { left, .. } => *left,
        }
    }

    /// Reduces it to what the quotas of the namespace allow for pods with these requests.
    #[must_use]
    pub fn within(self, quotas: &[QuotaLeft], each: &Resources) -> Self {
        let Some((name, allowed)) = tightest(quotas, each) else { return self };
        match self {
            Self::Counted { left, of, shortage } if allowed < left || allowed == 0 => {
                let full = || Arc::new(Shortage { quota: Some(name.to_owned()), ..Shortage::default() });
                let shortage = if allowed == 0 { Some(full()) } else { shortage };
                Self::Counted { left: allowed, of, shortage }
            }
            other => other,
        }
    }

    /// Whether a quota is used up: an autoscaler cannot help then.
    pub fn is_quota_full(&self) -> bool {
        matches!(self, Self::Counted { left: 0, shortage: Some(shortage), .. } if shortage.quota.is_some())
    }
}

/// What is missing for one more pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shortage {
    /// The ResourceQuota of the namespace that is used up.
    quota: Option<String>,
    /// Number of nodes of the cluster.
    nodes: usize,
    not_ready: usize,
    cordoned: usize,
    labels: usize,
    taints: usize,
    /// Number of nodes on which such pods fit, apart from capacity.
    fitting: usize,
    wanted: Resources,
    /// Maximum available on one fitting node, for each resource separately.
    most: Resources,
    /// Sum of what all fitting nodes have available.
    sum: Resources,
}

impl Shortage {
    /// Counts over nodes with their available resources.
    pub(super) fn of<'a>(shape: &Shape, nodes: impl Iterator<Item = (&'a Node, Resources)>) -> Self {
        let mut shortage = Self { wanted: shape.requests, ..Self::default() };
        for (node, free) in nodes {
            shortage.nodes += 1;
            match node.takes(shape) {
                Ok(()) => {
                    shortage.fitting += 1;
                    shortage.most = shortage.most.max(&free);
                    shortage.sum = shortage.sum + free;
                }
                Err(Unfit::NotReady) => shortage.not_ready += 1,
                Err(Unfit::Cordoned) => shortage.cordoned += 1,
                Err(Unfit::Labels) => shortage.labels += 1,
                Err(Unfit::Taints) => shortage.taints += 1,
            }
        }
        shortage
    }

    /// Each resource: name, unit, request, maximum on one node, sum.
    fn resources(&self) -> [(&'static str, Unit, u64, u64, u64); 4] {
        let (wanted, most, sum) = (&self.wanted, &self.most, &self.sum);
        [
            ("cpu", Unit::Milli, wanted.cpu, most.cpu, sum.cpu),
            ("memory", Unit::Bytes, wanted.memory, most.memory, sum.memory),
            ("ephemeral storage", Unit::Bytes, wanted.storage, most.storage, sum.storage),
            ("pods", Unit::Count, wanted.pods, most.pods, sum.pods),
        ]
    }

    fn unfit(&self) -> String {
        let counted = [
            (self.not_ready, "not ready"),
            (self.cordoned, "cordoned"),
            (self.labels, "without the labels that the pod requires"),
            (self.taints, "tainted"),
        ];
        let told: Vec<String> = counted
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        told.join(", ")
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(quota) = &self.quota {
            return write!(f, "ResourceQuota {quota} of the namespace has too little left");
        }
        if self.wanted == Resources::default() {
            return f.write_str("its available capacity is used up by then");
        }
        if self.nodes == 0 {
            return f.write_str("it has no nodes (where an autoscaler adds them: capacity: unlimited)");
        }
        if self.fitting == 0 {
            return write!(f, "a pod of it fits on none of the {} nodes: {}", self.nodes, self.unfit());
        }
        let short: Vec<String> = self
            .resources()
            .iter()
            .filter(|(_, _, wanted, most, _)| wanted > most)
            .map(|(name, unit, wanted, most, sum)| {
                let (wanted, most, sum) = (unit.show(*wanted), unit.show(*most), unit.show(*sum));
                format!("{name} ({wanted} wanted, {most} left at most on one node, {sum} on all)")
            })
            .collect();
        if short.is_empty() {
            write!(
                f,
                "none of the {} nodes on which its pods fit has enough of all resources",
                self.fitting
            )?;
        } else {
            write!(
                f,
                "none of the {} nodes on which its pods fit has enough {}",
                self.fitting,
                short.join(" and ")
            )?;
        }
        let unfit = self.unfit();
        if unfit.is_empty() { Ok(()) } else { write!(f, "; others are {unfit}") }
    }
}

#[derive(Clone, Copy)]
enum Unit {
    Milli,
    Bytes,
    Count,
}

impl Unit {
    fn show(self, amount: u64) -> String {
        const MEBI: u64 = 1 << 20;
        match self {
            Self::Milli if amount.is_multiple_of(1000) => (amount / 1000).to_string(),
            Self::Milli => format!("{amount}m"),
            Self::Bytes if amount >= MEBI => format!("{}Mi", amount / MEBI),
            Self::Bytes | Self::Count => amount.to_string(),
        }
    }
}
