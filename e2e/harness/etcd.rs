//! An etcd with one member: a cluster's own, or Spaceport's with TLS and users.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use etcd_client::{
    Certificate, Client, ConnectOptions, Identity as ClientIdentity, Permission, PermissionType, TlsOptions,
};
use parking_lot::Mutex;

use super::{
    assets::Assets,
    pki::{Authority, Identity},
    process::{Launch, Process, Signal, free_port, fresh_dir, with_free_ports},
};

const READY: Duration = Duration::from_mins(1);

/// How clients connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EtcdSecurity {
    /// Without TLS.
    #[default]
    Plain,
    /// The server has a certificate.
    Tls,
    /// Clients need a certificate, too.
    MutualTls,
}

/// Options of an etcd to start.
#[derive(Clone, Debug, Default)]
pub struct EtcdOptions {
    /// How clients connect.
    pub security: EtcdSecurity,
    /// Key prefix that only user `spaceport` (password [`PASSWORD`]) may read and write; `None`: no authentication.
    pub users: Option<String>,
    /// Whether writes survive a crash of the machine. Without, they are faster and survive only a crash of etcd.
    pub fsync: bool,
    /// Bytes of the database at which it rejects writes; `None`: etcd's default.
    pub quota: Option<u64>,
}

/// Password of users `spaceport` and `root`, if authentication is on.
pub const PASSWORD: &str = "spaceport-password";

/// A running etcd.
pub struct Etcd {
    assets: Arc<Assets>,
    name: String,
    dir: PathBuf,
    options: EtcdOptions,
    authority: Option<Authority>,
    client: Option<Identity>,
    port: u16,
    process: Mutex<Option<Arc<Process>>>,
}

impl Etcd {
    /// The address of its member for others of its kind, of which there are none.
    pub const PEER: &str = "http://127.0.0.1:2380";

    /// Starts etcd with its files in `dir`, and waits until it responds.
    pub async fn start_new(
        assets: &Arc<Assets>,
        dir: &Path,
        name: &str,
        options: EtcdOptions,
    ) -> Result<Self> {
        fresh_dir(dir)?;
        let secure = options.security != EtcdSecurity::Plain;
        let authority = secure.then(|| Authority::create(&dir.join("pki"), name)).transpose()?;
        let client = authority.as_ref().map(|ca| ca.client("spaceport", &[])).transpose()?;
        if let Some(ca) = &authority {
            ca.server("server")?;
        }
        let mut etcd = Self {
            assets: Arc::clone(assets),
            name: name.to_owned(),
            dir: dir.to_path_buf(),
            options,
            authority,
            client,
            port: 0,
            process: Mutex::new(None),
        };
        with_free_ports(async || {
            etcd.port = free_port()?;
            etcd.launch(false).await
        })
        .await?;
        etcd.add_users().await?;
        Ok(etcd)
    }

