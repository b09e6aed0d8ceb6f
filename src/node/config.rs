//! The configuration file of the agent. `docs/node-configuration.md` is the reference; a test compares its keys with those of
//! this reader.
//!
//! The file is read as the manager's is: every problem is reported at once, and an unknown key is one. `content` has the keys of
//! the manager's configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use content::store;
use domain::class::Quantity;
use domain::cluster::rules;
use domain::install::WORKSPACE_HOST_PATH;
use domain::names::{Namespace, is_dns_subdomain};
use runtime::config::{ContentFormat, ContentPruning, Error, Group, read_content, read_file};

use crate::helper;

mod free_space;
mod quota;

#[cfg(test)]
mod tests;

pub use free_space::MinFree;
pub use quota::StorageQuota;

/// Environment variable with the name of the node, which the DaemonSet sets.
pub const NODE_NAME: &str = "NODE_NAME";
/// Memory that one process of git may have.
const GIT_MEMORY: std::ops::RangeInclusive<u64> = 128 << 20..=64 << 30;
/// Namespaces that one agent serves.
const NAMESPACES_MAX: usize = 32;

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `node.name`: the Node object.
    pub node: String,
    /// `node.namespaces`: where the workspaces are that it serves.
    pub namespaces: Vec<Served>,
    /// `node.workspaceHostPath`: the folder with the content of all workspaces.
    pub host_path: PathBuf,
    /// `node.kubeconfig`; `None`: the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// `node.operations`.
    pub operations: OperationLimits,
    /// `node.deadlines`.
    pub deadlines: Deadlines,
    /// `node.backupRetry`.
    pub backup_retry: BackupRetry,
    /// `node.excludes`.
    pub excludes: Excludes,
    /// `node.helper`.
    pub helper: helper::Settings,
    /// `node.quota`.
    pub quota: StorageQuota,
    /// `node.diskGuard.minFree`: free space below which the node takes no new workspaces; `None`: it always does.
    pub min_free: Option<MinFree>,
    /// `node.housekeeping.interval`.
    pub housekeeping: Duration,
    /// `content.storage`.
    pub storage: store::Settings,
    /// `content.upload`.
    pub upload: store::UploadLimits,
    /// `content.format`.
    pub format: ContentFormat,
    /// `content.pruning`.
    pub pruning: ContentPruning,
    /// Address of liveness and readiness probes.
    pub health: SocketAddr,
    /// Address of the metrics; `None` disables them.
    pub prometheus: Option<SocketAddr>,
}

/// A namespace with workspaces, and the one with their token Secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Of the Workspaces.
    pub namespace: Namespace,
    /// Of the Secrets `<id>-tokens`.
    pub secrets: Namespace,
}

/// How much is done at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationLimits {
    /// Operations of all kinds.
    pub concurrent: usize,
    /// Of these, backups and snapshots, which upload.
    pub uploads: usize,
}

/// How long an operation may take, from its beginning to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Initializing content.
    pub initialize: Duration,
    /// A backup.
    pub backup: Duration,
    /// A snapshot.
    pub snapshot: Duration,
    /// How long operations may go on after a signal.
    pub shutdown: Duration,
}

/// How a failed backup is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupRetry {
    /// Before the second attempt; the delays double.
    pub first: Duration,
    /// The longest delay.
    pub most: Duration,
    /// How long after the first failure it is given up, and the content kept on the node.
    pub give_up: Duration,
}

/// What backups leave out, as lines of a `.gitignore`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excludes {
    /// Of all workspaces.
    pub all: Vec<String>,
    /// Of workspaces of a class, in addition.
    pub classes: BTreeMap<String, Vec<String>>,
}

impl Config {
    /// Reads a file: JSON if its name ends in `.json`, otherwise YAML. Relative paths are relative to its folder.
    pub fn load(path: &Path) -> Result<Self, Error> {
        read_file(path, |root| read(root, std::env::var(NODE_NAME).ok()))
    }
}

fn read(root: &mut Group<'_>, node_name: Option<String>) -> Option<Config> {
    let mut group = root.group("node");
    let node = read_name(&mut group, node_name);
    let namespaces = read_namespaces(&mut group);
    let host_path = group.text("workspaceHostPath").unwrap_or_else(|| WORKSPACE_HOST_PATH.to_owned());
    if let Err(rule) = rules::check_host_path(&host_path) {
        group.problem("workspaceHostPath", rule);
    }
    let kubeconfig = group.file("kubeconfig");
    let operations = read_operations(group.group("operations"));
    let deadlines = read_deadlines(group.group("deadlines"));
    let backup_retry = read_backup_retry(group.group("backupRetry"));
    let excludes = read_excludes(group.group("excludes"));
    let helper = read_helper(group.group("helper"));
    let quota = quota::read(group.group("quota"));
    let min_free = read_min_free(group.group("diskGuard"));
    let housekeeping = group.group("housekeeping").duration("interval", Duration::from_mins(5));
    drop(group);
    let content = read_content(root);
    let storage = match &content.storage {
        None => {
            root.problem_below(
                "content.storage.kind",
                "is required: without a store nothing can be backed up",
            );
            None
        }
        Some(storage) => store::Settings::read(&storage.settings)
            .map_err(|error| root.problem_below("content.storage", error))
            .ok(),
    };
    let upload = store::UploadLimits::new(content.upload.part_size, content.upload.parallel)
        .map_err(|error| root.problem_below("content.upload", error));
    let health =
        root.group("health").required("addr", |group, key| group.address(key, Some("127.0.0.1:9090")));
    let prometheus = root.group("prometheus").address("addr", Some("127.0.0.1:9500"));
    Some(Config {
        node: node?,
        namespaces,
        host_path: host_path.into(),
        kubeconfig,
        operations,
        deadlines,
        backup_retry,
        excludes,
        helper,
        quota,
        min_free,
        housekeeping,
        storage: storage?,
        upload: upload.ok()?,
        format: content.format,
        pruning: content.pruning,
        health: health?,
        prometheus,
    })
}

