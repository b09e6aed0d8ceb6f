//! The table of hard links, of bounded size.

use std::collections::HashMap;

use crate::tree::Stat;

/// Most bytes of the table, by an estimate of what an entry takes besides its path.
const LARGEST: usize = 24 << 20;
const OVERHEAD: usize = 96;

/// Files with several links of which not all were seen.
#[derive(Debug, Default)]
pub(super) struct Links {
    seen: HashMap<(u64, u64), Link>,
    bytes: usize,
    groups: u64,
}

#[derive(Debug)]
struct Link {
    path: Box<[u8]>,
    group: u64,
    left: u64,
}

/// What the table says about a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The first of its links; the number of its group.
    First(u64),
    /// A further link to the file that was archived under this path.
    Again(Vec<u8>, u64),
    /// The table is full.
    Full,
}

impl Links {
    pub(super) fn look(&mut self, stat: &Stat, path: &[u8]) -> Known {
        let key = (stat.device, stat.inode);
        if let Some(link) = self.seen.get_mut(&key) {
            let again = Known::Again(link.path.to_vec(), link.group);
            link.left = link.left.saturating_sub(1);
            if link.left == 0
                && let Some(link) = self.seen.remove(&key)
            {
                self.bytes -= link.path.len() + OVERHEAD;
            }
            return again;
        }
        if self.bytes + path.len() + OVERHEAD > LARGEST {
            return Known::Full;
        }
        self.bytes += path.len() + OVERHEAD;
        self.groups += 1;
        let left = stat.links.saturating_sub(1);
        self.seen.insert(key, Link { path: path.into(), group: self.groups, left });
        Known::First(self.groups)
    }
}

impl Links {
    /// Takes a file out that was not archived after all.
    pub(super) fn forget(&mut self, stat: &Stat) {
        if let Some(link) = self.seen.remove(&(stat.device, stat.inode)) {
            self.bytes -= link.path.len() + OVERHEAD;
        }
    }
}
