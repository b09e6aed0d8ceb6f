//! What a workspace starts with: nothing, a repository, a backup or a snapshot. A password comes from a file or from a person at a
//! terminal, never from the command line, which every user of the machine can read.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::failure::Usage;
use crate::input::{self, Name, Patience};
use crate::password;
use domain::{git, path, snapshot_name};
use proto::contentservice::workspace_initializer::Spec;
use proto::contentservice::{
    CloneTargetMode, EmptyInitializer, FromBackupInitializer, GitAuthMethod, GitConfig, GitInitializer,
    SnapshotInitializer, WorkspaceInitializer,
};

/// Where the content comes from.
#[derive(Debug, Args)]
pub struct ContentArgs {
    /// Repository to clone; without it, a backup or a snapshot, the workspace is empty
    #[arg(long, value_name = "URL", group = "source")]
    git_url: Option<String>,
    /// Branch to check out instead of the default one
    #[arg(long, value_name = "BRANCH", requires = "git_url", group = "target")]
    git_branch: Option<String>,
    /// Commit, tag or other reference to check out, without a branch
    #[arg(long, value_name = "COMMIT", requires = "git_url", group = "target")]
    git_commit: Option<String>,
    /// New local branch to begin on top of the default one
    #[arg(long, value_name = "BRANCH", requires = "git_url", group = "target")]
    git_new_branch: Option<String>,
    /// Fetch the whole history instead of the last commits
    #[arg(long, requires = "git_url")]
    git_full_clone: bool,
    /// Folder to clone into, below /workspace; the repository's name when absent
    #[arg(long, value_name = "FOLDER", requires = "git_url")]
    git_location: Option<String>,
    /// User for the git server; its password or token comes from one of the two flags below
    #[arg(long, value_name = "USER", requires_all = ["git_url", "password"])]
    git_user: Option<String>,
    /// File with the password or token, without the line break at its end; - is standard input
    #[arg(long, value_name = "FILE", requires = "git_user", group = "password")]
    git_password_file: Option<PathBuf>,
    /// Ask for the password or token on the terminal, without showing it
    #[arg(long, requires = "git_user", group = "password")]
    git_password_prompt: bool,
    /// Restore the newest backup of the workspace with --meta-id, or the one that `workspace backups` names so
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..=1,
        require_equals = true,
        requires = "meta_id",
        group = "source"
    )]
    #[allow(
        clippy::option_option,
        reason = "the form that the parser has for a flag with an optional value"
    )]
    from_backup: Option<Option<String>>,
    /// Restore the snapshot of this name, as `workspace snapshot` and `workspace backups` print it
    #[arg(long, value_name = "NAME", group = "source")]
    from_snapshot: Option<String>,
}

impl ContentArgs {
    /// Finds what must not be sent.
    pub fn check(&self) -> Result<()> {
        if self.git_url.as_deref().is_some_and(git::has_login) {
            let text = "--git-url must not hold a user or a password, because every user of this machine can read the \
                        command line: give --git-user, and --git-password-file or --git-password-prompt";
            return Err(Usage(text.to_owned()).into());
        }
        let backup = self.from_backup.as_ref().and_then(Option::as_ref).map(|name| ("--from-backup", name));
        let snapshot = self.from_snapshot.as_ref().map(|name| ("--from-snapshot", name));
        // Not by the parser of the flag, which would print a URL with a password.
        for (flag, name) in backup.into_iter().chain(snapshot) {
            snapshot_name::check(name).map_err(|rule| Usage(format!("{flag} {rule}")))?;
        }
        Ok(())
    }

    /// Name of the repository, if there is one.
    pub fn repository(&self) -> Option<String> {
        self.git_url.as_deref().and_then(repository_name)
    }

    /// The folder that the IDE opens unless another is given.
    pub fn folder(&self) -> Option<String> {
        self.git_location.clone().or_else(|| self.repository())
    }

    /// Reads the password, if one is needed. `location` is the folder that the IDE opens, if it was given.
    pub fn initializer(&self, location: Option<&str>, patience: Patience) -> Result<WorkspaceInitializer> {
        let snapshot = |name: &String| {
            Spec::Snapshot(SnapshotInitializer { snapshot: name.clone(), ..Default::default() })
        };
        let spec = match (&self.git_url, &self.from_backup, &self.from_snapshot) {
            (Some(url), ..) => Spec::Git(self.git(url, patience)?),
            (None, Some(Some(name)), _) | (None, None, Some(name)) => snapshot(name),
            (None, Some(None), _) => Spec::Backup(FromBackupInitializer {
                checkout_location: location.unwrap_or_default().to_owned(),
                ..Default::default()
            }),
            (None, None, None) => Spec::Empty(EmptyInitializer {}),
        };
        Ok(WorkspaceInitializer { spec: Some(spec) })
    }

    fn git(&self, url: &str, patience: Patience) -> Result<GitInitializer> {
        let (mode, target) = match (&self.git_branch, &self.git_commit, &self.git_new_branch) {
            (Some(branch), ..) => (CloneTargetMode::RemoteBranch, branch.clone()),
            (None, Some(commit), _) => (CloneTargetMode::RemoteCommit, commit.clone()),
            (None, None, Some(branch)) => (CloneTargetMode::LocalBranch, branch.clone()),
            (None, None, None) => (CloneTargetMode::RemoteHead, String::new()),
        };
        let mut config = GitConfig::default();
        if let Some(user) = &self.git_user {
            config.authentication = GitAuthMethod::BasicAuth.into();
            config.auth_user.clone_from(user);
            config.auth_password = self.password(user, url, patience)?;
        }
        Ok(GitInitializer {
            remote_uri: url.to_owned(),
            target_mode: mode.into(),
            clone_taget: target,
            checkout_location: self.folder().unwrap_or_default(),
            config: Some(config),
            full_clone: self.git_full_clone,
            ..Default::default()
        })
    }

    fn password(&self, user: &str, url: &str, patience: Patience) -> Result<String> {
        let (from, password) = match &self.git_password_file {
            // A person who types it must not see it either.
            Some(path) if !input::is_typed(path) => {
                let bytes = input::read_or_stdin(path, input::PASSWORD, patience)?;
                let text = String::from_utf8(bytes);
                let text = text.map_err(|_| Usage(format!("{} is not a text", Name(path))))?;
                let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
                (Name(path).to_string(), line.unwrap_or(&text).to_owned())
            }
            _ => {
                let host = domain::text::shown(url, 80);
                ("the terminal".to_owned(), password::ask(&format!("Password of {user} for {host}: "))?)
            }
        };
        if password.is_empty() {
            return Err(Usage(format!("the password from {from} is empty")).into());
        }
        git::check_login(&password).map_err(|rule| Usage(format!("the password from {from} {rule}")))?;
        Ok(password)
    }
}

/// Name of a repository: the last part of the path in its address, without `.git`; never host or login. `None` if that
/// names no folder.
pub(super) fn repository_name(url: &str) -> Option<String> {
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map(|(_, path)| path),
        // `USER@HOST:PATH`
        None => url.split_once(':').map_or(Some(url), |(_, path)| Some(path)),
    }?;
    let path = path.split(['?', '#']).next().unwrap_or(path).trim_end_matches('/');
    let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".git");
    (!name.is_empty() && path::check_folder(name).is_ok()).then(|| name.to_owned())
}
