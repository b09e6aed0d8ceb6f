//! [`Host`]: client of the host cluster, by a kubeconfig file or the service account of this pod.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_util::sync::CancellationToken;

use domain::kubeconfig::encoding;
use domain::names::{ClusterName, Namespace};
use domain::secret::Secret;
use member::client::{Clients, Credentials, Identity, Limits, Link, Signals};
use member::error::{Error, Result};

/// Period of reading the login: the token of a service account is renewed about hourly.
const LOOK: Duration = Duration::from_secs(10);
/// Where the kubelet mounts the service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Name of the host cluster in errors and logs.
const NAME: &str = "host";
/// Bytes of a kubeconfig, a token or a certificate at most.
const LARGEST: usize = 1024 * 1024;
/// Time to read files before a warning is logged.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Reads a regular file of at most so many bytes.
pub type ReadFile = fn(&Path, usize) -> std::io::Result<Vec<u8>>;

/// Where the login for the host cluster comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A kubeconfig file.
    File(PathBuf),
    /// The service account of this pod.
    Pod {
        /// Address of the apiserver.
        server: String,
        /// Folder with `token`, `ca.crt` and `namespace`.
        folder: PathBuf,
    },
}

impl Source {
    /// The file, or else this pod's service account where there is one.
    pub fn find(file: Option<PathBuf>) -> Option<Self> {
        if let Some(file) = file {
            return Some(Self::File(file));
        }
        let folder = PathBuf::from(SERVICE_ACCOUNT);
        let host = std::env::var("KUBERNETES_SERVICE_HOST").ok()?;
        let port = std::env::var("KUBERNETES_SERVICE_PORT").unwrap_or_else(|_| "443".to_owned());
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        folder.join("token").is_file().then(|| Self::Pod { server: format!("https://{host}:{port}"), folder })
    }

    /// The namespace that this pod is in.
    pub fn namespace(&self) -> Option<String> {
        let Self::Pod { folder, .. } = self else { return None };
        let text = std::fs::read_to_string(folder.join("namespace")).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// The kubeconfig as it is now.
    fn read(&self, read: ReadFile) -> std::io::Result<Secret<String>> {
        match self {
            Self::File(path) => text_of(path, read).map(Secret::new),
            Self::Pod { server, folder } => of_pod(server, folder, read).map(Secret::new),
        }
    }
}

fn text_of(path: &Path, read: ReadFile) -> std::io::Result<String> {
    let text = encoding::decode(&read(path, LARGEST)?);
    text.map_err(|rule| std::io::Error::new(std::io::ErrorKind::InvalidData, format!("it {rule}")))
}

/// A kubeconfig from the files of the service account.
fn of_pod(server: &str, folder: &Path, read: ReadFile) -> std::io::Result<String> {
    let authority = STANDARD.encode(read(&folder.join("ca.crt"), LARGEST)?);
    let token = String::from_utf8(read(&folder.join("token"), LARGEST)?)
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "the token is not text"))?;
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": NAME,
        "clusters": [{ "name": NAME, "cluster": { "server": server, "certificate-authority-data": authority } }],
        "users": [{ "name": NAME, "user": { "token": token.trim() } }],
        "contexts": [{ "name": NAME, "context": { "cluster": NAME, "user": NAME } }],
    });
    Ok(config.to_string())
}

/// Health of the host cluster is not tracked; callers report its errors.
struct NoSignals;

impl Signals for NoSignals {
    fn answered(&self) {}
    fn missed(&self, _reason: &str) {}
}

