//! Subvolumes and their quota groups, by the program `btrfs`.
//!
//! The limit is not on the subvolume's own group `0/ID` but on a group above it, `100/ID`: with simple quotas (`btrfs quota enable
//! --simple`, Linux 6.7) subvolumes that a user makes within a workspace then count, too. With full quotas they do not.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::process::Command;
use tokio::time::timeout;

/// Of one call. A commit of a busy file system takes seconds.
const CALL: Duration = Duration::from_mins(1);
/// Level of the groups with limits; nobody else's.
const LEVEL: u32 = 100;
/// The inode of the root of every subvolume.
const ROOT: u64 = 256;
/// As `statfs` names btrfs.
const MAGIC: i128 = 0x9123_683e;
/// Bytes of an answer for a message.
const MESSAGE_MAX: usize = 512;

/// The program.
#[derive(Debug, Clone)]
pub struct Btrfs {
    program: PathBuf,
}

impl Default for Btrfs {
    fn default() -> Self {
        Self { program: PathBuf::from("btrfs") }
    }
}

/// What a group counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Bytes.
    pub used: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
}

impl Btrfs {
    /// Whether limits work in a folder. An error is one sentence that says what to do.
    pub async fn check(&self, root: &Path) -> Result<(), String> {
        let shown = root.display();
        let other = "or set node.quota.backend to measured";
        let opened = root.to_owned();
        let is_btrfs =
            tokio::task::spawn_blocking(move || open(&opened).and_then(is_btrfs)).await.map_err(text)?;
        if !is_btrfs.map_err(|error| format!("the file system of {shown} cannot be read: {error}"))? {
            return Err(format!(
                "node.quota.backend is btrfs-qgroup, but {shown} is not on btrfs: mount a btrfs file system there, {other}"
            ));
        }
        if !is_shared(root) {
            return Err(format!(
                "node.quota.backend is btrfs-qgroup, but mounts below {shown} do not reach containers: give the agent's volume \
                 `mountPropagation: Bidirectional`, {other}"
            ));
        }
        match self.groups(root).await {
            Ok(_) => Ok(()),
            Err(why) if why.contains("not enabled") => Err(format!(
                "node.quota.backend is btrfs-qgroup, but quotas of {shown} are off: run `btrfs quota enable --simple {shown}` on \
                 the node, {other}"
            )),
            Err(why) => Err(format!(
                "node.quota.backend is btrfs-qgroup, but the quota groups of {shown} cannot be read: {why}"
            )),
        }
    }

    /// Makes a subvolume.
    pub async fn create(&self, path: &Path) -> Result<(), String> {
        self.run(["subvolume", "create", "--"], [path]).await.map(drop)
    }

    /// Deletes a subvolume that holds no other ones.
    pub async fn delete(&self, path: &Path) -> Result<(), String> {
        self.run(["subvolume", "delete", "--"], [path]).await.map(drop)
    }

    /// Limits a subvolume; `None` lifts the limit.
    pub async fn limit(&self, volume: &Path, bytes: Option<u64>) -> Result<(), String> {
        let id = self.id(volume).await?;
        let group = format!("{LEVEL}/{id}");
        if !self.groups(volume).await?.iter().any(|one| one.is(LEVEL, id)) {
            self.run(["qgroup", "create", &group], [volume]).await?;
            // Nothing was written yet, so nothing has to be counted again.
            self.run(["qgroup", "assign", "--no-rescan", &format!("0/{id}"), &group], [volume]).await?;
        }
        let most = bytes.map_or_else(|| "none".to_owned(), |bytes| bytes.to_string());
        self.run(["qgroup", "limit", &most, &group], [volume]).await.map(drop)
    }

    /// What is counted for a subvolume; `None` if it has no group.
    pub async fn counted(&self, volume: &Path) -> Result<Option<Counted>, String> {
        let id = self.id(volume).await?;
        let groups = self.groups(volume).await?;
        Ok(groups.iter().find(|one| one.is(LEVEL, id)).map(|one| one.counted))
    }

    /// Removes the groups of subvolumes that are gone. Some can be removed only once the kernel has deleted them completely.
    pub async fn sweep(&self, root: &Path) -> Result<(), String> {
        let list = self.run(["subvolume", "list"], [root]).await?;
        let known: Vec<u64> =
            list.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect();
        let is_stale = |one: &&Group| one.level == LEVEL && !known.contains(&one.id);
        for stale in self.groups(root).await?.iter().filter(is_stale) {
            for group in [format!("0/{}", stale.id), format!("{LEVEL}/{}", stale.id)] {
                if let Err(why) = self.run(["qgroup", "destroy", &group], [root]).await {
                    tracing::debug!(group, why, "a quota group stays for now");
                }
            }
        }
        Ok(())
    }

