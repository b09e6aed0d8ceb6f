//! Reads the configuration file, JSON or YAML, and reports all problems at once.
//!
//! Each group has a reader that walks the document with [`reader::Group`], which records every problem and every unknown key.
//! The result is valid and is not checked again. `docs/configuration.md` is the reference; a test compares its keys with those
//! of the readers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use audit::{Audit, AuditTarget};
pub use clients::{Clients, Scope};
pub use content::{Content, ContentFormat, ContentPruning, ContentUpload, Storage, StorageKind};
pub use etcd::Etcd;
pub use federation::{Federation, HealthTimes, LeaderTimes, Sealing, SealingKey};
pub use folder::read as files_below;
pub use follow::{Follower, Groups, RATE_LIMITS};
pub use reader::{Group, Problem, Report, TemplateCheck};
pub use servers::{ImageBuilderProxy, KeyedLimit, RateLimit, RpcServer, SessionCaps, StreamCaps};

mod audit;
mod classes;
mod clients;
mod content;
mod etcd;
mod federation;
mod folder;
mod follow;
mod manager;
mod reader;
mod servers;
#[cfg(test)]
mod tests;
mod tls;

use domain::manager::Manager;

use crate::files;
use domain::yaml;

/// The exit code for an invalid configuration: `EX_USAGE`.
pub const EXIT_CODE: u8 = 64;

/// Why the configuration could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is missing or not readable.
    #[error("failed to read the configuration {}: {}", path.display(), files::why(error))]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        error: std::io::Error,
    },
    /// Neither JSON nor YAML. The message holds no content of the file.
    #[error("the configuration {} {fault}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The rest of a sentence about the file.
        fault: String,
    },
    /// The configuration has problems.
    #[error("the configuration has {} to solve:\n{}", Count(problems.len()), Lines(problems))]
    Invalid {
        /// In the order of the groups.
        problems: Vec<Problem>,
    },
}

struct Count(usize);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} problem{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

struct Lines<'a>(&'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(index, problem)| {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}  {problem}")
        })
    }
}

/// A valid configuration. Files named in it exist; keys and passwords are read.
#[derive(Debug, Clone)]
pub struct Config {
    /// `manager`: how workspaces run.
    pub manager: Manager,
    /// `content`: storage of content.
    pub content: Content,
    /// `rpcServer`: the gRPC server.
    pub rpc_server: RpcServer,
    /// `imageBuilderProxy`: connections to image builders.
    pub image_builder_proxy: ImageBuilderProxy,
    /// Address for profiles; not used.
    pub pprof: Option<SocketAddr>,
    /// Address of the metrics; `None` disables them.
    pub prometheus: Option<SocketAddr>,
    /// Address of liveness and readiness probes.
    pub health: SocketAddr,
    /// `etcd`: storage of the federation's state.
    pub etcd: Etcd,
    /// `federation`: how the replicas work together.
    pub federation: Federation,
    /// `audit`: where writing calls are recorded.
    pub audit: Audit,
    /// Fingerprints of the groups, to detect which of them changed.
    pub groups: Groups,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Yaml,
}

impl Config {
    /// As [`Config::read`], without checks of other crates.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Ok(Self::read(path, |_| Ok(()))?.finish(Some(()))?.0)
    }

    /// Reads a file: JSON if its name ends in `.json`, otherwise YAML. Paths in it are relative to its folder.
    pub fn read(path: &Path, template: TemplateCheck) -> Result<Reading, Error> {
        let document = read_document(path)?;
        Ok(read(document, &Report::new(base(path), template)))
    }
}

