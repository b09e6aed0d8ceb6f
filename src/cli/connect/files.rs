//! Certificate and key files of the command line, and the TLS configuration from them. Files are read at each
//! connection, pipes once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;

use crate::input::{self, Patience};
use runtime::tls::{self, Pem};

/// Why files cannot be used. Messages name files, never their content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] input::Error),
    /// The content cannot be used.
    #[error(transparent)]
    Content(#[from] tls::Error),
}

/// A file that is read at each connection, so that renewed certificates are used; the content of a pipe is kept.
#[derive(Clone)]
pub struct PemFile {
    path: PathBuf,
    piped: Arc<OnceLock<Vec<u8>>>,
}

/// Omits the content, which may be a key.
impl fmt::Debug for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl From<PathBuf> for PemFile {
    fn from(path: PathBuf) -> Self {
        Self { path, piped: Arc::default() }
    }
}

impl PemFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, patience: Patience) -> Result<Vec<u8>, Error> {
        if let Some(content) = self.piped.get() {
            return Ok(content.clone());
        }
        let content = input::read(&self.path, input::PEM, patience)?;
        if content.piped {
            let _ = self.piped.set(content.bytes.clone());
        }
        Ok(content.bytes)
    }
}

/// Client certificate and key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The chain, leaf first.
    pub cert: PemFile,
    pub key: PemFile,
}

/// Reads the files and builds the TLS configuration.
pub fn configuration(
    ca: &PemFile,
    identity: Option<&Identity>,
    patience: Patience,
) -> Result<Arc<ClientConfig>, Error> {
    let authorities = ca.read(patience)?;
    let authorities = Pem { path: &ca.path, content: &authorities };
    let Some(Identity { cert, key }) = identity else {
        return Ok(Arc::new(tls::client(Some(authorities), None)?));
    };
    let (chain, private) = (cert.read(patience)?, key.read(patience)?);
    let identity = (Pem { path: &cert.path, content: &chain }, Pem { path: &key.path, content: &private });
    Ok(Arc::new(tls::client(Some(authorities), Some(identity))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PemFile {
            std::fs::write(self.0.path().join(name), content).unwrap();
            self.0.path().join(name).into()
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_or_used_is_named_with_the_reason() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let pem = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem();
        let good = folder.file("cert.pem", pem);
        assert!(configuration(&good, None, Patience::default()).is_ok());
        for (file, expected) in [
            (folder.0.path().join("missing").into(), "missing: there is no such file"),
            (PathBuf::from("/dev/zero").into(), "/dev/zero is a device"),
            (folder.0.path().to_owned().into(), "is a folder"),
            (folder.file("empty", "\n"), "empty is empty"),
            (folder.file("text", "hunter2"), "is not PEM"),
        ] {
            let text = configuration(&file, None, Patience::default()).unwrap_err().to_string();
            assert!(text.contains(expected) && !text.contains("hunter2"), "{text}");
        }
        let identity = Identity { cert: good.clone(), key: good.clone() };
        let swapped = configuration(&good, Some(&identity), Patience::default()).unwrap_err().to_string();
        assert!(swapped.contains("were certificate and key swapped?"), "{swapped}");
    }

    #[test]
    fn a_renewed_file_is_read_again_and_a_pipe_is_read_once() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let file = folder.file("file", "first");
        assert_eq!(file.read(Patience::default()).unwrap(), b"first");
        folder.file("file", "second");
        assert_eq!(file.read(Patience::default()).unwrap(), b"second");
        let path = folder.0.path().join("pipe");
        let writer = input::fifo(&path, b"once".to_vec());
        let pipe = PemFile::from(path);
        assert_eq!(pipe.read(Patience::default()).unwrap(), b"once");
        assert_eq!(pipe.clone().read(Patience::default()).unwrap(), b"once");
        writer.join().unwrap().unwrap();
    }
}
