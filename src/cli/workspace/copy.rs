//! `spaceport workspace cp`

mod pack;
mod pipe;
mod skipped;
mod unpack;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use tokio::task::spawn_blocking;

use self::pack::pack;
use self::pipe::{Pieces, Reader, Sender, Writer, pipe};
use self::skipped::Skipped;
use self::unpack::unpack;
use super::session::{self, Input, Output, Piece};
use crate::connect::Client;
use crate::table::clean;
use crate::terminal::Terminal;
use domain::names::WorkspaceId;
use proto::spaceport::v1::exec_files::Operation;
use proto::spaceport::v1::exec_request::Request as Message;
use proto::spaceport::v1::exec_start::Run;
use proto::spaceport::v1::{ExecFiles, ExecStart};

/// Characters of what the workspace says of a failure.
const SAID: usize = 4096;

/// `spaceport workspace cp`.
#[derive(Debug, Args)]
#[command(after_help = "\
One of SRC and DST is ID:PATH in a workspace, the other a path here. A path in a workspace that does not begin with / is \
in the folder where a shell begins. As with `cp -r`, a DST that is a folder gets SRC into it, and anything else becomes \
SRC; SRC of `.`, or ending in `/.`, is the content of a folder. Files, folders, links, modes and times are copied; owners, \
devices and pipes are not. From a workspace, no link is copied that leads out of SRC. It needs a tar in the image; \
without one, single files can be copied.")]
pub struct CopyArgs {
    /// What to copy
    #[arg(value_name = "SRC")]
    from: Place,
    /// Where to
    #[arg(value_name = "DST")]
    to: Place,
}

/// A path here or in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Here(PathBuf),
    There(WorkspaceId, String),
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            // As with scp: a path that has a colon is written with a slash before it.
            Some((id, path)) if !id.contains('/') => {
                let id = id.parse().map_err(|error| format!("{id:?} is no workspace: {error}"))?;
                Ok(Self::There(id, if path.is_empty() { ".".to_owned() } else { path.to_owned() }))
            }
            _ if text.is_empty() => Err("must be a path or ID:PATH".to_owned()),
            _ => Ok(Self::Here(text.into())),
        }
    }
}

/// What there is at a path in a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    is_folder: bool,
    is_there: bool,
    has_tar: bool,
}

/// Copies files to or from a workspace.
pub async fn run(client: &Client, args: CopyArgs, terminal: &mut Terminal<'_>) -> Result<()> {
    let (skipped, text) = match (args.from, args.to) {
        (Place::Here(from), Place::There(id, to)) => {
            (Remote { client, id: &id }.upload(&from, &to).await, format!("failed to copy to {id}"))
        }
        (Place::There(id, from), Place::Here(to)) => {
            (Remote { client, id: &id }.download(&from, &to).await, format!("failed to copy from {id}"))
        }
        (Place::Here(_), Place::Here(_)) => {
            bail!(crate::failure::Usage("one of SRC and DST must be in a workspace: ID:PATH".to_owned()))
        }
        (Place::There(..), Place::There(..)) => {
            bail!(crate::failure::Usage("one of SRC and DST must be a path here".to_owned()))
        }
    };
    skipped.context(text)?.report(terminal)
}

struct Remote<'a> {
    client: &'a Client,
    id: &'a WorkspaceId,
}

