//! An S3 server (versitygw over a folder), and a proxy that makes it fail.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::assets::Assets;
use super::pki::Authority;
use super::process::{Launch, Process, free_port, fresh_dir, with_free_ports};

mod proxy;

pub use proxy::{S3Answer, S3Proxy, S3Request};

const READY: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(5);
/// Region that the server expects in signatures.
const REGION: &str = "us-east-1";
const ACCESS_KEY: &str = "s3-access-key";
const SECRET_KEY: &str = "s3-secret-key";

/// Options of an S3 server.
#[derive(Clone, Copy, Debug, Default)]
pub struct S3Options {
    /// TLS with a CA of its own.
    pub tls: bool,
    /// ETags that are no MD5 digests, as of buckets with SSE-KMS.
    pub other_etags: bool,
}

/// An access key and its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Login {
    pub access_key: String,
    pub secret_key: String,
}

impl S3Login {
    fn new(access_key: &str) -> Self {
        Self { access_key: access_key.to_owned(), secret_key: format!("secret-of-{access_key}") }
    }

    /// Writes it to the files that [`S3Server::content_settings`] names, so that agents use it from now on.
    pub fn write(&self, dir: &Path) -> Result<()> {
        for (file, text) in [(ACCESS_KEY, &self.access_key), (SECRET_KEY, &self.secret_key)] {
            let draft = dir.join(format!("{file}.draft"));
            std::fs::write(&draft, text)?;
            std::fs::rename(draft, dir.join(file))?;
        }
        Ok(())
    }
}

/// A running S3 server with its files in a folder.
pub struct S3Server {
    assets: Arc<Assets>,
    dir: PathBuf,
    options: S3Options,
    authority: Option<Authority>,
    port: u16,
    root: S3Login,
    process: Mutex<Option<Arc<Process>>>,
}

impl S3Server {
    /// Starts a server on a free port with its files in `dir`, and waits until it responds.
    pub async fn start(assets: &Arc<Assets>, dir: &Path, options: S3Options) -> Result<Self> {
        fresh_dir(&dir.join("buckets"))?;
        fresh_dir(&dir.join("users"))?;
        let authority = options.tls.then(|| Authority::create(&dir.join("pki"), "s3")).transpose()?;
        if let Some(authority) = &authority {
            authority.server("server")?;
        }
        let mut server = Self {
            assets: Arc::clone(assets),
            dir: dir.to_path_buf(),
            options,
            authority,
            port: 0,
            root: S3Login::new("root"),
            process: Mutex::new(None),
        };
        with_free_ports(async || {
            server.port = free_port()?;
            server.launch().await
        })
        .await?;
        Ok(server)
    }

    /// Its address, such as `127.0.0.1:7070`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let scheme = if self.options.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// File of the CA of its certificate.
    pub fn ca(&self) -> Option<PathBuf> {
        self.authority.as_ref().map(Authority::ca)
    }

