//! What agent and helper say to each other: one framed request, then lines of JSON.
//!
//! The helper's standard input carries the request, two bytes of the handshake, and the bytes of an archive; its standard output
//! the bytes of an archive; its standard error the events.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use content::initializer::{Auth, Digest, Download, Fault, Git, Login, Target};
use serde::{Deserialize, Serialize};

use super::settings::Settings;

/// Bytes of a request.
pub(super) const REQUEST_MAX: usize = 16 * 1024 * 1024;
/// Bytes of an event.
pub(super) const EVENT_MAX: usize = 4 * 1024 * 1024;
/// Characters of a message for people.
pub(super) const MESSAGE_MAX: usize = 4096;
/// What the agent writes for each event of the handshake.
pub(super) const GO: u8 = b'+';

/// A text that is secret: it crosses the pipe, and `Debug` redacts it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Exposed(pub(super) String);

impl fmt::Debug for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// All that the helper gets.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) settings: Settings,
    /// The folder on the node.
    pub(super) workspace: PathBuf,
    pub(super) operation: Operation,
    /// After which the helper ends itself.
    pub(super) deadline_millis: u64,
}

/// What the helper does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Operation {
    /// Clones a repository, unless its folder is a working copy already.
    Clone {
        /// The repository.
        git: Repository,
    },
    /// Brings the repositories of a restored prebuild to their targets.
    UpdatePrebuild {
        /// The repositories.
        git: Vec<Repository>,
    },
    /// Downloads files.
    Download {
        /// In this order.
        files: Vec<File>,
    },
    /// Reads the git status of a working copy.
    GitStatus {
        /// Relative to the workspace.
        folder: String,
    },
    /// Writes `.gitpod/ready`.
    Ready {
        /// Where the content came from.
        source: Source,
        /// Of each initializer.
        metrics: Vec<Metric>,
    },
    /// Work on archives, see [`super::Archives`].
    Archive {
        /// In the words of the implementation.
        request: serde_json::Value,
    },
}

impl Operation {
    /// From a step of a plan.
    pub fn clone_of(git: &Git) -> Self {
        Self::Clone { git: Repository::of(git) }
    }

    /// From the repositories of a prebuild.
    pub fn update_of(git: &[Git]) -> Self {
        Self::UpdatePrebuild { git: git.iter().map(Repository::of).collect() }
    }

    /// From a step of a plan.
    pub fn download_of(download: &Download) -> Self {
        let file = |file: &content::initializer::RemoteFile| File {
            field: file.field.clone(),
            url: Exposed(file.url.expose().clone()),
            path: file.path.clone(),
            digest: file.digest.as_ref().map(|Digest { algorithm, hex }| (algorithm.clone(), hex.clone())),
        };
        Self::Download { files: download.files.iter().map(file).collect() }
    }

    /// Whether the helper keeps the node's network.
    pub const fn has_network(&self) -> bool {
        matches!(self, Self::Clone { .. } | Self::UpdatePrebuild { .. } | Self::Download { .. })
    }

    /// Whether it is work of git.
    pub const fn runs_git(&self) -> bool {
        matches!(self, Self::Clone { .. } | Self::UpdatePrebuild { .. } | Self::GitStatus { .. })
    }

    /// What it does, for messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Clone { .. } => "cloning a repository",
            Self::UpdatePrebuild { .. } => "updating the repositories of a prebuild",
            Self::Download { .. } => "downloading files",
            Self::GitStatus { .. } => "reading the git status",
            Self::Ready { .. } => "writing .gitpod/ready",
            Self::Archive { .. } => "archive work",
        }
    }
}

/// A repository, see [`Git`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Repository {
    pub(super) field: String,
    pub(super) remote: String,
    pub(super) upstream: Option<String>,
    pub(super) target: Checkout,
    pub(super) folder: String,
    pub(super) config: Vec<(String, Exposed)>,
    /// The first one that fits is used.
    pub(super) logins: Vec<RemoteLogin>,
    pub(super) is_full: bool,
}

/// A login, and the URL that it is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RemoteLogin {
    pub(super) url: String,
    pub(super) user: Exposed,
    pub(super) password: Exposed,
}

/// See [`Target`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Checkout {
    RemoteHead,
    Commit(String),
    RemoteBranch(String),
    LocalBranch(String),
}

impl Repository {
    fn of(git: &Git) -> Self {
        let exposed = |text: &String| Exposed(text.clone());
        let login = |url: &String, login: &Login| RemoteLogin {
            url: url.clone(),
            user: exposed(login.user.expose()),
            password: exposed(login.password.expose()),
        };
        let mut logins = Vec::new();
        // A login in a URL counts before the configured one, as in git.
        logins.extend(git.remote_login.as_ref().map(|of| login(&git.remote, of)));
        logins.extend(git.upstream.as_ref().zip(git.upstream_login.as_ref()).map(|(url, of)| login(url, of)));
        if let Auth::Basic(of) = &git.auth {
            logins.push(login(&git.remote, of));
        }
        Self {
            field: git.field.clone(),
            remote: git.remote.clone(),
            upstream: git.upstream.clone(),
            target: match git.target.clone() {
                Target::RemoteHead => Checkout::RemoteHead,
                Target::Commit(name) => Checkout::Commit(name),
                Target::RemoteBranch(name) => Checkout::RemoteBranch(name),
                Target::LocalBranch(name) => Checkout::LocalBranch(name),
            },
            folder: git.folder.as_str().to_owned(),
            config: git.config.iter().map(|(key, value)| (key.clone(), exposed(value.expose()))).collect(),
            logins,
            is_full: git.is_full,
        }
    }

