//! What must be in each workspace, and a judge of what is found there. No IO: tested with histories that are bad.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::ground::REPOSITORY;
use crate::harness::Listing;

/// Entries of a violation that are shown.
const SHOWN: usize = 8;

/// What a start asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    Empty,
    Git,
    /// The last backup.
    Backup,
    /// A snapshot's URL.
    Snapshot(String),
}

/// A guarantee that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Content of an earlier stop, while a later one was backed up.
    Older(String),
    /// Content of another workspace.
    Foreign(String),
    /// Entries that differ from those at the stop or the snapshot.
    Differs(String),
    /// What was changed while the workspace ran is not there any more.
    Undone(String),
    /// A snapshot whose URL was given out.
    Dangling(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Older(what) => write!(f, "older content won: {what}"),
            Self::Foreign(what) => write!(f, "content of another workspace: {what}"),
            Self::Differs(what) => write!(f, "content is lost or changed: {what}"),
            Self::Undone(what) => write!(f, "a change was undone while the workspace ran: {what}"),
            Self::Dangling(what) => write!(f, "a snapshot's URL leads nowhere: {what}"),
        }
    }
}

/// A snapshot whose URL was given out.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Content at that time.
    pub content: Listing,
    /// Whether its Snapshot is complete without an error.
    pub is_complete: bool,
    /// Whether a workspace was started from it.
    pub is_restored: bool,
}

/// What is known of all workspaces.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By workspace: the content of each stop that was backed up, the last one at the end.
    stops: BTreeMap<String, Vec<Listing>>,
    /// By URL.
    snapshots: BTreeMap<String, Taken>,
}

impl Ledger {
    /// A workspace was stopped with this content, and its backup is reported as complete.
    pub fn backed_up(&mut self, workspace: &str, content: Listing) {
        self.stops.entry(workspace.to_owned()).or_default().push(content);
    }

    pub fn has_backup(&self, workspace: &str) -> bool {
        self.stops.contains_key(workspace)
    }

    /// A snapshot's URL was given out.
    pub fn taken(&mut self, url: &str, content: Listing, is_complete: bool) {
        self.snapshots.insert(url.to_owned(), Taken { content, is_complete, is_restored: false });
    }

    pub fn snapshots(&self) -> &BTreeMap<String, Taken> {
        &self.snapshots
    }

    /// Complete snapshots that nothing was started from yet.
    pub fn unrestored(&self) -> Vec<String> {
        let open = self.snapshots.iter().filter(|(_, taken)| taken.is_complete && !taken.is_restored);
        open.map(|(url, _)| url.clone()).collect()
    }

    /// A workspace runs, and has this content.
    pub fn found(&mut self, workspace: &str, from: &From, found: &Listing) -> Result<(), Violation> {
        match from {
            From::Empty => only(workspace, found, &["\".\""]),
            From::Git => cloned(workspace, found),
            From::Backup => self.restored(workspace, found),
            From::Snapshot(url) => {
                let taken = self.snapshots.get_mut(url);
                let taken = taken.ok_or_else(|| Violation::Dangling(format!("{url} was not given out")))?;
                taken.is_restored = true;
                let same = found.is(&taken.content);
                same.map_err(|error| Violation::Differs(format!("{workspace} from {url}: {error:#}")))
            }
        }
    }

    fn restored(&self, workspace: &str, found: &Listing) -> Result<(), Violation> {
        let stops = self.stops.get(workspace).map_or(&[][..], Vec::as_slice);
        let Some((last, earlier)) = stops.split_last() else {
            return Err(Violation::Differs(format!("{workspace} has no backup")));
        };
        let Err(difference) = found.is(last) else { return Ok(()) };
        if let Some(at) = earlier.iter().rposition(|stop| found.is(stop).is_ok()) {
            let of = stops.len();
            return Err(Violation::Older(format!("{workspace} has that of stop {} of {of}", at + 1)));
        }
        let others = self.stops.iter().filter(|(other, _)| *other != workspace);
        for (other, stops) in others {
            if stops.iter().any(|stop| stop.len() > 1 && found.is(stop).is_ok()) {
                return Err(Violation::Foreign(format!("{workspace} has that of {other}")));
            }
        }
        Err(Violation::Differs(format!("{workspace}: {difference:#}")))
    }
}

/// A workspace is about to stop: everything that was written while it ran is in it.
pub fn kept(workspace: &str, before: &Listing, written: &[String], now: &Listing) -> Result<(), Violation> {
    if written.is_empty() {
        return now.is(before).map_err(|error| Violation::Undone(format!("{workspace}: {error:#}")));
    }
    let names: BTreeSet<_> = now.names().collect();
    let missing: Vec<_> = written.iter().filter(|name| !names.contains(name.as_str())).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Violation::Undone(format!("{workspace} lacks {missing:?}")))
}

