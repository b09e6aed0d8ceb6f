//! Reads the files that a command line, a cluster file or a context names. A path may name anything, so every read has
//! a size limit, and devices and folders are rejected. Pipes are allowed: `-f <(…)` and `/dev/stdin` are common.
//! A pipe without a writer is waited for as long as one call may take.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use domain::duration::GoDuration;
use runtime::files;

/// Purpose of a file, and its maximum size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// With an article, as in "a cluster file".
    what: &'static str,
    /// In bytes.
    most: u64,
}

/// One or more clusters.
pub const CLUSTER_FILE: Kind = Kind { what: "a cluster file", most: 4 << 20 };
/// A kubeconfig, or a file that it names.
pub const KUBECONFIG: Kind = Kind { what: "a kubeconfig", most: 1 << 20 };
/// Certificates or a key.
pub const PEM: Kind = Kind { what: "a PEM file", most: 1 << 20 };
/// The contexts.
pub const CONFIG: Kind = Kind { what: "a configuration file", most: 1 << 20 };

/// Default timeout of a call.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait for the writer of a pipe: as long as one call may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience(pub Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(TIMEOUT)
    }
}

/// Why a file was not read. Messages name the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system reports an error.
    #[error("failed to read {}: {}", path.display(), files::why(error))]
    Read { path: PathBuf, error: io::Error },
    /// A folder.
    #[error("{} is a folder, not a file", .0.display())]
    Folder(PathBuf),
    /// A device, which may never end.
    #[error("{} is a device: name a file, a pipe, or - for standard input where that is allowed", .0.display())]
    Device(PathBuf),
    /// A pipe that nothing opened for writing.
    #[error("{} is a pipe that nothing wrote to within {}: start its writer, or name a file", path.display(), GoDuration::from(patience.0))]
    NoWriter { path: PathBuf, patience: Patience },
    /// Larger than the limit.
    #[error("{} is larger than {} MiB, which is the most that {} may have", path.display(), kind.most >> 20, kind.what)]
    TooLarge {
        path: PathBuf,
        /// What the file should be.
        kind: Kind,
    },
}

#[derive(Debug)]
pub struct Content {
    pub bytes: Vec<u8>,
    /// Whether it came from a pipe, which can be read only once.
    pub piped: bool,
}

/// Reads a whole file or pipe.
pub fn read(path: &Path, kind: Kind, patience: Patience) -> Result<Content, Error> {
    let failed = |error| Error::Read { path: path.to_owned(), error };
    // Check before opening too: opening a device may block or have effects.
    let file_type = std::fs::metadata(path).map_err(failed)?.file_type();
    check(path, file_type)?;
    let file = if file_type.is_fifo() { open_pipe(path, patience)? } else { open(path).map_err(failed)? };
    let file_type = file.metadata().map_err(failed)?.file_type();
    check(path, file_type)?;
    let bytes = limited(&file, path, kind)?;
    Ok(Content { bytes, piped: file_type.is_fifo() || file_type.is_socket() })
}

/// Reads a file; `-` is standard input.
pub fn read_or_stdin(path: &Path, kind: Kind, patience: Patience) -> Result<Vec<u8>, Error> {
    if path == Path::new("-") {
        return limited(io::stdin().lock(), path, kind);
    }
    Ok(read(path, kind, patience)?.bytes)
}

/// Base of relative paths in a file: its folder, or the working directory if it is a pipe.
pub fn folder(path: &Path) -> &Path {
    let piped = path == Path::new("-") || path.starts_with("/dev") || path.starts_with("/proc");
    path.parent().filter(|_| !piped).unwrap_or(Path::new(""))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY).open(path)
}

/// Opens a pipe once it has a writer. A thread opens it, because that blocks and cannot be cancelled.
fn open_pipe(path: &Path, patience: Patience) -> Result<File, Error> {
    let failed = |error| Error::Read { path: path.to_owned(), error };
    let (sender, opened) = mpsc::sync_channel(1);
    let pipe = path.to_owned();
    let opening = thread::Builder::new().spawn(move || drop(sender.send(open(&pipe))));
    opening.map_err(failed)?;
    match opened.recv_timeout(patience.0) {
        Ok(file) => file.map_err(failed),
        Err(_) => Err(Error::NoWriter { path: path.to_owned(), patience }),
    }
}

