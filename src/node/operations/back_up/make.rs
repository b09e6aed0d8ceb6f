//! One try of a backup.

use content::initializer::Fault;
use content::initializer::scrub::Scrubber;
use content::store::{self, BackupId, Choice, Digest, Format, HeadMeta, Proven, ProvenHead};
use domain::workspace::{GitStatus, Kind};
use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::io::ReaderStream;

use super::logs;
use crate::archives::{Answer, Request};
use crate::helper::{self, Operation, Outcome, Progress};
use crate::operations::context::Context;
use crate::operations::error::Failure;
use crate::operations::exchange::{NoFrames, Worker};
use crate::operations::folders;
use crate::operations::subject::{Subject, backup_id, prebuild_key};
use crate::operations::upload::Sending;
use crate::operations::volumes;
use crate::state::{Base, Done, PendingBackup, Stage, State, unless_missing};

/// Makes the backup and proves it.
pub(super) async fn make(
    context: &Context,
    subject: &Subject,
    state: &mut State,
    pending: &mut PendingBackup,
    until: Instant,
    progress: &watch::Sender<Progress>,
) -> Result<Done, Failure> {
    let folder = context.disk.layout().content(&subject.origin.instance);
    volumes::shown(context, &subject.origin.instance).await?;
    check(context, &folder).await?;
    let scrubber = Scrubber::default();
    let worker = Worker { helper: &context.helper, folder, until, scrubber, progress };
    let try_ = Try { context, subject, worker, is_restless: pending.restless };
    if subject.origin.kind != Kind::Regular {
        let done = try_.prebuild().await?;
        return Ok(Done { at_rest: !pending.restless, ..done });
    }
    if pending.git.is_none()
        && let Some(repository) = state.content.as_ref().and_then(|content| content.repository.clone())
    {
        pending.git = try_.git_status(repository).await;
        state.stage = Stage::BackingUp(Box::new(pending.clone()));
        context.disk.write(state).await?;
    }
    find_place(context, subject, state, pending).await?;
    let previous = state.content.as_ref().and_then(|content| content.newest);
    let base = state.content.as_ref().and_then(|content| content.base.clone());
    let done = match context.settings.format {
        Format::Zst => try_.archive(pending.id, previous, base).await?,
        Format::Tar => try_.full_tar(base).await?,
    };
    Ok(Done { git: pending.git.clone(), at_rest: !pending.restless, ..done })
}

/// The id of the backup, if the newest head was not known when the content was made: nothing has it yet. Heads that were written
/// later are of instances that began later.
async fn find_place(
    context: &Context,
    subject: &Subject,
    state: &mut State,
    pending: &mut PendingBackup,
) -> Result<(), Failure> {
    let Some(content) = &mut state.content else { return Ok(()) };
    let Some(made) = content.unlisted.filter(|_| context.settings.format == Format::Zst) else {
        return Ok(());
    };
    content.newest = context.store.newest_head_at(&subject.keys(), made).await?;
    content.unlisted = None;
    pending.id = backup_id(&subject.origin, content.newest);
    state.stage = Stage::BackingUp(Box::new(pending.clone()));
    context.disk.write(state).await?;
    Ok(())
}

/// The folder must be there.
async fn check(context: &Context, folder: &std::path::Path) -> Result<(), Failure> {
    match tokio::fs::symlink_metadata(folder).await {
        Ok(found) if found.is_dir() => Ok(()),
        _ => {
            let (node, folder) = (&context.settings.node, folder.display());
            let message = format!("the content of the workspace is not on node {node} in {folder}");
            Err(Failure::lasting(Fault::Platform, message))
        }
    }
}

struct Try<'a> {
    context: &'a Context,
    subject: &'a Subject,
    worker: Worker<'a>,
    is_restless: bool,
}