    /// Its client address, such as `https://127.0.0.1:2379`.
    pub fn endpoint(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// File of the CA of its certificate, if it has one.
    pub fn ca(&self) -> Option<PathBuf> {
        self.authority.as_ref().map(Authority::ca)
    }

    /// Client certificate of user `spaceport`, if there is TLS.
    pub fn client_identity(&self) -> Option<&Identity> {
        self.client.as_ref()
    }

    /// User name and password, if authentication is on.
    pub fn user(&self) -> Option<(&'static str, &'static str)> {
        self.options.users.as_ref().map(|_| ("spaceport", PASSWORD))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Folder of its data; copy or replace it only while etcd is stopped.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A client with Spaceport's own credentials.
    pub async fn connect(&self) -> Result<Client> {
        self.connect_as(self.user()).await
    }

    /// A client with all rights.
    pub async fn connect_root(&self) -> Result<Client> {
        self.connect_as(self.user().map(|(_, password)| ("root", password))).await
    }

    /// Its process, if it is running.
    pub fn process(&self) -> Option<Arc<Process>> {
        self.process.lock().clone()
    }

    /// Ends it and keeps its data.
    pub async fn stop(&self) -> Result<()> {
        let process = self.process.lock().take();
        if let Some(process) = process {
            process.stop(Duration::from_secs(5)).await?;
        }
        Ok(())
    }

    /// Ends it with SIGKILL, like a crash; only written data survives.
    pub async fn kill(&self) -> Result<()> {
        let process = self.process.lock().take();
        if let Some(process) = process {
            process.kill().await?;
        }
        Ok(())
    }

    /// Starts it again at the same address with the same data.
    pub async fn start(&self) -> Result<()> {
        with_free_ports(async || self.launch(self.options.users.is_some()).await).await
    }

    /// Freezes it: connections stay open and nothing answers.
    pub async fn pause(&self) -> Result<()> {
        self.signal(Signal::Stop).await
    }

    /// Resumes it.
    pub async fn resume(&self) -> Result<()> {
        self.signal(Signal::Cont).await
    }

    async fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process().with_context(|| format!("{} does not run", self.name))?;
        process.signal(signal).await
    }

    async fn launch(&self, as_root: bool) -> Result<()> {
        let process = Process::start(&self.assets, &self.command()).await?;
        let user = as_root.then_some(("root", PASSWORD));
        process
            .ready(READY, async || {
                self.connect_as(user).await?.status().await?;
                Ok(())
            })
            .await?;
        *self.process.lock() = Some(Arc::new(process));
        Ok(())
    }

    fn command(&self) -> Launch {
        let endpoint = self.endpoint();
        let mut args = vec![
            format!("--name={}", self.name),
            format!("--data-dir={}", self.dir.join("data").display()),
            format!("--listen-client-urls={endpoint}"),
            format!("--advertise-client-urls={endpoint}"),
            "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
            format!("--initial-advertise-peer-urls={}", Self::PEER),
            format!("--initial-cluster={}={}", self.name, Self::PEER),
            "--log-level=warn".to_owned(),
        ];
        if !self.options.fsync {
            args.push("--unsafe-no-fsync".to_owned());
        }
        if let Some(quota) = self.options.quota {
            args.push(format!("--quota-backend-bytes={quota}"));
        }
        if let Some(ca) = &self.authority {
            let pki = self.dir.join("pki");
            args.push(format!("--cert-file={}", pki.join("server.pem").display()));
            args.push(format!("--key-file={}", pki.join("server-key.pem").display()));
            if self.options.security == EtcdSecurity::MutualTls {
                args.push("--client-cert-auth".to_owned());
                args.push(format!("--trusted-ca-file={}", ca.ca().display()));
            }
        }
        Launch::new(&self.name, &self.assets.program("etcd"), args, &self.dir.join("etcd.log"))
    }

    async fn connect_as(&self, user: Option<(&str, &str)>) -> Result<Client> {
        let mut options = ConnectOptions::new().with_connect_timeout(Duration::from_secs(2));
        if let Some(ca) = &self.authority {
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca.ca_pem()));
            if let Some(client) = &self.client {
                tls = tls.identity(ClientIdentity::from_pem(&client.cert_pem, &client.key_pem));
            }
            options = options.with_tls(tls);
        }
        if let Some((name, password)) = user {
            options = options.with_user(name, password);
        }
        let client = Client::connect([self.endpoint()], Some(options)).await;
        client.with_context(|| format!("cannot connect to {} at {}", self.name, self.endpoint()))
    }

    async fn add_users(&self) -> Result<()> {
        let Some(prefix) = &self.options.users else { return Ok(()) };
        let mut client = self.connect_as(None).await?;
        let permission = Permission::new(PermissionType::Readwrite, prefix.as_bytes()).with_prefix();
        client.role_add("root").await?;
        client.user_add("root", PASSWORD, None).await?;
        client.user_grant_role("root", "root").await?;
        client.role_add("spaceport").await?;
        client.role_grant_permission("spaceport", permission).await?;
        client.user_add("spaceport", PASSWORD, None).await?;
        client.user_grant_role("spaceport", "spaceport").await?;
        client.auth_enable().await.context("cannot switch etcd's authentication on")?;
        Ok(())
    }
}
