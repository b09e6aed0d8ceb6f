//! How helpers are set up on this node.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Of all helpers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// The program that answers [`super::main`]; the agent's own one if not set.
    pub program: Option<PathBuf>,
    /// Files and folders of the agent's root that a helper sees, read-only, at the same place: git, its libraries, certificates.
    /// Those that do not exist are left out.
    pub folders: Vec<PathBuf>,
    /// Where the helper builds its root, an existing folder of the agent's root. Nothing is written there.
    pub scratch: PathBuf,
    /// User and group ids: inside, on the node, how many.
    pub id_map: Vec<(u32, u32, u32)>,
    /// Variables of git and of downloads, such as `https_proxy`.
    pub environment: Vec<(String, String)>,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds of one helper.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Limits {
    /// Processes and threads.
    pub processes: u64,
    /// Open files of one process.
    pub files: u64,
    /// Bytes of private memory of one process of git. Files that it maps, such as packs, do not count.
    pub git: u64,
    /// Bytes of private memory of a helper's own work: archives and downloads.
    pub own: u64,
    /// Bytes of address space of one process.
    pub space: u64,
    /// Bytes of one file.
    pub file_size: u64,
    /// Bytes of the helper's `/tmp`, which is memory.
    pub temporary: u64,
    /// Bytes of all files of a download.
    pub download: u64,
}

impl Limits {
    /// Bytes of private memory of one process.
    pub(super) fn private(&self, runs_git: bool) -> u64 {
        if runs_git { self.git } else { self.own }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let folders = [
            "/usr",
            "/bin",
            "/sbin",
            "/lib",
            "/lib64",
            "/etc/ssl/certs",
            "/etc/pki/tls/certs",
            "/etc/pki/ca-trust/extracted",
            "/etc/ssh/ssh_known_hosts",
            "/etc/alternatives",
            "/etc/ld.so.cache",
            "/etc/nsswitch.conf",
            "/etc/resolv.conf",
            "/etc/hosts",
        ];
        Self {
            program: None,
            folders: folders.map(PathBuf::from).to_vec(),
            scratch: PathBuf::from("/tmp"),
            id_map: vec![(0, 33_333, 1), (1, 100_000, 65_534)],
            environment: Vec::new(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            processes: 512,
            files: 4096,
            git: GIB,
            own: GIB / 4,
            space: 16 * GIB,
            file_size: 512 * GIB,
            temporary: GIB / 4,
            download: 10 * GIB,
        }
    }
}
