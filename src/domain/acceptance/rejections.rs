//! Starts in a row that the rules of a namespace rejected: a validating webhook, a policy, a quota, a missing right.
//!
//! What a start asks for may be what a rule rejects, so the namespace stays open and becomes the last choice.

use std::collections::BTreeSet;
use std::time::Duration;

/// Starts in a row that make the namespace the last choice.
const IN_A_ROW: usize = 3;
/// Owners that they must have, where there is more than one.
const OWNERS: usize = 2;
/// How long after the newest rejection it is so.
const AVOIDED: Duration = Duration::from_mins(1);
/// How long after the newest rejection the next one is still in a row with it.
const REMEMBERED: Duration = Duration::from_mins(10);

/// A start that was rejected.
#[derive(Debug, Clone, Copy)]
pub struct RejectedStart<'a> {
    /// The workspace.
    pub workspace: &'a str,
    /// Its owner.
    pub owner: &'a str,
    /// Whether nobody else has workspaces.
    pub is_only_owner: bool,
}

/// Rejected starts since the last accepted one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rejections {
    /// At most [`IN_A_ROW`] of their workspaces: a start that is repeated counts once.
    starts: BTreeSet<String>,
    /// At most [`OWNERS`] of their owners.
    owners: BTreeSet<String>,
    is_only_owner: bool,
    at: Duration,
    reason: String,
}

impl Rejections {
    pub fn add(&mut self, now: Duration, start: RejectedStart<'_>, reason: String) {
        if now.saturating_sub(self.at) >= REMEMBERED {
            *self = Self::default();
        }
        if self.starts.len() < IN_A_ROW {
            self.starts.insert(start.workspace.to_owned());
        }
        if self.owners.len() < OWNERS {
            self.owners.insert(start.owner.to_owned());
        }
        self.is_only_owner = start.is_only_owner;
        (self.at, self.reason) = (now, reason);
    }

    /// Why the namespace is the last choice, with the newest rejection.
    pub fn last_choice(&self, now: Duration) -> Option<String> {
        let is_of_all = self.is_only_owner || self.owners.len() >= OWNERS;
        let is_so = self.starts.len() >= IN_A_ROW && is_of_all && now.saturating_sub(self.at) < AVOIDED;
        is_so.then(|| {
            format!(
                "its rules rejected the last {IN_A_ROW} starts or more, the newest because: {}",
                self.reason
            )
        })
    }
}
