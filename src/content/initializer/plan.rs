//! What to do, in which order.

use std::fmt;

use domain::secret::Secret;

/// The steps that fill `/workspace`.
#[derive(Debug, Clone)]
pub struct Plan {
    /// In the order of the request; composites are flattened.
    pub steps: Vec<Step>,
    /// Whether the request was a composite: it has a metric of its own then.
    pub is_composite: bool,
    /// Fields of restores that a later restore replaces. As in existing agents, the last snapshot or prebuild counts.
    pub superseded: Vec<String>,
}

/// One step.
#[derive(Debug, Clone)]
pub enum Step {
    /// Leaves the workspace as it is.
    Empty,
    /// Clones a repository.
    Git(Box<Git>),
    /// Restores a snapshot; a missing object is an error.
    Snapshot(Object),
    /// Restores a prebuild and updates its repositories. If the object is missing, the repositories are cloned.
    Prebuild(Prebuild),
    /// Downloads files.
    Download(Download),
    /// Restores the last backup; a missing backup is an error.
    Backup(Folder),
}

/// A folder below `/workspace`, without `..` and control characters. Empty for `/workspace` itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folder(String);

impl Folder {
    /// From a path that [`domain::path::check_folder`] accepts.
    pub(super) fn of_checked(path: &str) -> Self {
        Self(domain::path::below_root(path).trim_end_matches('/').to_owned())
    }

    /// Relative to `/workspace`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An object in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// `OBJECT@BUCKET`, as in the request.
    pub name: String,
    /// Path in the bucket.
    pub object: String,
    /// The bucket.
    pub bucket: String,
}

/// A prebuild.
#[derive(Debug, Clone)]
pub struct Prebuild {
    /// The snapshot; `None` if the repositories are cloned in any case.
    pub snapshot: Option<Object>,
    /// The repositories: updated after the restore, or cloned.
    pub git: Vec<Git>,
}

/// A repository and how to check it out.
#[derive(Clone)]
pub struct Git {
    /// Path of the message, such as `initializer.composite.initializer[0].git`, for messages.
    pub field: String,
    /// The remote `origin`, without a login.
    pub remote: String,
    /// The remote `upstream`, without a login.
    pub upstream: Option<String>,
    /// What to check out.
    pub target: Target,
    /// Where.
    pub folder: Folder,
    /// Settings of the repository. Their values may be secret.
    pub config: Vec<(String, Secret<String>)>,
    /// How to log in.
    pub auth: Auth,
    /// The login that was part of the URL of `origin`.
    pub remote_login: Option<Login>,
    /// The login that was part of the URL of `upstream`.
    pub upstream_login: Option<Login>,
    /// The whole history, or the latest commits.
    pub is_full: bool,
}

// The values of settings are redacted, and URLs have no login.
impl fmt::Debug for Git {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Git")
            .field("field", &self.field)
            .field("remote", &self.remote)
            .field("target", &self.target)
            .field("folder", &self.folder)
            .field("is_full", &self.is_full)
            .finish_non_exhaustive()
    }
}

/// What is checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The remote's default branch.
    RemoteHead,
    /// A commit, detached.
    Commit(String),
    /// A branch of the remote.
    RemoteBranch(String),
    /// A new branch on top of the remote's default branch.
    LocalBranch(String),
}

/// How to log in to a remote.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// With HTTP basic authentication.
    Basic(Login),
    /// With a login that a URL answers once; [`super::one_time`] replaces it.
    OneTime(Secret<String>),
}

/// User and password.
#[derive(Debug, Clone)]
pub struct Login {
    /// May be a token.
    pub user: Secret<String>,
    /// May be empty.
    pub password: Secret<String>,
}

/// Files to download.
#[derive(Debug, Clone)]
pub struct Download {
    /// In the order of the request.
    pub files: Vec<RemoteFile>,
}

/// A file to download.
#[derive(Debug, Clone)]
pub struct RemoteFile {
    /// Path of the message, for messages.
    pub field: String,
    /// Its query and its login may be secret.
    pub url: Secret<String>,
    /// Relative to `/workspace`, the target location included.
    pub path: String,
    /// What the content must hash to.
    pub digest: Option<Digest>,
}

/// An OCI digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// `sha256`, `sha384` or `sha512`.
    pub algorithm: String,
    /// In lower case.
    pub hex: String,
}

impl Plan {
    /// All repositories.
    pub fn repositories(&self) -> impl Iterator<Item = &Git> {
        self.steps.iter().flat_map(|step| match step {
            Step::Git(git) => std::slice::from_ref(&**git),
            Step::Prebuild(prebuild) => prebuild.git.as_slice(),
            _ => &[],
        })
    }

    pub(super) fn repositories_mut(&mut self) -> impl Iterator<Item = &mut Git> {
        self.steps.iter_mut().flat_map(|step| match step {
            Step::Git(git) => std::slice::from_mut(&mut **git),
            Step::Prebuild(prebuild) => prebuild.git.as_mut_slice(),
            _ => &mut [],
        })
    }
}
