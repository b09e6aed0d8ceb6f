//! What a machine needs for real nodes, and what happens without it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::super::http::image::BUSYBOX;
use super::files::CNI;

/// Programs, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 5] = [
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("git", "git"),
];
const PLUGINS: [&str; 3] = ["bridge", "host-local", "loopback"];

/// Whether this machine can have real nodes. If not, the test that asks is reported as skipped on standard error, or
/// fails if `REQUIRE_REAL_NODE` is 1.
pub fn available(test: &str) -> Result<bool> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(true);
    }
    let why = format!("{test}: real nodes need {}; `make node-assets` installs programs", missing.join(", "));
    if std::env::var_os("REQUIRE_REAL_NODE").is_some_and(|value| value == "1") {
        bail!("{why}");
    }
    // Not `eprintln!`, which tests that pass do not show.
    let _ = writeln!(std::io::stderr(), "SKIPPED {why}");
    Ok(false)
}

/// What this machine lacks for real nodes.
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !is_root() {
        missing.push("root".to_owned());
    }
    for (program, package) in PROGRAMS {
        if !on_path(program) {
            missing.push(format!("{program} (package {package})"));
        }
    }
    for plugin in PLUGINS {
        if !Path::new(CNI).join(plugin).exists() {
            missing.push(format!("{CNI}/{plugin} (package containernetworking-plugins)"));
        }
    }
    if !Path::new(BUSYBOX).exists() {
        missing.push(format!("{BUSYBOX} (package busybox-static)"));
    }
    if !fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.contains("\toverlay\n")) {
        missing.push("a kernel with overlay file systems".to_owned());
    }
    missing
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn on_path(program: &str) -> bool {
    let mut which = Command::new("sh");
    which.args(["-c", "command -v \"$0\"", program]).stdout(Stdio::null()).stderr(Stdio::null());
    which.status().is_ok_and(|status| status.success())
}
