//! What a workspace takes on the disk, as `du` counts.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;

use content::tree::{self, Excludes, Kind, Walk};

use super::Answer;

/// Files with several names that are remembered. The names of further ones count once each.
const LINKED_MAX: usize = 1 << 20;
/// Bytes of a block as `stat` counts.
const BLOCK: u64 = 512;

/// Adds up the blocks of all entries, of files with several names once.
pub(super) fn measure(workspace: BorrowedFd<'_>) -> Result<Answer, tree::Error> {
    let excludes = Excludes::none();
    let mut walk = Walk::new(workspace, &excludes);
    let (mut entries, mut blocks, mut linked) = (0_u64, 0_u64, HashSet::new());
    while let Some(entry) = walk.next()? {
        entries += 1;
        let stat = entry.stat;
        let is_linked = stat.kind != Kind::Directory && stat.links > 1;
        let is_known = is_linked && linked.contains(&(stat.device, stat.inode));
        if is_linked && linked.len() < LINKED_MAX {
            linked.insert((stat.device, stat.inode));
        }
        if !is_known {
            blocks = blocks.saturating_add(stat.blocks);
        }
    }
    Ok(Answer::Measured { entries, bytes: blocks.saturating_mul(BLOCK) })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;

    use super::*;

    fn measured(root: &std::path::Path) -> (u64, u64) {
        match measure(File::open(root).unwrap().as_fd()).unwrap() {
            Answer::Measured { entries, bytes } => (entries, bytes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hard_links_count_once_and_holes_do_not() {
        let root = tempfile::tempdir().unwrap();
        let (_, empty) = measured(root.path());
        fs::write(root.path().join("a"), vec![1; 256 << 10]).unwrap();
        fs::hard_link(root.path().join("a"), root.path().join("b")).unwrap();
        File::create(root.path().join("sparse")).unwrap().set_len(1 << 30).unwrap();
        let (entries, bytes) = measured(root.path());
        let grown = bytes - empty;
        assert_eq!(entries, 4);
        assert!((256 << 10..320 << 10).contains(&grown), "{grown}");
    }
}
