//! A container image in memory: one layer with Debian's static busybox.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde_json::{Value, json};

/// The program of the image, from the package `busybox-static`.
pub const BUSYBOX: &str = "/bin/busybox";
/// Its entry point: runs until it is asked to end. Process 1 of a container ignores signals that it does not handle.
const MAIN: &str = "#!/bin/sh\ntrap 'exit 0' TERM INT\nwhile :; do sleep 3600 & wait $!; done\n";
/// The same as workspacekit, with an IDE that is ready: images of a registry facade start with it. A headless workspace runs
/// its tasks, a script, once its content is there, keeps their output where a supervisor keeps it, and ends with them.
const KIT: &str = "#!/bin/sh
trap 'exit 0' TERM INT
httpd -f -p 22999 -h /www &
if [ \"$GITPOD_HEADLESS\" = true ]; then
    until [ -e /workspace/.gitpod/ready ]; do sleep 0.1; done
    cd /workspace
    sh -c \"$GITPOD_TASKS\" >/workspace/.gitpod/prebuild-log-0 2>&1
    exit
fi
while :; do sleep 3600 & wait $!; done
";
const PASSWD: &str = "root:x:0:0::/:/bin/sh\ngitpod:x:33333:33333::/workspace:/bin/sh\n";

/// Bytes and their digest.
#[derive(Clone, Debug)]
pub struct Blob {
    pub bytes: Bytes,
    pub digest: String,
}

/// An image: manifest, configuration and layer.
#[derive(Clone, Debug)]
pub struct Image {
    pub manifest: Blob,
    pub config: Blob,
    pub layer: Blob,
}

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Image {
    /// Busybox as every command that it knows, a user `gitpod` (33333), and more files: path, mode, content.
    pub fn of_busybox(more: &[(&str, u32, &[u8])]) -> Result<Self> {
        let layer = Blob::of(layer(more).context("cannot write the layer")?);
        let config = Blob::of_json(&json!({
            "architecture": architecture(), "os": "linux",
            "config": { "Entrypoint": ["/bin/main"], "Env": ["PATH=/bin"], "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
        }))?;
        let descriptor = |kind: &str, blob: &Blob| {
            json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": blob.digest, "size": blob.bytes.len(),
            })
        };
        let manifest = Blob::of_json(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("config.v1+json", &config),
            "layers": [descriptor("layer.v1.tar", &layer)],
        }))?;
        Ok(Self { manifest, config, layer })
    }
}

impl Blob {
    fn of(bytes: Vec<u8>) -> Self {
        let hash = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let hex = |mut text: String, byte: &u8| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        };
        Self { digest: hash.as_ref().iter().fold("sha256:".to_owned(), hex), bytes: bytes.into() }
    }

    fn of_json(value: &Value) -> Result<Self> {
        Ok(Self::of(serde_json::to_vec(value)?))
    }
}

fn layer(more: &[(&str, u32, &[u8])]) -> Result<Vec<u8>> {
    let busybox = fs::read(BUSYBOX).with_context(|| format!("cannot read {BUSYBOX}"))?;
    let mut layer = tar::Builder::new(Vec::new());
    for (dir, mode) in [
        ("bin", 0o755),
        ("etc", 0o755),
        ("tmp", 0o1777),
        ("workspace", 0o755),
        (".supervisor", 0o755),
        ("www", 0o755),
    ] {
        append(&mut layer, &format!("{dir}/"), mode, tar::EntryType::Directory, &[])?;
    }
    for (path, mode, content) in [
        ("bin/busybox", 0o755, busybox.as_slice()),
        ("bin/main", 0o755, MAIN.as_bytes()),
        (".supervisor/workspacekit", 0o755, KIT.as_bytes()),
        ("www/_supervisor/v1/status/ide/wait/true", 0o644, b"{\"ok\":true}".as_slice()),
        ("etc/passwd", 0o644, PASSWD.as_bytes()),
    ]
    .into_iter()
    .chain(more.iter().copied())
    {
        append(&mut layer, path, mode, tar::EntryType::Regular, content)?;
    }
    for command in commands()? {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        layer.append_link(&mut header, format!("bin/{command}"), "busybox")?;
    }
    Ok(layer.into_inner()?)
}

fn append(
    layer: &mut tar::Builder<Vec<u8>>,
    path: &str,
    mode: u32,
    kind: tar::EntryType,
    content: &[u8],
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len().try_into()?);
    Ok(layer.append_data(&mut header, path, content)?)
}

/// The commands that this busybox knows.
fn commands() -> Result<Vec<String>> {
    let output = std::process::Command::new(BUSYBOX).arg("--list").output().context("cannot run busybox")?;
    let names = String::from_utf8(output.stdout).context("busybox lists no commands")?;
    Ok(names.lines().filter(|name| *name != "busybox").map(str::to_owned).collect())
}

/// The name that images have for the architecture of this program.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