fn read_name(group: &mut Group<'_>, node_name: Option<String>) -> Option<String> {
    let name = group.text("name").or(node_name).filter(|name| !name.is_empty());
    let Some(name) = name else {
        group.problem("name", format_args!("is required, or the environment variable {NODE_NAME}"));
        return None;
    };
    if is_dns_subdomain(&name) {
        return Some(name);
    }
    group.problem("name", format_args!("{name:?} is not the name of a node"));
    None
}

fn read_namespaces(group: &mut Group<'_>) -> Vec<Served> {
    const KEY: &str = "namespaces";
    let mut served: Vec<Served> = Vec::new();
    let groups = group.groups(KEY);
    if groups.is_empty() || groups.len() > NAMESPACES_MAX {
        group.problem(KEY, format_args!("must name 1 to {NAMESPACES_MAX} namespaces"));
    }
    for mut one in groups {
        let namespace = one.required("namespace", Group::parsed::<Namespace>);
        let secrets = one.required("secretsNamespace", Group::parsed::<Namespace>);
        let Some((namespace, secrets)) = namespace.zip(secrets) else { continue };
        if let Err(rule) = rules::check_workspace_namespace(namespace.as_str()) {
            one.problem("namespace", rule);
        }
        if namespace == secrets {
            one.problem("secretsNamespace", "must differ from the workspace namespace");
        }
        if served.iter().any(|other| other.namespace == namespace) {
            one.problem("namespace", "is named twice");
        }
        served.push(Served { namespace, secrets });
    }
    served
}

fn read_operations(mut group: Group<'_>) -> OperationLimits {
    let concurrent = group.count("maxConcurrent", 1..=64).unwrap_or(8);
    let uploads = group.count("maxUploads", 1..=64);
    if uploads.is_some_and(|uploads| uploads > concurrent) {
        group.problem("maxUploads", "must be at most maxConcurrent");
    }
    OperationLimits { concurrent, uploads: uploads.unwrap_or_else(|| concurrent.min(5)) }
}

fn read_deadlines(mut group: Group<'_>) -> Deadlines {
    const HOUR: Duration = Duration::from_hours(1);
    Deadlines {
        initialize: group.duration("initialize", HOUR),
        backup: group.duration("backup", HOUR),
        snapshot: group.duration("snapshot", HOUR),
        shutdown: group.duration("shutdown", Duration::from_mins(1)),
    }
}

fn read_backup_retry(mut group: Group<'_>) -> BackupRetry {
    let retry = BackupRetry {
        first: group.duration("first", Duration::from_secs(5)),
        most: group.duration("most", Duration::from_mins(2)),
        give_up: group.duration("giveUp", Duration::from_mins(30)),
    };
    if retry.first > retry.most {
        group.problem("first", "must be at most `most`");
    }
    retry
}

fn read_excludes(mut group: Group<'_>) -> Excludes {
    let all = group.texts("all");
    Excludes { all, classes: group.named_lists("classes").into_iter().collect() }
}

fn read_helper(mut group: Group<'_>) -> helper::Settings {
    let mut settings = helper::Settings::default();
    let folders = group.texts("folders");
    for (index, folder) in folders.iter().enumerate() {
        if !folder.starts_with('/') {
            group.problem(&format!("folders[{index}]"), "must be absolute");
        }
    }
    if !folders.is_empty() {
        settings.folders = folders.into_iter().map(PathBuf::from).collect();
    }
    if let Some(scratch) = group.folder("scratch") {
        settings.scratch = scratch;
    }
    let variables = group.named_texts("environment");
    for (name, _) in &variables {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            group.problem("environment", format_args!("{name:?} is not the name of a variable"));
        }
    }
    settings.environment = variables;
    if group.has("gitMemory") {
        let text = group.text_or_number("gitMemory");
        match text.parse::<Quantity>().map(|quantity| quantity.value()) {
            Ok(bytes) if GIT_MEMORY.contains(&bytes) => settings.limits.git = bytes,
            _ => group.problem("gitMemory", format_args!("{text:?} is not 128Mi to 64Gi")),
        }
    } else {
        group.text("gitMemory");
    }
    settings
}

fn read_min_free(mut group: Group<'_>) -> Option<MinFree> {
    let default = MinFree::default();
    if !group.has("minFree") {
        group.text("minFree");
        return Some(default);
    }
    let text = group.text_or_number("minFree");
    match text.parse::<MinFree>() {
        Ok(free) => Some(free).filter(|free| !free.is_zero()),
        Err(rule) => {
            group.problem("minFree", rule);
            None
        }
    }
}
