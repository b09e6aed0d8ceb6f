//! A workspace folder of the workspace's user, and helpers for it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use content::initializer::scrub::Scrubber;
use content::initializer::{Plan, Step, parse};
use domain::secret::Secret;
use node::helper::{Error, Helper, Job, Operation, Outcome, Running, Settings};
use prost::Message;
use proto::contentservice::workspace_initializer::Spec;
use proto::contentservice::{GitInitializer, WorkspaceInitializer};

/// The container's user 0 on the node.
pub const USER: u32 = 33_333;

pub struct Stage {
    folder: tempfile::TempDir,
    pub settings: Settings,
}

impl Stage {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(USER), Some(USER)).unwrap();
        Self { folder, settings: Settings::default() }
    }

    pub fn path(&self, inner: &str) -> PathBuf {
        self.folder.path().join(inner)
    }

    pub fn read(&self, inner: &str) -> String {
        fs::read_to_string(self.path(inner)).unwrap()
    }

    pub fn write(&self, inner: &str, text: &str) {
        let path = self.path(inner);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        give(&self.path(""));
    }

    fn job(&self, operation: Operation) -> Job {
        let workspace = self.folder.path().to_path_buf();
        Job { workspace, operation, deadline: Duration::from_mins(2), scrubber: Scrubber::default() }
    }

    pub async fn start(&self, operation: Operation, deadline: Duration) -> Result<Running, Error> {
        Helper::new(self.settings.clone()).start(Job { deadline, ..self.job(operation) }).await
    }

    pub async fn run(&self, operation: Operation) -> Result<Outcome, Error> {
        Helper::new(self.settings.clone()).run(self.job(operation)).await
    }

    pub async fn probe(&self, request: serde_json::Value) -> serde_json::Value {
        match self.run(Operation::Archive { request }).await.unwrap() {
            Outcome::Archive { result } => result,
            other => panic!("{other:?}"),
        }
    }

    pub async fn clone(&self, git: GitInitializer) -> Result<Outcome, Error> {
        let plan = plan(Spec::Git(git));
        let Step::Git(git) = &plan.steps[0] else { panic!("{plan:?}") };
        self.run(Operation::clone_of(git)).await
    }

    /// Runs git as root, to look at a result.
    pub fn git(&self, folder: &str, arguments: &[&str]) -> String {
        git(&self.path(folder), arguments)
    }

    /// All files with their owner, the root first.
    pub fn owners(&self) -> Vec<(PathBuf, u32, u32)> {
        let mut left = vec![self.path("")];
        let mut found = Vec::new();
        while let Some(path) = left.pop() {
            let stat = fs::symlink_metadata(&path).unwrap();
            if stat.is_dir() {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            found.push((path, stat.uid(), stat.gid()));
        }
        found
    }

    /// Whether no file has this text, compressed objects of git aside.
    pub fn has_nowhere(&self, text: &str) -> bool {
        self.owners().iter().all(|(path, ..)| {
            let content = fs::read(path).unwrap_or_default();
            !content.windows(text.len()).any(|window| window == text.as_bytes())
        })
    }
}

/// Gives all below a folder to the workspace's user.
pub fn give(folder: &Path) {
    let status = Command::new("chown").args(["-R", "-h", "33333:33333"]).arg(folder).status().unwrap();
    assert!(status.success());
}

pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "safe.directory=*",
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn plan(spec: Spec) -> Plan {
    let secrets: BTreeMap<String, Secret<String>> = BTreeMap::new();
    parse(&WorkspaceInitializer { spec: Some(spec) }.encode_to_vec(), &secrets).unwrap()
}

/// Name of a process that a helper of this process leaves running.
pub fn sleeper() -> String {
    format!("planted-sleep-of-{}-", std::process::id())
}

/// Command lines of the helpers of this process, and of all that they started, zombies included.
pub fn left_over() -> Vec<String> {
    let marker = format!("content-helper\0{}", std::process::id());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).into_owned();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let parent =
            stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)).map(str::to_owned);
        let is_ours = parent == Some(std::process::id().to_string());
        if line.contains(&marker) || (is_ours && !stat.is_empty()) || line.contains(&sleeper()) {
            found.push(format!("{line} {stat}"));
        }
    }
    found
}