    async fn id(&self, volume: &Path) -> Result<u64, String> {
        let answer = self.run(["inspect-internal", "rootid"], [volume]).await?;
        answer.trim().parse().map_err(|_| format!("`btrfs inspect-internal rootid` answered {answer:?}"))
    }

    async fn groups(&self, path: &Path) -> Result<Vec<Group>, String> {
        Ok(groups(&self.run(["qgroup", "show", "--raw", "-r"], [path]).await?))
    }

    /// Runs the program. An error is what it said.
    async fn run<'a>(
        &self,
        args: impl IntoIterator<Item = &'a str>,
        paths: impl IntoIterator<Item = &Path>,
    ) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        command.args(args).args(paths.into_iter().map(AsRef::<OsStr>::as_ref));
        command.env("LC_ALL", "C").stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = timeout(CALL, command.output())
            .await
            .map_err(|_| format!("btrfs took longer than {} s", CALL.as_secs()))?;
        let output = output.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                "the agent's image has no program `btrfs` (package btrfs-progs)".to_owned()
            }
            _ => format!("btrfs: {error}"),
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().map(|line| line.trim_start_matches("ERROR: ").trim()).collect();
        Err(domain::text::shown(&said.join("; "), MESSAGE_MAX))
    }
}

/// A row of `btrfs qgroup show`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Group {
    level: u32,
    id: u64,
    counted: Counted,
}

impl Group {
    const fn is(&self, level: u32, id: u64) -> bool {
        self.level == level && self.id == id
    }
}

/// Reads what `btrfs qgroup show --raw -r` prints: group, referenced, exclusive, limit of referenced, and more by version.
fn groups(text: &str) -> Vec<Group> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let (level, id) = words.next()?.split_once('/')?;
        let used = words.next()?.parse().ok()?;
        let limit = words.nth(1)?;
        Some(Group {
            level: level.parse().ok()?,
            id: id.parse().ok()?,
            counted: Counted { used, limit: limit.parse().ok() },
        })
    };
    text.lines().filter_map(row).collect()
}

/// Whether a folder is on btrfs.
fn is_btrfs(folder: impl AsFd) -> io::Result<bool> {
    Ok(i128::from(rustix::fs::fstatfs(folder)?.f_type) == MAGIC)
}

/// Whether the mount that a folder is in passes mounts on.
fn is_shared(folder: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // A later mount hides an earlier one.
    let of_folder = mounts.lines().filter_map(|line| {
        let place = Path::new(line.split(' ').nth(4)?);
        folder.starts_with(place).then_some((place.as_os_str().len(), line))
    });
    let longest = of_folder.max_by_key(|(length, _)| *length);
    longest.is_some_and(|(_, line)| line.split(" - ").next().unwrap_or_default().contains(" shared:"))
}

/// Whether an open folder is the root of a subvolume.
pub fn is_subvolume_root(folder: impl AsFd) -> io::Result<bool> {
    Ok(rustix::fs::fstat(&folder)?.st_ino == ROOT && is_btrfs(folder)?)
}

/// Whether a path is the root of a subvolume. Nothing there is none.
pub fn is_subvolume(path: &Path) -> bool {
    open(path).and_then(is_subvolume_root).unwrap_or(false)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

#[allow(clippy::needless_pass_by_value, reason = "an argument of map_err")]
fn text(error: impl ToString) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_several_versions_of_the_program_are_read() {
        let old = "qgroupid         rfer         excl     max_rfer \n--------         ----         ----     -------- \n\
                   0/5             16384        16384         none \n100/256      20955136     20955136     20971520 \n";
        let new = "Qgroupid    Referenced    Exclusive  Max referenced  Path \n--------    ----------    ---------  --------------  ---- \n\
                   0/5              16384        16384            none  <toplevel>\n\
                   100/256       20955136     20955136        20971520  <0 member qgroups>\n";
        let (none, full) =
            (Counted { used: 16_384, limit: None }, Counted { used: 20_955_136, limit: Some(20_971_520) });
        let expected =
            [Group { level: 0, id: 5, counted: none }, Group { level: 100, id: 256, counted: full }];
        assert_eq!(groups(old), expected);
        assert_eq!(groups(new), expected);
        assert_eq!(groups("nothing\n1/2\n"), []);
    }

    #[tokio::test]
    async fn a_folder_of_another_file_system_is_refused_with_what_to_do() {
        let why = Btrfs::default().check(Path::new("/proc")).await.unwrap_err();
        assert!(why.contains("/proc is not on btrfs: mount a btrfs file system there"), "{why}");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let none = Btrfs { program: PathBuf::from("/no/such/btrfs") };
        let why = none.create(Path::new("/x")).await.unwrap_err();
        assert!(why.contains("btrfs-progs"), "{why}");
    }
}
