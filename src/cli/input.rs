//! Reads the files that a command line, a cluster file or a context names. A path may name anything, so every read has
//! a size limit and a deadline, and devices and folders are rejected. Pipes are allowed: `-f <(…)` and `/dev/stdin` are
//! common.

use std::fmt;
use std::fs::{File, FileType, OpenOptions};
use std::io::{self, IsTerminal as _, Read};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
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

/// A password or a token.
pub const PASSWORD: Kind = Kind { what: "a password", most: 1 << 20 };

/// Default timeout of a call.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// How long reading one input may take: as long as one call.
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
    #[error("failed to read {}: {}", Name(path), files::why(error))]
    Read { path: PathBuf, error: io::Error },
    /// A folder.
    #[error("{} is a folder, not a file", .0.display())]
    Folder(PathBuf),
    /// A device, which may never end.
    #[error("{} is a device: name a file, a pipe, or - for standard input where that is allowed", .0.display())]
    Device(PathBuf),
    /// An input, usually a pipe, that sent nothing.
    #[error("nothing came from {} within {}: start what writes to it, name a file, or give a longer --timeout", Name(path), GoDuration::from(limit.0))]
    Silent { path: PathBuf, limit: Patience },
    /// An input whose writer keeps it open.
    #[error("{} did not end within {}: {bytes} bytes came, and its writer keeps it open; close it, or give a longer --timeout", Name(path), GoDuration::from(limit.0))]
    Endless { path: PathBuf, limit: Patience, bytes: u64 },
    /// Larger than the limit.
    #[error("{} is larger than {} MiB, which is the most that {} may have", Name(path), kind.most >> 20, kind.what)]
    TooLarge {
        path: PathBuf,
        /// What the file should be.
        kind: Kind,
    },
}

/// An input as a message names it.
pub struct Name<'a>(pub &'a Path);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_stdin(self.0) { f.write_str("standard input") } else { self.0.display().fmt(f) }
    }
}

#[derive(Debug)]
pub struct Content {
    pub bytes: Vec<u8>,
    /// Whether it came from a pipe, which can be read only once.
    pub piped: bool,
}

/// Reads a whole file or pipe.
pub fn read(path: &Path, kind: Kind, patience: Patience) -> Result<Content, Error> {
    let owned = path.to_owned();
    within(path, patience, move |received| read_file(&owned, kind, received))
}

/// Reads a file; `-` is standard input. A person who types has as much time as they need.
pub fn read_or_stdin(path: &Path, kind: Kind, patience: Patience) -> Result<Vec<u8>, Error> {
    if !is_stdin(path) {
        return Ok(read(path, kind, patience)?.bytes);
    }
    let owned = path.to_owned();
    let work = move |received: &AtomicU64| limited(io::stdin().lock(), &owned, kind, received);
    if is_typed(path) { work(&AtomicU64::new(0)) } else { within(path, patience, work) }
}

/// Whether a path is `-`, which is standard input.
pub fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Whether a person types the input on a terminal.
pub fn is_typed(path: &Path) -> bool {
    is_stdin(path) && io::stdin().is_terminal()
}

/// Runs `work`, which counts the bytes that it reads, for `patience` at most. A thread runs it: opening or reading a pipe
/// blocks and cannot be cancelled. It ends with the process.
fn within<T: Send + 'static>(
    path: &Path,
    patience: Patience,
    work: impl FnOnce(&AtomicU64) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let received = Arc::new(AtomicU64::new(0));
    let (sender, ended) = mpsc::sync_channel(1);
    let counter = Arc::clone(&received);
    let reading = thread::Builder::new().spawn(move || drop(sender.send(work(&counter))));
    reading.map_err(|error| Error::Read { path: path.to_owned(), error })?;
    ended.recv_timeout(patience.0).unwrap_or_else(|_| {
        let path = path.to_owned();
        Err(match received.load(Ordering::Relaxed) {
            0 => Error::Silent { path, limit: patience },
            bytes => Error::Endless { path, limit: patience, bytes },
        })
    })
}

fn read_file(path: &Path, kind: Kind, received: &AtomicU64) -> Result<Content, Error> {
    let failed = |error| Error::Read { path: path.to_owned(), error };
    // Check before opening too: opening a device may block or have effects.
    check(path, std::fs::metadata(path).map_err(failed)?.file_type())?;
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY).open(path);
    let file: File = opened.map_err(failed)?;
    let file_type = file.metadata().map_err(failed)?.file_type();
    check(path, file_type)?;
    let bytes = limited(&file, path, kind, received)?;
    Ok(Content { bytes, piped: file_type.is_fifo() || file_type.is_socket() })
}

/// Base of relative paths in a file: its folder, or the working directory if it is a pipe.
pub fn folder(path: &Path) -> &Path {
    let piped = is_stdin(path) || path.starts_with("/dev") || path.starts_with("/proc");
    path.parent().filter(|_| !piped).unwrap_or(Path::new(""))
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

fn limited(reader: impl Read, path: &Path, kind: Kind, received: &AtomicU64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = Counted { reader, received }.take(kind.most + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::Read { path: path.to_owned(), error })?;
    if bytes.len() as u64 > kind.most {
        return Err(Error::TooLarge { path: path.to_owned(), kind });
    }
    Ok(bytes)
}

/// A reader that counts the bytes it has read.
struct Counted<'a, R> {
    reader: R,
    received: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.received.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
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
    fn a_pipe_that_nothing_writes_to_or_closes_is_an_error_after_the_timeout() {
        let folder = tempfile::tempdir().unwrap();
        // One pipe a case: the thread of an earlier case still reads its own.
        let pipe = |name: &str| {
            let path = folder.path().join(name);
            assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
            path
        };
        let failure = |path: &Path| {
            let error = read(path, SMALL, Patience(Duration::from_millis(50))).unwrap_err().to_string();
            error.replace(&path.display().to_string(), "PIPE")
        };
        // Opened for reading too, so that it does not wait for a reader.
        let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path).unwrap();
        let silent = "nothing came from PIPE within 50ms: start what writes to it, name a file, or give a longer --timeout";
        assert_eq!(failure(&pipe("unopened")), silent);
        let path = pipe("silent");
        let _writer = open(&path);
        assert_eq!(failure(&path), silent);
        let path = pipe("endless");
        let mut writer = open(&path);
        io::Write::write_all(&mut writer, b"name: eu").unwrap();
        let endless = "PIPE did not end within 50ms: 8 bytes came, and its writer keeps it open; close it, or give a longer \
                       --timeout";
        assert_eq!(failure(&path), endless);
    }

    #[test]
    fn a_message_names_standard_input_in_words() {
        let path = PathBuf::from("-");
        let silent = Error::Silent { path: path.clone(), limit: Patience(Duration::from_secs(3)) };
        assert!(silent.to_string().starts_with("nothing came from standard input within 3s"), "{silent}");
        let large = Error::TooLarge { path, kind: SMALL };
        assert!(large.to_string().starts_with("standard input is larger than 1 MiB"), "{large}");
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
