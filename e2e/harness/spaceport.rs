//! Spaceport itself on a fleet: its certificates and keys, manager replicas, the CLI, and gRPC clients.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, runtime::wait::await_condition};
use proto::{
    spaceport::v1::cluster_manager_client::ClusterManagerClient,
    wsman::workspace_manager_client::WorkspaceManagerClient,
};
use serde_json::json;
use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::{
    Assets, Cluster, Etcd, Launch, Process,
    assets::{source_dir, target_dir},
    pki::{self, Authority},
    process::with_free_ports,
};

/// Timeout until a replica is ready.
const READY: Duration = Duration::from_secs(40);
/// Timeout until a cluster fills in a token.
const TOKEN: Duration = Duration::from_secs(20);
/// Workspace namespace of the example cluster files and of `clusters/member`.
pub const NAMESPACE: &str = "workspaces";
/// Its secrets namespace.
pub const SECRETS_NAMESPACE: &str = "workspace-secrets";
/// etcd prefix that the harness's user may write.
pub const PREFIX: &str = "/spaceport/";

/// One installation: everything that its replicas share.
pub struct Installation {
    assets: Arc<Assets>,
    dir: PathBuf,
    authority: Authority,
    admin: pki::Identity,
    client: pki::Identity,
    etcd: serde_json::Value,
    namespaces: (String, String),
    /// Merged into the configuration of every replica, by top-level group and key.
    pub overrides: serde_json::Value,
}

/// A running manager.
pub struct Replica {
    pub name: String,
    /// gRPC address: `https://127.0.0.1:port`.
    pub endpoint: String,
    /// Base URL of `/livez`, `/readyz` and `/metrics`: `http://127.0.0.1:port`.
    pub health: String,
    pub process: Process,
}

