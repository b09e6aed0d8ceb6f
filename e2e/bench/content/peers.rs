//! The programs beside which the agent is measured, each as a user would call it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use e2e::harness::assets::target_dir;
use tokio::time::Instant;

use super::Took;
use super::memory::{Used, Watch};

/// A program with its calls, as scripts over `$TREE`, `$REPOSITORY` and `$OUT`.
pub struct Peer {
    pub name: &'static str,
    prepare: &'static str,
    backup: &'static str,
    restore: &'static str,
}

/// Where a peer works.
pub struct Places<'a> {
    pub tree: &'a Path,
    pub repository: &'a Path,
    pub out: &'a Path,
    /// For its configuration and caches.
    pub home: &'a Path,
}

pub const PEERS: [Peer; 3] = [
    Peer {
        name: super::FLOOR,
        prepare: "true",
        backup: "tar -C \"$TREE\" --sparse -cf - . | zstd -q -3 -T2 -f -o \"$REPOSITORY/full.tar.zst\"",
        restore: "zstd -q -dc \"$REPOSITORY/full.tar.zst\" | tar -C \"$OUT\" -xf -",
    },
    Peer {
        name: "restic",
        prepare: "restic -q init",
        backup: "restic -q backup \"$TREE\"",
        restore: "restic -q restore latest --target \"$OUT\"",
    },
    Peer {
        name: "kopia",
        prepare: "kopia repository create filesystem --path \"$REPOSITORY\" && kopia policy set --global --compression zstd",
        backup: "kopia snapshot create --no-progress \"$TREE\"",
        restore: "kopia snapshot restore --no-progress \
                  \"$(kopia snapshot list --json \"$TREE\" | tr ',' '\\n' | sed -n 's/.*\"obj\":\"\\(k[0-9a-f]*\\)\".*/\\1/p' | tail -1)\" \
                  \"$OUT\"",
    },
];

impl Peer {
    pub fn prepare(&self, places: &Places<'_>) -> Result<()> {
        self.run(places, self.prepare).map(drop)
    }

    pub fn backup(&self, places: &Places<'_>) -> Result<Took> {
        self.run(places, self.backup)
    }

    /// Ends with a sync.
    pub fn restore(&self, places: &Places<'_>) -> Result<Took> {
        self.run(places, &format!("{} && sync -f \"$OUT\"", self.restore))
    }

    fn run(&self, places: &Places<'_>, script: &str) -> Result<Took> {
        let text = |path: &Path| path.display().to_string();
        let variables = [
            ("TREE", text(places.tree)),
            ("REPOSITORY", text(places.repository)),
            ("OUT", text(places.out)),
            ("HOME", text(places.home)),
            ("RESTIC_REPOSITORY", text(places.repository)),
            ("RESTIC_PASSWORD", "benchmark".to_owned()),
            ("RESTIC_CACHE_DIR", text(&places.home.join("restic"))),
            ("KOPIA_PASSWORD", "benchmark".to_owned()),
            ("KOPIA_CHECK_FOR_UPDATES", "false".to_owned()),
        ];
        sh(script, &[], &variables).with_context(|| self.name)
    }
}

/// Runs a script to its end.
pub fn sh(script: &str, arguments: &[&Path], variables: &[(&str, String)]) -> Result<Took> {
    let programs = target_dir()?.join("e2e/bin");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", script]).args(arguments);
    command.env("PATH", path).envs(variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let begun = Instant::now();
    let child = command.spawn().context("cannot start bash")?;
    let watch = Watch::of(child.id());
    let output = child.wait_with_output();
    let seconds = begun.elapsed().as_secs_f64();
    let memory: Used = watch.end()?;
    let output = output?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(Took { seconds, memory })
}
