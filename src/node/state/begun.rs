//! How often an operation killed its agent: each try is noted before it begins.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Agents that an operation may kill, one after the other, until it is given up.
pub const KILLED_MAX: u32 = 5;

/// The agent that has the folders of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agents {
    /// When this one began.
    pub own: Timestamp,
    /// When the last one began that ended in order: what it did not complete did not kill it.
    pub ended: Option<Timestamp>,
}

/// A try that began and did not end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begun {
    /// When the agent began that runs it.
    agent: Timestamp,
    /// Agents that were killed during it, and sent nothing.
    killed: u32,
    /// Bytes that the store had when it began.
    #[serde(default)]
    sent: u64,
}

impl Begun {
    /// The next try, of this agent. `before` is the one that did not end; `sent` are the bytes that the store has now.
    pub fn next(before: Option<&Self>, agents: Agents, sent: u64) -> Self {
        let killed = match before {
            Some(begun) if sent > begun.sent => 0,
            // This agent goes on after an error of the disk, or the one before was stopped.
            Some(begun) if begun.agent == agents.own || Some(begun.agent) == agents.ended => begun.killed,
            Some(begun) => begun.killed.saturating_add(1),
            None => 0,
        };
        Self { agent: agents.own, killed, sent }
    }

    /// The agents that were killed, if it is to be given up.
    pub fn is_deadly(&self) -> Option<u32> {
        (self.killed >= KILLED_MAX).then_some(self.killed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_agents_that_were_killed_count_and_progress_begins_the_count_again() {
        let agents = |own, ended: Option<i64>| Agents { own: at(own), ended: ended.map(at) };
        let mut begun = Begun::next(None, agents(1, None), 0);
        assert_eq!(begun.killed, 0);
        // The same agent again, after an error of the disk.
        begun = Begun::next(Some(&begun), agents(1, None), 0);
        assert_eq!(begun.killed, 0);
        begun = Begun::next(Some(&begun), agents(2, None), 0);
        assert_eq!(begun.killed, 1);
        begun = Begun::next(Some(&begun), agents(3, Some(2)), 0);
        assert_eq!(begun.killed, 1);
        for agent in 4..8 {
            assert_eq!(begun.is_deadly(), None);
            begun = Begun::next(Some(&begun), agents(agent, Some(2)), 0);
        }
        assert_eq!(begun.is_deadly(), Some(5));
        begun = Begun::next(Some(&begun), agents(9, Some(2)), 10);
        assert_eq!(begun.is_deadly(), None);
    }
}