/// Output and exit code of a command.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Installation {
    /// Creates certificates and a sealing key below `dir`; its state is in `etcd`, in namespaces of the default names.
    pub fn new(assets: &Arc<Assets>, dir: &Path, etcd: &Etcd) -> Result<Self> {
        Self::apart(assets, dir, etcd, PREFIX, (NAMESPACE, SECRETS_NAMESPACE))
    }

    /// As [`Installation::new`], with its own etcd prefix and its own namespaces.
    pub fn apart(
        assets: &Arc<Assets>,
        dir: &Path,
        etcd: &Etcd,
        prefix: &str,
        (namespace, secrets): (&str, &str),
    ) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let authority = Authority::create(&dir.join("pki"), "spaceport")?;
        let key = dir.join("sealing.key");
        fs::write(&key, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n")
            .with_context(|| format!("cannot write {}", key.display()))?;
        Ok(Self {
            assets: Arc::clone(assets),
            dir: dir.to_path_buf(),
            admin: authority.client("admin", &["spaceport:admin"])?,
            client: authority.client("client", &[])?,
            authority,
            etcd: etcd_config(etcd, dir, prefix)?,
            namespaces: (namespace.to_owned(), secrets.to_owned()),
            overrides: json!({}),
        })
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The folder with configurations and logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes the configuration of a replica; returns its path.
    pub fn write_config(&self, name: &str, rpc: u16, health: u16) -> Result<PathBuf> {
        // One for each replica: do not rewrite a file that another replica reads.
        let server = self.authority.manager(&format!("ws-manager-{name}"))?;
        let peer = self.authority.client(&format!("replica-{name}"), &["spaceport:replica"])?;
        let mut config = json!({
            "manager": {
                "urlTemplate": "https://{{ .Prefix }}.ws.spaceport.example",
                "portUrlTemplate": "https://{{ .WorkspacePort }}-{{ .Prefix }}.ws.spaceport.example",
                "hostURL": "https://spaceport.example",
                "workspaceClass": { "g1-standard": class(), "g1-large": class() },
                "preferredWorkspaceClass": "g1-standard",
                // Tests make simulated pods misbehave with these.
                "podAnnotations": ["e2e.spaceport.dev/*"],
            },
            "rpcServer": {
                "addr": format!("127.0.0.1:{rpc}"),
                "tls": { "ca": self.authority.ca(), "crt": server.cert, "key": server.key },
            },
            "health": { "addr": format!("127.0.0.1:{health}") },
            "prometheus": { "addr": format!("127.0.0.1:{health}") },
            "etcd": self.etcd,
            "federation": {
                "replica": name,
                "advertiseAddr": format!("https://127.0.0.1:{rpc}"),
                "sealing": { "keys": [{ "id": "first", "file": self.dir.join("sealing.key") }] },
                "peerTls": { "ca": self.authority.ca(), "crt": peer.cert, "key": peer.key },
            },
        });
        overlay(&mut config, &self.overrides);
        let path = self.dir.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&config).context("cannot write the configuration")?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Starts a manager and waits until it is ready.
    pub async fn start(&self, name: &str) -> Result<Replica> {
        with_free_ports(async || {
            let (rpc, health) = (super::process::free_port()?, super::process::free_port()?);
            let config = self.write_config(name, rpc, health)?;
            let program = program()?;
            let log = self.dir.join(format!("{name}.log"));
            let args = ["manager", "--config", &config.to_string_lossy(), "--json-log=false"];
            let process = Process::start(&self.assets, &Launch::new(name, &program, args, &log)).await?;
            let health = format!("http://127.0.0.1:{health}");
            process.ready(READY, async || get(&format!("{health}/readyz")).await.map(drop)).await?;
            Ok(Replica {
                name: name.to_owned(),
                endpoint: format!("https://127.0.0.1:{rpc}"),
                health,
                process,
            })
        })
        .await
    }

    /// Environment for the CLI: addresses of replicas, and credentials of an admin.
    pub fn cli_env(&self, replicas: &[&Replica]) -> Vec<(String, String)> {
        let endpoints: Vec<&str> = replicas.iter().map(|replica| replica.endpoint.as_str()).collect();
        let path = |path: &Path| path.to_string_lossy().into_owned();
        vec![
            ("SPACEPORT_ENDPOINT".to_owned(), endpoints.join(",")),
            ("SPACEPORT_CA".to_owned(), path(&self.authority.ca())),
            ("SPACEPORT_CERT".to_owned(), path(&self.admin.cert)),
            ("SPACEPORT_KEY".to_owned(), path(&self.admin.key)),
            ("SPACEPORT_OWNER".to_owned(), "demo".to_owned()),
            // Not the configuration of the person who runs the tests.
            ("SPACEPORT_CONFIG".to_owned(), path(&self.dir.join("cli.yaml"))),
        ]
    }

    /// Runs the CLI as an admin.
    pub async fn cli(&self, replicas: &[&Replica], args: &[&str]) -> Result<Output> {
        let mut command = tokio::process::Command::new(program()?);
        command.args(args).envs(self.cli_env(replicas)).kill_on_drop(true);
        run(command).await
    }

    /// A client of the workspace API without a special role.
    pub async fn workspaces(&self, replica: &Replica) -> Result<WorkspaceManagerClient<Channel>> {
        Ok(WorkspaceManagerClient::new(self.client_channel(replica).await?))
    }

    /// A channel of a client without a special role.
    pub async fn client_channel(&self, replica: &Replica) -> Result<Channel> {
        self.channel(&replica.endpoint, Some(&self.client)).await
    }

    /// A client of the admin API.
    pub async fn clusters(&self, replica: &Replica) -> Result<ClusterManagerClient<Channel>> {
        let channel = self.channel(&replica.endpoint, Some(&self.admin)).await?;
        Ok(ClusterManagerClient::new(channel))
    }

    /// A channel with a client certificate, or without.
    pub async fn channel(&self, endpoint: &str, identity: Option<&pki::Identity>) -> Result<Channel> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.authority.ca_pem()));
        if let Some(identity) = identity {
            tls = tls.identity(Identity::from_pem(&identity.cert_pem, &identity.key_pem));
        }
        let endpoint = Endpoint::from_shared(endpoint.to_owned())?.tls_config(tls)?;
        endpoint.connect().await.context("cannot connect to the manager")
    }

    /// Writes a cluster file like the examples in `clusters/`; returns its path.
    pub fn cluster_file(&self, name: &str, region: &str, kubeconfig: &Path) -> Result<PathBuf> {
        let file = json!({
            "name": name,
            "region": region,
            "labels": { "provider": "e2e" },
            "kubeconfig": { "file": kubeconfig },
            "namespaces": [{ "namespace": self.namespaces.0, "secretsNamespace": self.namespaces.1 }],
        });
        let path = self.dir.join(format!("cluster-{name}.yaml"));
        let text = serde_json::to_string_pretty(&file).context("cannot write the cluster file")?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Installs in a cluster what a member cluster needs, as an admin would; returns a kubeconfig of user `spaceport`.
pub async fn prepare_member(cluster: &Cluster) -> Result<PathBuf> {
    cluster.apply_file(&source_dir().join("../clusters/member/pod-policy.yaml")).await?;
    prepare_without_pod_policy(cluster).await
}

/// The same without the pod policy, for tests of other policies with arbitrary pods.
pub async fn prepare_without_pod_policy(cluster: &Cluster) -> Result<PathBuf> {
    let root = source_dir().join("..");
    for file in ["workspaces.workspace.gitpod.io.yaml", "snapshots.workspace.gitpod.io.yaml"] {
        cluster.apply_file(&root.join("crds").join(file)).await?;
    }
    prepare_namespaces(cluster, NAMESPACE, SECRETS_NAMESPACE).await?;
    for file in ["token.yaml", "fence.yaml"] {
        cluster.apply_file(&root.join("clusters/member").join(file)).await?;
    }
    super::fence::in_force(cluster).await?;
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), "spaceport-system");
    let filled = |secret: Option<&Secret>| {
        secret.and_then(|secret| secret.data.as_ref()).is_some_and(|data| data.contains_key("token"))
    };
    let secret = timeout(TOKEN, await_condition(secrets, "spaceport-token", filled))
        .await
        .context("the cluster did not fill in the token")??
        .context("the token's Secret is gone")?;
    let data = secret.data.unwrap_or_default();
    let text = |key: &str| -> Result<String> {
        let bytes = data.get(key).with_context(|| format!("the token's Secret lacks {key}"))?;
        String::from_utf8(bytes.0.clone()).with_context(|| format!("{key} is not text"))
    };
    let path = cluster.dir().join("spaceport.kubeconfig");
    fs::write(&path, kubeconfig(&cluster.api(), &text("ca.crt")?, &text("token")?)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Applies namespaces and rights of `clusters/member` under other names.
pub async fn prepare_namespaces(cluster: &Cluster, namespace: &str, secrets: &str) -> Result<()> {
    let root = source_dir().join("../clusters/member");
    for file in ["namespaces.yaml", "rbac.yaml"] {
        let path = root.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        cluster.apply_yaml(&renamed(&text, (namespace, secrets))).await?;
    }
    cluster.prepare_namespace(namespace).await
}

/// Manifests with other names of the workspace namespace and its secrets namespace.
pub(super) fn renamed(text: &str, (namespace, secrets): (&str, &str)) -> String {
    let mut text = text.to_owned();
    for (ours, wanted) in [(NAMESPACE, namespace), (SECRETS_NAMESPACE, secrets)] {
        for key in ["name", "namespace"] {
            text = text.replace(&format!(" {key}: {ours}\n"), &format!(" {key}: {wanted}\n"));
        }
    }
    text
}

/// A kubeconfig with one context.
pub fn kubeconfig(api: &str, ca: &str, token: &str) -> Result<String> {
    use base64::Engine as _;
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "spaceport",
        "clusters": [{ "name": "c", "cluster": {
            "server": api,
            "certificate-authority-data": base64::engine::general_purpose::STANDARD.encode(ca),
        } }],
        "users": [{ "name": "spaceport", "user": { "token": token } }],
        "contexts": [{ "name": "spaceport", "context": { "cluster": "c", "user": "spaceport" } }],
    });
    serde_json::to_string_pretty(&config).context("cannot write a kubeconfig")
}

