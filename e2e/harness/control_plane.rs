//! The command lines of a cluster's programs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    assets::{Assets, source_dir},
    process::Launch,
    real_node::NO_PROXY,
};

/// Files and ports of one cluster.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The cluster's name, for errors.
    pub name: String,
    /// The cluster's folder.
    pub dir: PathBuf,
    /// Port of the apiserver on 127.0.0.1.
    pub port: u16,
    /// Port of KWOK on 127.0.0.1, the kubelet of every node.
    pub kubelet_port: u16,
    /// Client address of the cluster's etcd.
    pub etcd: String,
    /// Content of [`Layout::audit_log`].
    pub audit: Audit,
    /// How long the apiserver keeps serving, not ready, after it is asked to end.
    pub shutdown_delay: Duration,
    /// Whether a real kubelet joins: the apiserver then proves itself to kubelets, and they to it.
    pub real_node: bool,
}

/// Content of an apiserver's audit log. Each entry costs a write to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audit {
    /// Nothing.
    #[default]
    Off,
    /// User and request, once per answered request; watches when they end.
    Requests,
    /// The same, with the response object of each write of a Workspace or a pod.
    Objects,
}

const AUDIT_HEAD: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
omitManagedFields: true
rules:
- level: None
  nonResourceURLs: ['/readyz*', '/livez*', '/healthz*', '/metrics*', '/api*', '/openapi*', '/version*']
";
const AUDIT_OBJECTS: &str = "\
- level: RequestResponse
  verbs: [create, update, patch, delete, deletecollection]
  resources:
  - { group: workspace.gitpod.io, resources: [workspaces, workspaces/status] }
  - { group: '', resources: [pods, pods/status] }
";
const AUDIT_REST: &str = "- level: Metadata\n";

impl Layout {
    /// Kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// Folder of certificates and keys.
    pub fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// File of bearer tokens.
    pub fn tokens(&self) -> PathBuf {
        self.dir.join("tokens.csv")
    }

    /// Policy of the apiserver's audit log.
    pub fn audit_policy(&self) -> PathBuf {
        self.dir.join("audit-policy.yaml")
    }

    /// The apiserver's audit log: an `audit.k8s.io/v1` Event as JSON on each line, in the order of responses.
    pub fn audit_log(&self) -> PathBuf {
        self.dir.join("audit.log")
    }

    /// The file that KWOK serves as the log of every container, in the format of container runtimes.
    pub fn container_log(&self) -> PathBuf {
        self.dir.join("container.log")
    }

    /// Writes the logs that KWOK serves, and its configuration for them.
    pub fn write_logs(&self) -> std::io::Result<()> {
        let (now, before) = (self.container_log(), self.dir.join("container-before.log"));
        std::fs::write(&now, "")?;
        std::fs::write(&before, "2026-01-01T00:00:00.000000000Z stdout F what ran before\n")?;
        let logs = format!(
            "{{logsFile: '{}', previousLogsFile: '{}', follow: true}}",
            now.display(),
            before.display()
        );
        std::fs::write(
            self.logs_config(),
            format!(
                "apiVersion: kwok.x-k8s.io/v1alpha1\nkind: ClusterLogs\nmetadata: {{name: all}}\nspec: {{logs: [{logs}]}}\n"
            ),
        )
    }

    fn logs_config(&self) -> PathBuf {
        self.dir.join("kwok-logs.yaml")
    }

    /// Writes the files that the apiserver's command line names.
    pub fn write_audit_policy(&self) -> std::io::Result<()> {
        let objects = match self.audit {
            Audit::Off => return Ok(()),
            Audit::Requests => "",
            Audit::Objects => AUDIT_OBJECTS,
        };
        std::fs::write(self.audit_policy(), format!("{AUDIT_HEAD}{objects}{AUDIT_REST}"))
    }