fn cloned(workspace: &str, found: &Listing) -> Result<(), Violation> {
    let inside = format!("\"{REPOSITORY}/");
    let others = found.names().filter(|name| !name.starts_with(&inside));
    let allowed = ["\".\"".to_owned(), format!("\"{REPOSITORY}\"")];
    let others: Vec<_> =
        others.filter(|name| !allowed.iter().any(|allowed| allowed == name)).take(SHOWN).collect();
    let readme = format!("\"{REPOSITORY}/README.md\"");
    if others.is_empty() && found.names().any(|name| name == readme) {
        return Ok(());
    }
    Err(Violation::Differs(format!("{workspace} is no clone, or has more: {others:?}")))
}

fn only(workspace: &str, found: &Listing, names: &[&str]) -> Result<(), Violation> {
    let others: Vec<_> = found.names().filter(|name| !names.contains(name)).take(SHOWN).collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(Violation::Differs(format!("{workspace} should be empty and has {others:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[(&str, &str)]) -> Listing {
        let lines = names.iter().map(|(name, digest)| {
            format!("\"{name}\"\tfile 0644 0:0 1.000000000 4 {digest} - - {{}} [0-4]\n")
        });
        Listing::read(&format!("\".\"\tdir 0755 0:0 1.0 0 - - - {{}} -\n{}", lines.collect::<String>()))
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.backed_up("w1", files(&[("a", "one")]));
        ledger.backed_up("w1", files(&[("a", "two")]));
        ledger.backed_up("w2", files(&[("b", "other")]));
        ledger
    }

    #[test]
    fn only_the_content_of_the_last_stop_is_right_and_each_wrong_one_has_its_name() {
        let found = |content: &Listing| ledger().found("w1", &From::Backup, content);
        assert_eq!(found(&files(&[("a", "two")])), Ok(()));
        assert!(matches!(found(&files(&[("a", "one")])), Err(Violation::Older(_))));
        assert!(matches!(found(&files(&[("b", "other")])), Err(Violation::Foreign(_))));
        assert!(matches!(found(&files(&[])), Err(Violation::Differs(_))));
        assert!(matches!(found(&files(&[("a", "two"), ("half", "x")])), Err(Violation::Differs(_))));
        let never = ledger().found("w3", &From::Backup, &files(&[]));
        assert!(matches!(never, Err(Violation::Differs(_))));
    }

    #[test]
    fn new_content_is_empty_or_a_clone_and_nothing_else() {
        let found = |from: From, content: &Listing| Ledger::default().found("w1", &from, content);
        assert_eq!(found(From::Empty, &files(&[])), Ok(()));
        assert!(found(From::Empty, &files(&[("half", "x")])).is_err());
        let clone = [("project", "-"), ("project/README.md", "x"), ("project/.git/HEAD", "y")];
        assert_eq!(found(From::Git, &files(&clone)), Ok(()));
        assert!(found(From::Git, &files(&clone[..1])).is_err());
        assert!(found(From::Git, &files(&[clone[0], clone[1], ("half", "x")])).is_err());
    }

    #[test]
    fn a_snapshot_has_the_content_of_its_time_and_is_open_until_something_starts_from_it() {
        let mut ledger = ledger();
        ledger.taken("u1", files(&[("a", "snap")]), true);
        ledger.taken("u2", files(&[("a", "snap")]), false);
        assert_eq!(ledger.unrestored(), ["u1"]);
        let from = From::Snapshot("u1".to_owned());
        assert!(ledger.found("copy", &from, &files(&[("a", "two")])).is_err());
        assert_eq!(ledger.found("copy", &from, &files(&[("a", "snap")])), Ok(()));
        assert!(ledger.unrestored().is_empty());
        let unknown = From::Snapshot("u3".to_owned());
        assert!(matches!(ledger.found("copy", &unknown, &files(&[])), Err(Violation::Dangling(_))));
    }

    #[test]
    fn what_was_written_is_there_at_the_stop_and_without_writing_nothing_changes() {
        let before = files(&[("a", "one")]);
        let written = ["\"mark\"".to_owned()];
        assert_eq!(kept("w1", &before, &written, &files(&[("a", "x"), ("mark", "y")])), Ok(()));
        assert!(matches!(kept("w1", &before, &written, &before), Err(Violation::Undone(_))));
        assert_eq!(kept("w1", &before, &[], &before), Ok(()));
        assert!(kept("w1", &before, &[], &files(&[("a", "two")])).is_err());
    }
}
