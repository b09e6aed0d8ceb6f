//! Available capacity of the nodes of a cluster, counted incrementally without iterating over pods.
//!
//! A [`Ledger`] sums the requests of the pods of each node, and assigns every workspace whose pod has no node yet to one, as
//! the scheduler will. So the available capacity of each node is known, and a burst of starts never counts it twice.

mod available;
mod ledger;
mod node;
mod quota;

use std::ops::{Add, Sub};

pub use available::{Available, Shortage};
pub use ledger::{Ledger, ShapeId};
pub use node::{Node, Operator, Requirement, Shape, Taint, Toleration};
pub use quota::{QuotaLeft, tightest};

/// Amounts of the resources that the scheduler counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resources {
    /// Millicores.
    pub cpu: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of ephemeral storage.
    pub storage: u64,
    /// Pods.
    pub pods: u64,
}

impl Resources {
    /// How many times `each` fits into `self`; `u64::MAX` if `each` is zero.
    pub fn times(&self, each: &Self) -> u64 {
        let pairs = self.each().into_iter().zip(each.each());
        pairs.filter(|(_, each)| *each > 0).map(|(all, each)| all / each).min().unwrap_or(u64::MAX)
    }

    /// Whether every resource is at least that of `other`.
    pub fn covers(&self, other: &Self) -> bool {
        self.each().into_iter().zip(other.each()).all(|(have, want)| have >= want)
    }

    /// The maximum of each resource.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        Self {
            cpu: self.cpu.max(other.cpu),
            memory: self.memory.max(other.memory),
            storage: self.storage.max(other.storage),
            pods: self.pods.max(other.pods),
        }
    }

    const fn each(&self) -> [u64; 4] {
        [self.cpu, self.memory, self.storage, self.pods]
    }
}

impl Add for Resources {
    type Output = Self;

    /// Saturates.
    fn add(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
            storage: self.storage.saturating_add(other.storage),
            pods: self.pods.saturating_add(other.pods),
        }
    }
}

impl Sub for Resources {
    type Output = Self;

    /// Saturates at zero: the pods of a node can request more than it has.
    fn sub(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(other.cpu),
            memory: self.memory.saturating_sub(other.memory),
            storage: self.storage.saturating_sub(other.storage),
            pods: self.pods.saturating_sub(other.pods),
        }
    }
}
