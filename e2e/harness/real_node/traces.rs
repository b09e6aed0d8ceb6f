//! What a node leaves on a machine while it runs, and must not leave when it has ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// The kernel removes a network namespace in the background.
const GONE: Duration = Duration::from_secs(20);
const NAMESPACES: [&str; 5] = ["pid", "mnt", "net", "uts", "ipc"];

/// How to recognize the traces of one node, also after it has ended.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Traces {
    /// As in `/proc/<pid>/ns/<kind>`.
    namespaces: Vec<(String, PathBuf)>,
    link: String,
    cgroup: String,
    dir: PathBuf,
}

impl Traces {
    /// Of a node with this first process.
    pub(super) fn of(pid: u32, link: String, cgroup: String, dir: &Path) -> Result<Self> {
        let own_namespace = |kind| {
            let id =
                namespace(pid, kind).with_context(|| format!("process {pid} has no {kind} namespace"))?;
            let own = namespace(std::process::id(), kind);
            ensure!(own.as_ref() != Some(&id), "process {pid} has no {kind} namespace of its own");
            Ok((kind.to_owned(), id))
        };
        let namespaces = NAMESPACES.into_iter().map(own_namespace).collect::<Result<_>>()?;
        Ok(Self { namespaces, link, cgroup, dir: dir.to_path_buf() })
    }

    /// Processes in its namespaces, mounts of its files, its control groups, and its network interface.
    pub fn left(&self) -> Vec<String> {
        let mut left =
            self.processes().map(|(pid, name)| format!("process {pid} ({name})")).collect::<Vec<_>>();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let dir = self.dir.to_string_lossy();
        left.extend(
            mounts.lines().filter(|mount| mount.contains(&*dir)).map(|mount| format!("mount {mount}")),
        );
        let groups = mounts.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| {
            let folder = Path::new(line.split(' ').nth(4)?).join(&self.cgroup);
            folder.exists().then(|| format!("control group {}", folder.display()))
        });
        left.extend(groups);
        if Path::new("/sys/class/net").join(&self.link).exists() {
            left.push(format!("network interface {}", self.link));
        }
        left
    }

    /// Process id and name of all that run in its namespaces.
    pub fn processes(&self) -> impl Iterator<Item = (u32, String)> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
        pids.filter(|pid| self.namespaces.iter().any(|(kind, id)| namespace(*pid, kind).as_ref() == Some(id)))
            .map(|pid| {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                (pid, name.trim().to_owned())
            })
    }

    /// Waits until nothing is left; fails with what is.
    pub async fn gone(&self) -> Result<()> {
        super::super::until(GONE, "the node to leave nothing", async || {
            let left = self.left();
            ensure!(left.is_empty(), "it left {}", left.join(", "));
            Ok(())
        })
        .await
    }
}

fn namespace(pid: u32, kind: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()
}
