//! Reads files that a configuration names. A path may name anything: opening a FIFO without a writer blocks forever, and a
//! device may never end. So only regular files are read, and only up to a size. A file system may also hang: code that serves
//! calls reads on separate threads ([`apart`]), a few at a time, with a timeout.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Timeout of reading files.
pub const READ_WITHIN: Duration = Duration::from_secs(10);
/// Threads that read for calls. A thread whose file system hangs is not released.
static READERS: Semaphore = Semaphore::const_new(8);
/// Maximum bytes of a configuration, a certificate file or a key.
pub const LARGEST: usize = 4 * 1024 * 1024;

/// Reads a regular file of at most `most` bytes. Links are followed.
pub fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let mut content = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut content)?;
    if content.len() > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("is larger than {most} bytes")));
    }
    Ok(content)
}

/// Reads a regular file as UTF-8.
pub fn read_text(path: &Path, most: usize) -> io::Result<String> {
    String::from_utf8(read(path, most)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8 text"))
}

/// Opens a regular file; fails for other kinds of files, and never waits for a writer.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let what = if kind.is_dir() { "is a folder" } else { "is not a regular file" };
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

/// Runs `read` on another thread, and waits at most [`READ_WITHIN`]. If the file system hangs, the thread ends later.
pub async fn apart<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    apart_in(&READERS, read).await
}

async fn apart_in<T: Send + 'static>(
    readers: &'static Semaphore,
    read: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let reading = async {
        let place = readers.acquire().await.map_err(io::Error::other)?;
        let reading = tokio::task::spawn_blocking(move || {
            let _place = place;
            read()
        });
        reading.await.map_err(io::Error::other)
    };
    timeout(READ_WITHIN, reading).await.unwrap_or_else(|_| {
        let reason = format!("files were not read within {READ_WITHIN:?}: does their file system hang?");
        Err(io::Error::new(io::ErrorKind::TimedOut, reason))
    })
}

/// Why a file cannot be read, without the error numbers of the operating system.
pub fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not read it (permission denied)".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn files_that_hang_time_out_and_use_few_threads() {
        static FEW: Semaphore = Semaphore::const_new(2);
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let ended = std::sync::Arc::new(parking_lot::Mutex::new(ended));
        for _ in 0..4 {
            let ended = std::sync::Arc::clone(&ended);
            let hung = apart_in(&FEW, move || ended.lock().recv().is_ok());
            // The paused clock does not advance while a blocking thread runs, so the test advances it.
            let (hung, ()) = tokio::join!(hung, async {
                tokio::task::yield_now().await;
                tokio::time::advance(READ_WITHIN).await;
            });
            assert_eq!(hung.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(FEW.available_permits(), 0, "two threads hang, and no more");
        drop(end);
        let read = async { while apart_in(&FEW, || ()).await.is_err() {} };
        read.await;
    }

    #[test]
    fn only_regular_files_are_read_and_only_up_to_a_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        assert_eq!(read(&path("file"), 4).unwrap(), b"text");
        assert_eq!(read_text(&path("link"), 4).unwrap(), "text");
        assert_eq!(read(&path("file"), 3).unwrap_err().to_string(), "is larger than 3 bytes");
        let fifo = std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap();
        assert!(fifo.success());
        assert_eq!(read(&path("fifo"), 4).unwrap_err().to_string(), "is not a regular file");
        assert_eq!(read(folder.path(), 4).unwrap_err().to_string(), "is a folder");
        assert_eq!(read(Path::new("/dev/zero"), 4).unwrap_err().to_string(), "is not a regular file");
        std::fs::write(path("bytes"), [0xff]).unwrap();
        assert_eq!(read_text(&path("bytes"), 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
