//! A tree of files as `filetree list` prints it, entry by entry.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

/// Differences that an error shows.
const SHOWN: usize = 8;

/// Entries by their quoted name, without what the agent itself writes (`.gitpod/ready`) and the times it moves by that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing(BTreeMap<String, String>);

impl Listing {
    pub fn read(text: &str) -> Self {
        let entry = |line: &str| {
            let (name, rest) = line.split_once('\t')?;
            if name.starts_with("\".gitpod") {
                return None;
            }
            // The time of the root moves when `.gitpod` is made.
            let rest = if name == "\".\"" {
                rest.split(' ').take(3).collect::<Vec<_>>().join(" ")
            } else {
                rest.to_owned()
            };
            Some((name.to_owned(), rest))
        };
        Self(text.lines().filter_map(entry).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Quoted names of all entries, in order. The root is `"."`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Fails with the first differences.
    pub fn is(&self, wanted: &Self) -> Result<()> {
        let names = self.0.keys().chain(wanted.0.keys()).collect::<std::collections::BTreeSet<_>>();
        let different: Vec<String> = names
            .into_iter()
            .filter(|name| self.0.get(*name) != wanted.0.get(*name))
            .map(|name| {
                let show =
                    |listing: &Self| listing.0.get(name).cloned().unwrap_or_else(|| "missing".to_owned());
                format!("{name}: {} instead of {}", show(self), show(wanted))
            })
            .collect();
        ensure!(
            different.is_empty(),
            "{} entries differ:\n{}",
            different.len(),
            different.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n")
        );
        Ok(())
    }
}