    /// All secrets as they are.
    pub(super) fn secrets(&self) -> Vec<String> {
        let mut found = Vec::new();
        for login in &self.logins {
            found.extend(content::initializer::scrub::of_login(&login.user.0, &login.password.0));
        }
        for (_, value) in &self.config {
            found.extend(content::initializer::scrub::of_setting(&value.0));
        }
        found
    }
}

/// A file to download.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct File {
    pub(super) field: String,
    pub(super) url: Exposed,
    pub(super) path: String,
    /// Algorithm and lower-case hex.
    pub(super) digest: Option<(String, String)>,
}

/// Where content came from, in the words of the ready file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The last backup.
    FromBackup,
    /// A prebuild whose repositories did not move.
    FromPrebuild,
    /// Anything else.
    FromOther,
}

/// Time and size of an initializer, as in the ready file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// `git`, `fileDownload`, `snapshot`, `fromBackup`, `prebuild` or `composite`.
    #[serde(rename = "type")]
    pub kind: String,
    /// In nanoseconds.
    pub duration: u64,
    /// In bytes.
    pub size: u64,
}

/// State of a working copy. The lists are cut; the totals are complete.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitStatus {
    /// `(detached)` without one.
    pub branch: String,
    /// Empty without one.
    pub latest_commit: String,
    /// At most 100, and then `... and N more`.
    pub uncommitted_files: Vec<String>,
    /// How many there are.
    pub total_uncommitted_files: u64,
    /// At most 100, and then `... and N more`.
    pub untracked_files: Vec<String>,
    /// How many there are.
    pub total_untracked_files: u64,
    /// At most 100, and then `... and N more`.
    pub unpushed_commits: Vec<String>,
    /// How many there are.
    pub total_unpushed_commits: u64,
}

/// What an operation came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// Of [`Operation::Ready`].
    Done,
    /// Of [`Operation::Clone`].
    Cloned {
        /// Bytes in the folder.
        bytes: u64,
        /// False if it was a working copy already.
        cloned: bool,
        /// What did not work and does not matter enough to fail.
        warnings: Vec<String>,
    },
    /// Of [`Operation::UpdatePrebuild`].
    Updated {
        /// Whether a repository is at another commit than in the prebuild.
        head_changed: bool,
        /// What did not work and does not matter enough to fail.
        warnings: Vec<String>,
    },
    /// Of [`Operation::Download`].
    Downloaded {
        /// In all files.
        bytes: u64,
    },
    /// Of [`Operation::GitStatus`]; nothing if the folder is no working copy.
    Status {
        /// The status.
        status: Option<GitStatus>,
    },
    /// Of [`Operation::Archive`].
    Archive {
        /// In the words of the implementation.
        result: serde_json::Value,
    },
}

/// How far an operation is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What it does at the moment.
    pub step: String,
    /// Bytes that were read or written.
    pub bytes: u64,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    /// One sentence, scrubbed of secrets.
    pub(super) message: String,
}

impl Failure {
    pub(super) fn user(message: impl Into<String>) -> Self {
        Self { fault: Fault::User, message: message.into() }
    }

    pub(super) fn configuration(message: impl Into<String>) -> Self {
        Self { fault: Fault::Configuration, message: message.into() }
    }

    pub(super) fn platform(message: impl Into<String>) -> Self {
        Self { fault: Fault::Platform, message: message.into() }
    }
}

/// A line of the helper.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    /// In a user namespace without a mapping; waits for [`GO`].
    Unshared,
    /// The workspace's user, and tied to the life of the agent; waits for [`GO`].
    Entered,
    Progress {
        progress: Progress,
    },
    Done {
        outcome: Outcome,
    },
    Failed {
        failure: Failure,
    },
    /// The helper's own deadline.
    Late,
}

/// Writes an event as one line, in one call.
pub(super) fn emit(event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    io::stderr().lock().write_all(&line)
}

/// Encodes a request: its length in four bytes, then JSON.
pub(super) fn encode(request: &Request) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(request)?;
    let length = u32::try_from(text.len()).ok().filter(|_| text.len() <= REQUEST_MAX);
    let length = length.ok_or_else(|| io::Error::other("the request is too large"))?;
    Ok([&length.to_be_bytes()[..], &text].concat())
}

/// Reads a request.
pub(super) fn read_request(input: &mut impl Read) -> io::Result<Request> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > REQUEST_MAX {
        return Err(io::Error::other("the request is too large"));
    }
    let mut text = vec![0; length];
    input.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// A text of a program or a user for a message: one line, without control characters, cut.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for part in text.split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty()) {
        if !line.is_empty() {
            line.push_str("; ");
        }
        line.push_str(part);
    }
    domain::text::shown(&line, MESSAGE_MAX)
}