/// The host.
pub struct Host {
    pub(crate) name: ClusterName,
    pub(crate) namespace: Namespace,
    source: Source,
    read: ReadFile,
    link: Link,
    pub(crate) client: kube::Client,
    /// As read by [`Host::open`].
    login: Secret<String>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Host {
    /// Reads the login by `read`; sends nothing. Must be called within a Tokio runtime.
    pub fn open(source: Source, namespace: Namespace, read: ReadFile) -> Result<Self> {
        let login = check(&source, read)?;
        let name = ClusterName::of_host();
        let credentials = Credentials::parse(&name, login.expose())?;
        let limits = Limits::default();
        let link = Link::new(&name, &credentials, &limits)?;
        let client = Clients::new(link.clone(), &limits, Arc::new(NoSignals)).under(Identity::Login);
        Ok(Self { name, namespace, source, read, link, client, login })
    }

    /// Re-reads the login periodically until `shutdown`. An invalid login keeps the previous one.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut known = self.login.clone();
        let mut told = false;
        while shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let (source, read) = (self.source.clone(), self.read);
            let mut reading = tokio::task::spawn_blocking(move || check(&source, read));
            let within = tokio::time::timeout(READ_WITHIN, &mut reading);
            let Some(mut read) = shutdown.run_until_cancelled(within).await else { return };
            if read.is_err() {
                tracing::warn!(
                    "the login of the manager's own cluster was not read within {READ_WITHIN:?}: does its file system \
                     hang? The last one goes on"
                );
                // Not read by another thread meanwhile, which would hang as well.
                let Some(late) = shutdown.run_until_cancelled(reading).await else { return };
                read = Ok(late);
            }
            let Ok(Ok(read)) = read else { continue };
            let replaced = match read {
                Ok(login) if login.expose() == known.expose() => Ok(()),
                Ok(login) => self.replace(&login).inspect(|()| {
                    tracing::info!("the login of the host cluster was replaced");
                    known = login;
                }),
                Err(error) => Err(error),
            };
            if let Err(error) = &replaced
                && !told
            {
                tracing::warn!(%error, "failed to read the login of the host cluster; keeping the previous one");
            }
            told = replaced.is_err();
        }
    }

    fn replace(&self, login: &Secret<String>) -> Result<()> {
        self.link.replace(&Credentials::parse(&self.name, login.expose())?)
    }
}

/// Reads and validates the login.
pub fn check(source: &Source, read: ReadFile) -> Result<Secret<String>> {
    let name = ClusterName::of_host();
    let login = source.read(read).map_err(|error| Error::Kubeconfig {
        cluster: name.clone(),
        field: "(file)".to_owned(),
        rule: format!("cannot be read: {error}"),
    })?;
    // Whether certificate and key are of use is known once connections are prepared.
    Link::new(&name, &Credentials::parse(&name, login.expose())?, &Limits::default())?;
    Ok(login)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path, _: usize) -> std::io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn pod(folder: &tempfile::TempDir) -> Source {
        Source::Pod { server: "https://10.0.0.1:443".to_owned(), folder: folder.path().to_owned() }
    }

    #[test]
    fn a_pod_has_all_that_a_kubeconfig_needs() {
        let folder = tempfile::tempdir().unwrap();
        let issued = rcgen::generate_simple_self_signed(["host".to_owned()]).unwrap();
        for (file, content) in [
            ("ca.crt", issued.cert.pem()),
            ("token", "t0ken\n".to_owned()),
            ("namespace", "ours\n".to_owned()),
        ] {
            std::fs::write(folder.path().join(file), content).unwrap();
        }
        let login = check(&pod(&folder), read).unwrap();
        assert!(login.expose().contains("https://10.0.0.1:443") && login.expose().contains("\"t0ken\""));
        assert_eq!(pod(&folder).namespace().as_deref(), Some("ours"));
    }

    #[test]
    fn what_cannot_be_used_is_told_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let error = check(&pod(&folder), read).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
        let file = folder.path().join("kubeconfig");
        std::fs::write(&file, "clusters: [hunter2").unwrap();
        let error = check(&Source::File(file), read).unwrap_err().to_string();
        assert!(error.starts_with("cluster host: kubeconfig field") && !error.contains("hunter2"), "{error}");
    }
}