/// Reads the file of another program by the same rules: `read` walks the groups, and all problems are reported together.
pub fn read_file<T>(path: &Path, read: impl FnOnce(&mut Group<'_>) -> Option<T>) -> Result<T, Error> {
    let document = read_document(path)?;
    read_groups_of(document, &Report::new(base(path), |_| Ok(())), read)
}

/// As [`read_file`], from a document.
pub fn read_groups_of<T>(
    document: Value,
    report: &Report,
    read: impl FnOnce(&mut Group<'_>) -> Option<T>,
) -> Result<T, Error> {
    // Dropping the root reports unknown keys.
    let made = read(&mut Group::root(report, document));
    let problems = report.take_problems();
    made.filter(|_| problems.is_empty()).ok_or(Error::Invalid { problems })
}

/// `content` of any program's configuration.
pub fn read_content(root: &mut Group<'_>) -> Content {
    content::read(root.group("content"))
}

fn base(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}

/// JSON if the name ends in `.json`, otherwise YAML.
fn read_document(path: &Path) -> Result<Value, Error> {
    let text = files::read_text(path, files::LARGEST)
        .map_err(|error| Error::Read { path: path.to_owned(), error })?;
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let format = if is_json { Format::Json } else { Format::Yaml };
    parse(&text, format).map_err(|fault| Error::Syntax { path: path.to_owned(), fault })
}

/// A configuration that is being read, with the problems so far. Other crates check their parts before [`Reading::finish`], so
/// that all problems are reported together.
#[derive(Debug)]
pub struct Reading {
    config: Option<Config>,
    /// `manager`, with placeholders for values that have problems.
    pub manager: Option<Manager>,
    /// `rpcServer.ratelimits`.
    pub rate_limits: BTreeMap<String, RateLimit>,
    /// `content.storage`.
    pub storage: Option<Storage>,
    /// `federation.hostKubeconfig`.
    pub host_kubeconfig: Option<PathBuf>,
    problems: Vec<Problem>,
}

impl Reading {
    /// Whether there are no problems so far.
    pub fn is_flawless(&self) -> bool {
        self.problems.is_empty()
    }

    /// Adds the problems of a check, except for keys that already have one.
    pub fn check<T>(&mut self, outcome: Result<T, Vec<Problem>>) -> Option<T> {
        let problems = match outcome {
            Ok(value) => return Some(value),
            Err(problems) => problems,
        };
        for problem in problems {
            if self.problems.iter().all(|known| known.path != problem.path) {
                self.problems.push(problem);
            }
        }
        None
    }

    /// The configuration and `made`, or all problems.
    pub fn finish<T>(self, made: Option<T>) -> Result<(Config, T), Error> {
        match (self.config, made) {
            (Some(config), Some(made)) if self.problems.is_empty() => Ok((config, made)),
            _ => Err(Error::Invalid { problems: self.problems }),
        }
    }
}

fn read(document: Value, report: &Report) -> Reading {
    let groups = Groups::of(&document);
    let reading = read_groups(Group::root(report, document), groups);
    Reading { problems: report.take_problems(), ..reading }
}

/// Parses a text. The error is the rest of a sentence about it.
fn parse(text: &str, format: Format) -> Result<Value, String> {
    match format {
        Format::Json => serde_json::from_str(text).map_err(|error| yaml::json_fault(&error)),
        Format::Yaml => serde_saphyr::from_str(text).map_err(|error| yaml::fault(&error, text)),
    }
}

/// Reads all groups, even after problems, so that all problems are found.
fn read_groups(mut root: Group<'_>, groups: Groups) -> Reading {
    let manager = manager::read(root.group("manager"));
    let content = content::read(root.group("content"));
    let mut rpc_group = root.group("rpcServer");
    let rate_limits = servers::read_rate_limits(&mut rpc_group);
    let rpc_server = servers::read_rpc_server(rpc_group, rate_limits.clone());
    let image_builder_proxy = servers::read_image_builder_proxy(root.group("imageBuilderProxy"));
    let pprof = root.group("pprof").address("addr", None);
    let prometheus = root.group("prometheus").address("addr", Some("127.0.0.1:9500"));
    let health =
        root.group("health").required("addr", |group, key| group.address(key, Some("127.0.0.1:9090")));
    let etcd = etcd::read(root.group("etcd"));
    let mut federation_group = root.group("federation");
    let host_kubeconfig = federation::read_host_kubeconfig(&mut federation_group);
    let federation = federation::read(federation_group, rpc_server.as_ref(), host_kubeconfig.clone());
    let audit = audit::read(root.group("audit"));
    let storage = content.storage.clone();
    let whole = || {
        Some(Config {
            manager: manager.clone()?,
            content,
            rpc_server: rpc_server?,
            image_builder_proxy,
            pprof,
            prometheus,
            health: health?,
            etcd,
            federation: federation?,
            audit,
            groups,
        })
    };
    Reading { config: whole(), manager, rate_limits, storage, host_kubeconfig, problems: Vec::new() }
}