/// The program under test, as cargo built it.
pub fn program() -> Result<PathBuf> {
    let path = target_dir()?.join("debug/spaceport");
    if !path.is_file() {
        bail!("{} is not there: cargo build --bin spaceport", path.display());
    }
    Ok(path)
}

/// Runs a command to its end.
pub async fn run(mut command: tokio::process::Command) -> Result<Output> {
    let done = timeout(Duration::from_mins(2), command.output()).await.context("the command hangs")??;
    Ok(Output {
        code: done.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    })
}

/// The body of an HTTP response with status 200.
pub async fn get(url: &str) -> Result<String> {
    use http_body_util::{BodyExt as _, Empty};
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
    let uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    let response = timeout(Duration::from_secs(5), client.get(uri)).await.context("no answer")??;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    if !status.is_success() {
        bail!("{url} answers {status}: {body}");
    }
    Ok(body)
}

fn etcd_config(etcd: &Etcd, dir: &Path, prefix: &str) -> Result<serde_json::Value> {
    let mut config = json!({ "endpoints": [etcd.endpoint()], "prefix": prefix });
    if let Some(ca) = etcd.ca() {
        config["tls"] = json!({ "ca": ca });
        if let Some(identity) = etcd.client_identity() {
            config["tls"]["crt"] = json!(identity.cert);
            config["tls"]["key"] = json!(identity.key);
        }
    }
    if let Some((name, password)) = etcd.user() {
        let file = dir.join("etcd-password");
        fs::write(&file, password).with_context(|| format!("cannot write {}", file.display()))?;
        config["username"] = json!(name);
        config["passwordFile"] = json!(file);
    }
    Ok(config)
}

fn class() -> serde_json::Value {
    json!({ "container": {
        "requests": { "cpu": "100m", "memory": "128Mi" },
        "limits": { "cpu": { "min": "100m", "burst": "2" }, "memory": "2Gi", "storage": "5Gi" },
    } })
}

/// Merges `over` into `base`, object by object.
pub(super) fn overlay(base: &mut serde_json::Value, over: &serde_json::Value) {
    match (base, over) {
        (serde_json::Value::Object(base), serde_json::Value::Object(over)) => {
            for (key, value) in over {
                overlay(base.entry(key.clone()).or_insert(serde_json::Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}
