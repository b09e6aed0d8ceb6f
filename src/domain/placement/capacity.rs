//! What the nodes of a cluster have left, counted without walking pods.
//!
//! A [`Ledger`] keeps for each node what its pods asked for, and puts every workspace whose pod has no node yet on one,
//! as the scheduler will. So what is left is known a node at a time, and a burst never takes the same room twice.

mod ledger;
mod node;
mod quota;
mod room;

use std::ops::{Add, Sub};

pub use ledger::{Ledger, ShapeId};
pub use node::{Node, Operator, Requirement, Shape, Taint, Toleration};
pub use quota::{QuotaLeft, tightest};
pub use room::{Room, Shortage};

/// Amounts of what a scheduler counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resources {
    /// Processors, in thousandths.
    pub cpu: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of ephemeral storage.
    pub storage: u64,
    /// Pods.
    pub pods: u64,
}

impl Resources {
    /// How many times `each` goes into what `self` is; without end where `each` asks for nothing.
    pub fn times(&self, each: &Self) -> u64 {
        let pairs = self.each().into_iter().zip(each.each());
        pairs.filter(|(_, each)| *each > 0).map(|(all, each)| all / each).min().unwrap_or(u64::MAX)
    }

    /// Whether there is at least as much of everything.
    pub fn covers(&self, other: &Self) -> bool {
        self.each().into_iter().zip(other.each()).all(|(have, want)| have >= want)
    }

    /// The larger of each.
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

    /// Ends at zero: a node can be fuller than it says that it may be.
    fn sub(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(other.cpu),
            memory: self.memory.saturating_sub(other.memory),
            storage: self.storage.saturating_sub(other.storage),
            pods: self.pods.saturating_sub(other.pods),
        }
    }
}