impl Try<'_> {
    /// An archive with a head.
    async fn archive(
        &self,
        id: BackupId,
        previous: Option<BackupId>,
        base: Option<Base>,
    ) -> Result<Done, Failure> {
        let (store, keys) = (&self.context.store, self.subject.keys());
        let meta = || HeadMeta {
            made_at: Timestamp::now(),
            agent: self.context.settings.node.clone(),
            instance: self.subject.origin.instance.to_string(),
            previous,
        };
        self.worker.step("checking earlier backups");
        if let Some(head) = self.written(id).await? {
            return Ok(of_head(&head, false));
        }
        if let Some(Base::Head(base)) = base
            && self.is_unchanged().await
        {
            self.worker.step("proving the unchanged backup");
            match store.prove_head(&keys, base).await {
                Ok(head) => {
                    let head = store.write_head(&keys, id, head.archive().clone(), meta()).await?;
                    return Ok(of_head(&head, true));
                }
                Err(not) if not.is_retryable() => return Err(not.into()),
                Err(not) => {
                    tracing::warn!(workspace = %keys.id(), reason = %not, "the backup before is damaged; everything is archived");
                }
            }
        }
        let proven = self.send(&keys.archive(id), false).await?;
        self.worker.step("writing the head");
        let head = store.write_head(&keys, id, proven, meta()).await?;
        self.take_tree().await?;
        Ok(of_head(&head, false))
    }

    /// The head of this backup, if an earlier call wrote it and was killed before it could note that.
    async fn written(&self, id: BackupId) -> Result<Option<ProvenHead>, Failure> {
        let (keys, instance) = (self.subject.keys(), self.subject.origin.instance.as_str());
        let head = self.context.store.own_head(&keys, id, instance, &self.context.settings.node).await?;
        if head.is_some() {
            self.take_tree().await?;
        }
        Ok(head)
    }

    /// `full.tar`, as existing agents write it.
    async fn full_tar(&self, base: Option<Base>) -> Result<Done, Failure> {
        let keys = self.subject.keys();
        if let Some(Base::FullTar { size, made_at }) = base
            && self.is_unchanged().await
            && let Some(Choice::FullTar { backup, .. }) = self.context.store.newest_backup(&keys).await?
            && (backup.size, backup.made_at) == (size, made_at)
        {
            return Ok(done(backup.key.path(), size, None, true));
        }
        let proven = self.send(&keys.full_tar(), true).await?;
        self.take_tree().await?;
        Ok(done(proven.key().path(), proven.size(), Some(proven.digest()), false))
    }

    /// The snapshot that a prebuild leaves, and the logs of its tasks.
    async fn prebuild(&self) -> Result<Done, Failure> {
        logs::store(self.context, self.subject, &self.worker).await;
        let key = prebuild_key(&self.subject.origin, self.context.settings.format);
        let proven = self.send(&key, self.context.settings.format == Format::Tar).await?;
        let name = self.context.store.snapshot_name(&key)?;
        let done = done(key.path(), proven.size(), Some(proven.digest()), false);
        Ok(Done { snapshot: Some(name), ..done })
    }

    async fn send(&self, key: &store::Key, plain: bool) -> Result<Proven, Failure> {
        let layout = self.context.disk.layout();
        let instance = &self.subject.origin.instance;
        let sending = Sending {
            instance,
            key,
            excludes: self.context.settings.excludes.of(&self.subject.class),
            plain,
            tree: (!self.is_restless).then(|| layout.new_tree(instance)),
            journal: layout.journal(instance),
        };
        self.worker.step("writing the archive");
        let (written, uploaded) = sending.send(self.context, &self.worker).await?;
        self.worker.step("proving the archive");
        sending.prove(self.context, written, &uploaded).await
    }

    /// Whether the content is the backup that it came from. If that cannot be found out, it counts as changed.
    async fn is_unchanged(&self) -> bool {
        let instance = &self.subject.origin.instance;
        let Ok(tree) = tokio::fs::File::open(self.context.disk.layout().tree(instance)).await else {
            return false;
        };
        if self.is_restless {
            return false;
        }
        self.worker.step("comparing with the last backup");
        let request = Request::Compare { excludes: self.context.settings.excludes.of(&self.subject.class) };
        let input = ReaderStream::with_capacity(tree, 256 * 1024)
            .map(|chunk| chunk.map_err(|error| Failure::platform(format!("the tree state: {error}"))));
        match self.worker.exchange(&request, input, &mut NoFrames).await {
            Ok(Answer::Unchanged { .. }) => true,
            Ok(Answer::Changed { what }) => {
                tracing::debug!(%instance, %what, "the content changed");
                false
            }
            Ok(_) => false,
            Err(failure) => {
                tracing::warn!(%instance, reason = %failure, "the content cannot be compared with its last backup");
                false
            }
        }
    }

    /// The tree state that was written with the archive is the one of the folder.
    async fn take_tree(&self) -> Result<(), Failure> {
        let id = self.subject.origin.instance.clone();
        let taken = self.context.disk.blocking(self.subject.origin.instance.as_str(), move |layout| {
            unless_missing(folders::relocate(&layout.new_tree(&id), &layout.tree(&id)))
        });
        taken.await.map_err(|error| Failure::platform(format!("the tree state: {error}")))
    }

    /// The status of the working copy. Without one the backup is made all the same.
    async fn git_status(&self, folder: String) -> Option<GitStatus> {
        self.worker.step("reading the git status");
        match self.worker.run(Operation::GitStatus { folder }).await {
            Ok(Outcome::Status { status }) => status.map(git_status),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(instance = %self.subject.origin.instance, %error, "no git status");
                None
            }
        }
    }
}

fn of_head(head: &ProvenHead, unchanged: bool) -> Done {
    let archive = head.archive();
    let done = done(archive.key().path(), archive.size(), Some(archive.digest()), unchanged);
    Done { head: Some(head.id()), ..done }
}

fn done(object: &str, size: u64, digest: Option<Digest>, unchanged: bool) -> Done {
    Done {
        object: object.to_owned(),
        size,
        digest,
        head: None,
        unchanged,
        snapshot: None,
        git: None,
        at: Timestamp::now(),
        at_rest: true,
        settled: false,
    }
}

fn git_status(of: helper::GitStatus) -> GitStatus {
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    let total = |count: u64| Some(i64::try_from(count).unwrap_or(i64::MAX));
    GitStatus {
        branch: text(of.branch),
        latest_commit: text(of.latest_commit),
        total_uncommited_files: total(of.total_uncommitted_files),
        total_unpushed_commits: total(of.total_unpushed_commits),
        total_untracked_files: total(of.total_untracked_files),
        uncommited_files: of.uncommitted_files,
        unpushed_commits: of.unpushed_commits,
        untracked_files: of.untracked_files,
    }
}