fn check(path: &Path, file_type: FileType) -> Result<(), Error> {
    if file_type.is_dir() {
        return Err(Error::Folder(path.to_owned()));
    }
    if file_type.is_char_device() || file_type.is_block_device() {
        return Err(Error::Device(path.to_owned()));
    }
    Ok(())
}

fn limited(reader: impl Read, path: &Path, kind: Kind) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = reader.take(kind.most + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::Read { path: path.to_owned(), error })?;
    if bytes.len() as u64 > kind.most {
        return Err(Error::TooLarge { path: path.to_owned(), kind });
    }
    Ok(bytes)
}

/// For tests that write to a pipe which another thread reads.
#[cfg(test)]
pub fn fifo(path: &Path, content: Vec<u8>) -> std::thread::JoinHandle<io::Result<()>> {
    use std::io::Write as _;
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    let path = path.to_owned();
    std::thread::spawn(move || {
        let mut pipe = OpenOptions::new().write(true).open(path)?;
        pipe.write_all(&content)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Kind = Kind { what: "a test file", most: 1 << 20 };

    fn read_small(path: &Path) -> Result<Content, Error> {
        read(path, SMALL, Patience::default())
    }

    #[test]
    fn a_pipe_of_a_shell_is_read_although_its_writer_has_ended() {
        use std::os::fd::AsRawFd as _;
        let (reader, mut writer) = io::pipe().unwrap();
        io::Write::write_all(&mut writer, b"<(echo)").unwrap();
        drop(writer);
        let content = read_small(Path::new(&format!("/dev/fd/{}", reader.as_raw_fd()))).unwrap();
        assert_eq!((content.bytes.as_slice(), content.piped), (&b"<(echo)"[..], true));
    }

    #[test]
    fn a_pipe_without_a_writer_is_an_error_after_the_timeout() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let text = read(&path, SMALL, Patience(Duration::from_millis(50))).unwrap_err().to_string();
        let expected = "pipe is a pipe that nothing wrote to within 50ms: start its writer, or name a file";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn files_links_and_pipes_are_read_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), vec![b'x'; 1 << 20]).unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        let content = read_small(&path("link")).unwrap();
        assert_eq!((content.bytes.len(), content.piped), (1 << 20, false));
        let writer = fifo(&path("pipe"), b"from a pipe".to_vec());
        let content = read_small(&path("pipe")).unwrap();
        assert_eq!((content.bytes.as_slice(), content.piped), (&b"from a pipe"[..], true));
        writer.join().unwrap().unwrap();

        std::fs::write(path("large"), vec![b'x'; (1 << 20) + 1]).unwrap();
        let text = read_small(&path("large")).unwrap_err().to_string();
        assert!(text.ends_with("large is larger than 1 MiB, which is the most that a test file may have"));
        let writer = fifo(&path("endless"), vec![b'x'; 3 << 20]);
        assert!(matches!(read_small(&path("endless")), Err(Error::TooLarge { .. })));
        // The pipe was closed before all of it was written.
        assert_eq!(writer.join().unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn relative_paths_are_relative_to_the_folder_of_a_file_and_to_the_working_directory_for_a_pipe() {
        assert_eq!(folder(Path::new("/etc/eu/cluster.yaml")), Path::new("/etc/eu"));
        for here in ["-", "/dev/fd/63", "/dev/stdin", "/proc/self/fd/0", "cluster.yaml"] {
            assert_eq!(folder(Path::new(here)), Path::new(""), "{here}");
        }
    }

    #[test]
    fn folders_and_devices_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read_small(folder.path()), Err(Error::Folder(_))));
        for device in ["/dev/zero", "/dev/null", "/dev/urandom"] {
            let text = read_small(Path::new(device)).unwrap_err().to_string();
            assert!(text.starts_with(&format!("{device} is a device")), "{text}");
        }
        let missing = read_small(&folder.path().join("missing")).unwrap_err();
        assert!(missing.to_string().starts_with("failed to read "), "{missing}");
    }
}