impl Remote<'_> {
    async fn upload(&self, from: &Path, to: &str) -> Result<Skipped> {
        let metadata = fs::metadata(from).with_context(|| from.display().to_string())?;
        let found = self.examine(to).await?;
        let name = here_name(from);
        let (folder, name) = match (&name, found.is_folder) {
            (Some(name), true) => (to.to_owned(), name.clone()),
            (None, true) => (to.to_owned(), PathBuf::from(".")),
            (None, false) => bail!("{} is no folder", clean(to)),
            (Some(_), false) if found.is_there && metadata.is_dir() => bail!("{} is a file", clean(to)),
            (Some(_), false) => {
                let (folder, name) = there_split(to).ok_or_else(|| anyhow!("{} is no folder", clean(to)))?;
                (folder, PathBuf::from(name))
            }
        };
        if !found.has_tar {
            return self.upload_file(from, metadata.is_file(), &folder, &name).await;
        }
        let (sender, pieces) = pipe();
        let from = from.to_owned();
        let packing = spawn_blocking(move || pack(&from, &name, Writer::new(sender)));
        let written = self.write(Operation::Write, folder, pieces).await;
        // A failure here cuts the archive off, which fails there, too.
        let packed = packing.await.context("packing panicked")?;
        match (written, packed) {
            (Err(there), Err(here)) if is_broken_pipe(&here) => Err(there),
            (_, Err(here)) => Err(here),
            (Err(there), Ok(_)) => Err(there),
            (Ok(()), Ok(skipped)) => Ok(skipped),
        }
    }

    async fn upload_file(&self, from: &Path, is_file: bool, folder: &str, name: &Path) -> Result<Skipped> {
        if !is_file {
            bail!("the image has no tar, which all but single files need");
        }
        let path =
            format!("{}/{}", folder.trim_end_matches('/'), name.to_str().context("the name is not UTF-8")?);
        let mut file = File::open(from).with_context(|| format!("failed to read {}", from.display()))?;
        let (sender, pieces) = pipe();
        let reading = spawn_blocking(move || {
            let mut writer = Writer::new(sender);
            std::io::copy(&mut file, &mut writer).and_then(|_| std::io::Write::flush(&mut writer))
        });
        let written = self.write(Operation::WriteFile, path, pieces).await;
        let read = reading.await.context("reading panicked")?;
        written?;
        read.with_context(|| format!("failed to read {}", from.display()))?;
        Ok(Skipped::default())
    }

    async fn download(&self, from: &str, to: &Path) -> Result<Skipped> {
        let found = self.examine(from).await?;
        if !found.is_there {
            bail!("{} does not exist", clean(from));
        }
        let name = there_split(from).map(|(_, name)| name);
        let target = place(to, name.as_deref())?;
        let (sender, pieces) = pipe();
        if !found.has_tar {
            if found.is_folder {
                bail!("the image has no tar, which all but single files need");
            }
            let writing = spawn_blocking(move || -> Result<Skipped> {
                let text = || format!("failed to write {}", target.display());
                let mut file = File::create(&target).with_context(text)?;
                std::io::copy(&mut Reader::new(pieces), &mut file).with_context(text)?;
                Ok(Skipped::default())
            });
            return self.read(Operation::ReadFile, from, sender, writing).await;
        }
        if name.is_none() && !target.is_dir() {
            fs::create_dir(&target).with_context(|| format!("failed to create {}", target.display()))?;
        }
        let unpacking = spawn_blocking(move || unpack(Reader::new(pieces), &target, name.as_deref()));
        self.read(Operation::Read, from, sender, unpacking).await
    }

    /// What there is at a path.
    async fn examine(&self, path: &str) -> Result<Found> {
        let (input, output) = self.start(Operation::Examine, path).await?;
        drop(input);
        let (code, said) = finish(output, None).await?;
        let has_tar = code < 10;
        match code % 10 {
            0 => Ok(Found { is_folder: true, is_there: true, has_tar }),
            1 => Ok(Found { is_folder: false, is_there: true, has_tar }),
            2 => Ok(Found { is_folder: false, is_there: false, has_tar }),
            _ => Err(failed(code, &said)),
        }
    }

    /// Sends pieces to their end.
    async fn write(&self, operation: Operation, path: String, mut pieces: Pieces) -> Result<()> {
        let (input, output) = self.start(operation, &path).await?;
        let sending = async move {
            while let Some(piece) = pieces.recv().await {
                if !input.send(Message::Stdin(piece)).await {
                    break;
                }
            }
            drop(input);
            std::future::pending::<()>().await;
        };
        let (code, said) = tokio::select! {
            finished = finish(output, None) => finished?,
            () = sending => bail!("the session was interrupted"),
        };
        if code == 0 { Ok(()) } else { Err(failed(code, &said)) }
    }

    /// Receives what `taking` takes.
    async fn read(
        &self,
        operation: Operation,
        path: &str,
        sender: Sender,
        taking: tokio::task::JoinHandle<Result<Skipped>>,
    ) -> Result<Skipped> {
        let (input, output) = self.start(operation, path).await?;
        let finished = finish(output, Some(sender)).await;
        drop(input);
        let taken = taking.await.context("unpacking panicked")?;
        match finished {
            // Without a reader the rest is not waited for.
            Ok((0, _)) => taken,
            Ok((code, said)) => Err(taken.err().unwrap_or_else(|| failed(code, &said))),
            Err(error) => Err(taken.err().filter(|_| error.is::<NotTaken>()).unwrap_or(error)),
        }
    }

    async fn start(&self, operation: Operation, path: &str) -> Result<(Input, Output)> {
        let files = ExecFiles { operation: operation.into(), path: path.to_owned() };
        let start = ExecStart { id: self.id.to_string(), run: Some(Run::Files(files)), terminal: None };
        Ok(session::start(self.client, start).await?)
    }
}

