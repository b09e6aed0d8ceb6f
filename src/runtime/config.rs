//! The configuration file: JSON or YAML, every problem at once.
//!
//! Each group has a reader of its own that walks the document with [`reader::Group`], which records every problem and
//! every key that nobody asked for. What comes out is valid: nothing later has to check it again.
//! `docs/configuration.md` is the reference; a test compares it with what the readers know.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use content::{Content, Storage, StorageKind};
pub use etcd::Etcd;
pub use federation::{Federation, HealthTimes, LeaderTimes, Sealing, SealingKey};
pub use follow::{Follower, Groups, RATE_LIMITS};
pub use manager::{Manager, PodRecreation, Timeouts};
pub use reader::Problem;
pub use servers::{ImageBuilderProxy, KeyedLimit, RateLimit, RpcServer};

mod classes;
mod content;
mod etcd;
mod federation;
mod follow;
mod manager;
mod reader;
mod servers;
#[cfg(test)]
mod tests;

use reader::{Group, Report};

/// The exit code for a configuration that cannot be used: `EX_USAGE`.
pub const EXIT_CODE: u8 = 64;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is missing or not ours to read.
    #[error("failed to read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Neither JSON nor YAML. The message holds no content of the file.
    #[error("the configuration is not valid: {0}")]
    Syntax(String),
    /// Everything that is wrong with it.
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
    /// How workspaces are run.
    pub manager: Manager,
    /// Where content is stored.
    pub content: Content,
    /// The gRPC address.
    pub rpc_server: RpcServer,
    /// How image builders are reached.
    pub image_builder_proxy: ImageBuilderProxy,
    /// Where profiles would be served.
    pub pprof: Option<SocketAddr>,
    /// Where metrics are served; none switches them off.
    pub prometheus: Option<SocketAddr>,
    /// Where liveness and readiness are served.
    pub health: SocketAddr,
    /// Where the federation's state is kept.
    pub etcd: Etcd,
    /// How the managers work together.
    pub federation: Federation,
    /// What the groups were when read, to tell which of them changed.
    pub groups: Groups,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Yaml,
}

impl Config {
    /// Reads a file: JSON when its name ends in `.json`, otherwise YAML. Paths in it start at its folder.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let base = path.parent().unwrap_or_else(|| Path::new(""));
        read(&text, if is_json { Format::Json } else { Format::Yaml }, &Report::new(base))
    }
}

fn read(text: &str, format: Format, report: &Report) -> Result<Config, Error> {
    let document = parse(text, format)?;
    let groups = Groups::of(&document);
    let config = read_groups(Group::root(report, document), groups);
    let problems = report.take_problems();
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(Error::Invalid { problems }),
    }
}

fn parse(text: &str, format: Format) -> Result<Value, Error> {
    match format {
        Format::Json => serde_json::from_str(text).map_err(|error| Error::Syntax(error.to_string())),
        Format::Yaml => serde_saphyr::from_str(text)
            // A snippet would quote the file, and there can be keys in it.
            .map_err(|error| Error::Syntax(error.without_snippet().to_string())),
    }
}

/// Reads every group before giving up on any, so that all problems are found.
fn read_groups(mut root: Group<'_>, groups: Groups) -> Option<Config> {
    let manager = manager::read(root.group("manager"));
    let content = content::read(root.group("content"));
    let rpc_server = servers::read_rpc_server(root.group("rpcServer"));
    let image_builder_proxy = servers::read_image_builder_proxy(root.group("imageBuilderProxy"));
    let pprof = root.group("pprof").address("addr", None);
    let prometheus = root.group("prometheus").address("addr", Some("127.0.0.1:9500"));
    let health =
        root.group("health").required("addr", |group, key| group.address(key, Some("127.0.0.1:9090")));
    let etcd = etcd::read(root.group("etcd"));
    let federation = federation::read(root.group("federation"), rpc_server.as_ref());
    Some(Config {
        manager: manager?,
        content,
        rpc_server: rpc_server?,
        image_builder_proxy,
        pprof,
        prometheus,
        health: health?,
        etcd,
        federation: federation?,
        groups,
    })
}