    /// Region of its signatures.
    pub fn region(&self) -> &'static str {
        REGION
    }

    /// Login with all rights.
    pub fn login(&self) -> &S3Login {
        &self.root
    }

    /// The group `content` of an agent's configuration, with small parts. The keys are in files of `dir`.
    pub fn content_settings(&self, dir: &Path, proxy: &S3Proxy, bucket: &str) -> Result<Value> {
        self.root.write(dir)?;
        Ok(json!({
            "storage": {
                "kind": "minio",
                "minio": {
                    "endpoint": proxy.address(), "region": REGION, "bucket": bucket, "secure": false,
                    "accessKeyFile": dir.join(ACCESS_KEY), "secretKeyFile": dir.join(SECRET_KEY),
                },
            },
            "upload": { "partSize": 5 << 20, "parallel": 2 },
        }))
    }

    /// Creates a bucket: a folder at its top level.
    pub fn create_bucket(&self, name: &str) -> Result<()> {
        let made = std::fs::create_dir(self.dir.join("buckets").join(name));
        made.with_context(|| format!("cannot create bucket {name}"))
    }

    /// Whether there is a bucket.
    pub fn has_bucket(&self, name: &str) -> bool {
        self.dir.join("buckets").join(name).is_dir()
    }

    /// File of an object, for tests that damage it behind the server's back.
    pub fn object(&self, bucket: &str, key: &str) -> PathBuf {
        self.dir.join("buckets").join(bucket).join(key)
    }

    /// Number of uploads in parts that were neither completed nor aborted.
    pub fn open_uploads(&self, bucket: &str) -> usize {
        let objects = std::fs::read_dir(self.object(bucket, ".sgwtmp/multipart"));
        let uploads = objects.into_iter().flatten().flatten().map(|object| std::fs::read_dir(object.path()));
        uploads
            .map(|uploads| {
                uploads.into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()).count()
            })
            .sum()
    }

    /// Creates a user who may do everything.
    pub async fn create_user(&self, name: &str) -> Result<S3Login> {
        let login = S3Login::new(name);
        let (access, secret) = (login.access_key.as_str(), login.secret_key.as_str());
        self.admin(&["create-user", "--access", access, "--secret", secret, "--role", "admin"]).await?;
        Ok(login)
    }

    /// Deletes a user, whose requests are denied from now on.
    pub async fn delete_user(&self, login: &S3Login) -> Result<()> {
        self.admin(&["delete-user", "--access", &login.access_key]).await
    }

    /// Ends the server. Its files stay, and [`S3Server::restart`] serves them again.
    pub async fn stop(&self) -> Result<()> {
        let process = self.process.lock().take();
        if let Some(process) = process {
            process.stop(GRACE).await?;
        }
        Ok(())
    }

    /// Kills the server. Its files stay, and [`S3Server::restart`] serves them again.
    pub async fn kill(&self) -> Result<()> {
        let process = self.process.lock().take();
        if let Some(process) = process {
            process.kill().await?;
        }
        Ok(())
    }

    /// Starts it again on the same port.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.launch().await
    }

    async fn admin(&self, args: &[&str]) -> Result<()> {
        let mut command = tokio::process::Command::new(self.assets.program("versitygw"));
        command.args(["admin", "--access", &self.root.access_key, "--secret", &self.root.secret_key]);
        command.args(["--region", REGION, "--endpoint-url", &self.url()]);
        if self.options.tls {
            command.arg("--allow-insecure");
        }
        let output = tokio::time::timeout(READY, command.args(args).kill_on_drop(true).output()).await;
        let output = output.context("the admin tool of the S3 server does not end")??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "versitygw admin {}: {said}", args.join(" "));
        Ok(())
    }

    async fn launch(&self) -> Result<()> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let mut args = vec!["--access".to_owned(), self.root.access_key.clone()];
        args.extend(["--secret".to_owned(), self.root.secret_key.clone()]);
        args.extend(["--port".to_owned(), self.address(), "--region".to_owned(), REGION.to_owned()]);
        args.extend(["--quiet", "--keep-alive", "--iam-cache-disable", "--iam-dir"].map(str::to_owned));
        args.push(file("users"));
        if self.options.tls {
            args.extend([
                "--cert".to_owned(),
                file("pki/server.pem"),
                "--key".to_owned(),
                file("pki/server-key.pem"),
            ]);
        }
        args.push("posix".to_owned());
        if self.options.other_etags {
            args.push("--data-integrity-etag".to_owned());
        }
        args.push(file("buckets"));
        let launch = Launch::new("S3 server", &self.assets.program("versitygw"), args, &self.dir.join("log"));
        let process = Process::start(&self.assets, &launch).await?;
        let answers = async || {
            tokio::net::TcpStream::connect(self.address()).await.context("it does not listen")?;
            Ok(())
        };
        process.ready(READY, answers).await?;
        *self.process.lock() = Some(Arc::new(process));
        Ok(())
    }
}