/// Whoever takes the output has failed.
#[derive(Debug, thiserror::Error)]
#[error("the rest was not taken")]
struct NotTaken;

/// The exit code of a command, and what it says of a failure. Its output goes to `to`.
async fn finish(mut output: Output, to: Option<Sender>) -> Result<(i32, String)> {
    let mut said = Vec::new();
    loop {
        match output.next().await? {
            Piece::Out(bytes) => {
                if let Some(to) = &to {
                    to.send(bytes).await.map_err(|_| NotTaken)?;
                }
            }
            Piece::Err(bytes) => {
                let left = SAID.saturating_sub(said.len());
                said.extend(bytes.into_iter().take(left));
            }
            Piece::Exit(code) => return Ok((code, clean(String::from_utf8_lossy(&said).trim()))),
        }
    }
}

fn failed(code: i32, said: &str) -> anyhow::Error {
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    anyhow!("copying in the workspace ended with exit code {code}{said}")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    };
    error.chain().any(io)
}

/// The name of a local path; `None` if it is the content of a folder.
fn here_name(path: &Path) -> Option<PathBuf> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.ends_with(b"/.") { None } else { path.file_name().map(PathBuf::from) }
}

/// Folder and name of a path in a workspace; `None` if it is the content of a folder.
fn there_split(path: &str) -> Option<(String, String)> {
    let trimmed = path.trim_end_matches('/');
    let (folder, name) = match trimmed.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
        None => (".", trimmed),
    };
    (!matches!(name, "" | "." | "..")).then(|| (folder.to_owned(), name.to_owned()))
}

/// Where a copy to a local path goes: into a folder, or to the path itself.
fn place(to: &Path, name: Option<&str>) -> Result<PathBuf> {
    if to.is_dir() {
        return Ok(name.map_or_else(|| to.to_owned(), |name| to.join(name)));
    }
    let above = to.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (name, fs::symlink_metadata(to)) {
        (None, Ok(_)) => bail!("{} is no folder", to.display()),
        _ if !above.is_dir() => bail!("{} is no folder", above.display()),
        // Without a slash at the end.
        _ => Ok(to.components().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_with_a_colon_before_any_slash_is_in_a_workspace() {
        let place = |text: &str| text.parse::<Place>();
        let there = |path: &str| Ok(Place::There("ws".parse().unwrap(), path.to_owned()));
        assert_eq!(place("ws:/a:b"), there("/a:b"));
        assert_eq!(place("ws:"), there("."));
        assert_eq!(place("./a:b"), Ok(Place::Here("./a:b".into())));
        assert_eq!(place("/a:b"), Ok(Place::Here("/a:b".into())));
        assert_eq!(place("a"), Ok(Place::Here("a".into())));
        assert!(place("").is_err() && place(":x").is_err() && place("a b:x").is_err());
    }

    #[test]
    fn a_copy_goes_into_a_folder_or_becomes_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let (root, file) = (dir.path(), dir.path().join("file"));
        fs::write(&file, "").unwrap();
        assert_eq!(place(root, Some("name")).unwrap(), root.join("name"));
        assert_eq!(place(root, None).unwrap(), root);
        assert_eq!(place(&root.join("new"), Some("name")).unwrap(), root.join("new"));
        assert_eq!(place(&root.join("new/"), Some("name")).unwrap(), root.join("new"));
        assert_eq!(place(&root.join("new"), None).unwrap(), root.join("new"));
        assert_eq!(place(&file, Some("name")).unwrap(), file);
        assert!(place(&file, None).is_err());
        assert!(place(&root.join("none/new"), Some("name")).is_err());
    }

    #[test]
    fn the_name_of_a_path_is_its_last_part_unless_it_is_the_content_of_a_folder() {
        assert_eq!(here_name(Path::new("a/b/")), Some("b".into()));
        for content in [".", "a/.", "/", ".."] {
            assert_eq!(here_name(Path::new(content)), None, "{content}");
        }
        assert_eq!(there_split("/a/b//"), Some(("/a".to_owned(), "b".to_owned())));
        assert_eq!(there_split("/a"), Some(("/".to_owned(), "a".to_owned())));
        for content in [".", "a/..", "/", "a/."] {
            assert_eq!(there_split(content), None, "{content}");
        }
    }
}