    /// The API server, with RBAC and without rate limits that would slow tests.
    pub fn apiserver(&self, assets: &Assets) -> Launch {
        let pki = |file: &str| self.pki().join(file).display().to_string();
        let mut args = vec![
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.port),
            format!("--etcd-servers={}", self.etcd),
            format!("--tls-cert-file={}", pki("apiserver.pem")),
            format!("--tls-private-key-file={}", pki("apiserver-key.pem")),
            format!("--client-ca-file={}", pki("ca.pem")),
            format!("--token-auth-file={}", self.tokens().display()),
            format!("--authorization-mode={}RBAC", if self.real_node { "Node," } else { "" }),
            // As in real clusters: policies reject privileged pods.
            "--allow-privileged=true".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", pki("service-accounts.pub")),
            format!("--service-account-signing-key-file={}", pki("service-accounts.key")),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            // Loopback addresses are invalid as endpoints of service `kubernetes`, and nothing here uses them.
            "--endpoint-reconciler-type=none".to_owned(),
            "--max-requests-inflight=4000".to_owned(),
            "--max-mutating-requests-inflight=2000".to_owned(),
            "--profiling=false".to_owned(),
            format!("--shutdown-delay-duration={}ms", self.shutdown_delay.as_millis()),
        ];
        if self.real_node {
            args.extend([
                "--enable-admission-plugins=NodeRestriction".to_owned(),
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
                format!("--kubelet-certificate-authority={}", pki("ca.pem")),
                format!("--kubelet-client-certificate={}", pki("apiserver-kubelet-client.pem")),
                format!("--kubelet-client-key={}", pki("apiserver-kubelet-client-key.pem")),
            ]);
        }
        if self.audit != Audit::Off {
            args.extend([
                format!("--audit-policy-file={}", self.audit_policy().display()),
                format!("--audit-log-path={}", self.audit_log().display()),
                // Write entries as requests end; a killed apiserver would lose a buffer.
                "--audit-log-mode=blocking".to_owned(),
                // MiB before rotation, which readers do not handle.
                "--audit-log-maxsize=100000".to_owned(),
            ]);
        }
        self.launch(assets, "kube-apiserver", args)
    }

    /// The scheduler. At its default rate of 50 bindings per second a benchmark would measure that.
    pub fn scheduler(&self, assets: &Assets) -> Launch {
        let mut args = self.client_args();
        args.push("--kube-api-content-type=application/vnd.kubernetes.protobuf".to_owned());
        self.launch(assets, "kube-scheduler", args)
    }

    /// The controllers, with few workers: the clusters are small.
    pub fn controller_manager(&self, assets: &Assets) -> Launch {
        let pki = |file: &str| self.pki().join(file).display().to_string();
        let mut args = self.client_args();
        args.extend([
            "--controllers=*,-node-ipam-controller".to_owned(),
            format!("--service-account-private-key-file={}", pki("service-accounts.key")),
            format!("--root-ca-file={}", pki("ca.pem")),
            "--concurrent-gc-syncs=4".to_owned(),
            "--concurrent-namespace-syncs=2".to_owned(),
        ]);
        self.launch(assets, "kube-controller-manager", args)
    }

    /// The simulator of nodes and kubelets, with the stages of `e2e/stages`.
    pub fn kwok(&self, assets: &Assets, stages: &[PathBuf]) -> Launch {
        let mut args = vec![
            format!("--kubeconfig={}", self.kubeconfig().display()),
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake".to_owned(),
            "--node-lease-duration-seconds=40".to_owned(),
            "--node-ip=127.0.0.1".to_owned(),
            format!("--node-port={}", self.kubelet_port),
            format!("--server-address=127.0.0.1:{}", self.kubelet_port),
            format!("--config={}", self.logs_config().display()),
        ];
        if self.real_node {
            let pki = |file: &str| self.pki().join(file).display().to_string();
            args.extend([
                format!("--tls-cert-file={}", pki("kwok.pem")),
                format!("--tls-private-key-file={}", pki("kwok-key.pem")),
            ]);
        }
        args.extend(stages.iter().map(|stage| format!("--config={}", stage.display())));
        self.launch(assets, "kwok", args)
    }

    /// Higher client rates; no leader election, because each program runs once.
    fn client_args(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.kubeconfig().display()),
            "--leader-elect=false".to_owned(),
            "--kube-api-qps=2000".to_owned(),
            "--kube-api-burst=4000".to_owned(),
            "--profiling=false".to_owned(),
            "--secure-port=0".to_owned(),
        ]
    }

    fn launch(&self, assets: &Assets, program: &str, args: Vec<String>) -> Launch {
        let name = format!("{program} of cluster {}", self.name);
        let log = self.dir.join(format!("{program}.log"));
        let mut launch = Launch::new(&name, &assets.program(program), args, &log);
        launch.env = vec![
            // Otherwise kwok reads and writes ~/.kwok.
            ("KWOK_WORKDIR".to_owned(), self.dir.join("kwok").display().to_string()),
        ];
        if self.real_node {
            launch.env.push((NO_PROXY.0.to_owned(), NO_PROXY.1.to_owned()));
        }
        launch
    }
}

/// The stage files of the repository, in order of name.
pub fn stage_files() -> std::io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(source_dir().join("stages"))?;
    let mut files = entries.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|ext| ext == "yaml"));
    files.sort();
    Ok(files)
}

/// A kubeconfig with one cluster, one user and one context; `user` is the body of the user entry, in YAML flow style.
pub fn kubeconfig(name: &str, server: &str, ca_pem: &str, user: &str) -> String {
    use base64::Engine as _;
    let ca = base64::engine::general_purpose::STANDARD.encode(ca_pem);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
         clusters:\n- name: {name}\n  cluster: {{server: \"{server}\", certificate-authority-data: {ca}}}\n\
         users:\n- name: {name}\n  user: {{{user}}}\n\
         contexts:\n- name: {name}\n  context: {{cluster: {name}, user: {name}}}\n"
    )
}
