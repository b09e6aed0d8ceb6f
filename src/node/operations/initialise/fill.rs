//! The steps of a plan.

use content::initializer::scrub::Scrubber;
use content::initializer::{Fault, Git, Plan, Prebuild, Step, parse};
use content::store::Format;
use domain::workspace::Kind;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::archives::Request;
use crate::helper::{Metric, Operation, Outcome, Progress, Source};
use crate::operations::context::Context;
use crate::operations::error::Failure;
use crate::operations::exchange::{TreeFile, Worker};
use crate::operations::subject::Subject;
use crate::operations::{keep, restore, volumes};
use crate::state::{Base, Content};

/// Fills the empty folder of a workspace by its initializer.
pub(super) async fn fill(
    context: &Context,
    subject: &Subject,
    until: Instant,
    progress: &watch::Sender<Progress>,
) -> Result<Content, Failure> {
    let origin = &subject.origin;
    let secrets = context.secrets.tokens(&subject.namespace, &origin.instance).await;
    let secrets = secrets
        .map_err(|why| Failure::platform(format!("the Secret with the tokens of the workspace: {why}")))?;
    let plan = parse(&subject.initializer, &secrets)?;
    for field in &plan.superseded {
        tracing::info!(instance = %origin.instance, %field, "a later restore replaces this one");
    }
    let mut resolved = plan.clone();
    let filled = match context.logins.resolve(&mut resolved).await {
        Ok(()) => {
            let worker = Worker {
                helper: &context.helper,
                folder: context.disk.layout().content(&origin.instance),
                until,
                scrubber: Scrubber::of_plan(&resolved),
                progress,
            };
            Filling { context, subject, worker, content: Content::default(), is_empty: true }
                .all(&resolved)
                .await
        }
        Err(error) => Err(error.into()),
    };
    context.logins.forget(&plan).await;
    filled
}

struct Filling<'a> {
    context: &'a Context,
    subject: &'a Subject,
    worker: Worker<'a>,
    content: Content,
    is_empty: bool,
}

impl Filling<'_> {
    async fn all(mut self, plan: &Plan) -> Result<Content, Failure> {
        let begun = Instant::now();
        self.content.repository = repository(plan);
        self.content.source = Some(Source::FromOther);
        // A lone backup may be a kept folder, which takes the place of a folder that is not there.
        let is_backup = matches!(plan.steps[..], [Step::Backup(_)]);
        if !is_backup {
            self.prepare().await?;
        }
        for step in &plan.steps {
            self.step(step, is_backup).await?;
            self.is_empty = false;
        }
        if plan.is_composite {
            let size = self.content.metrics.iter().fold(0_u64, |sum, metric| sum.saturating_add(metric.size));
            self.measure("composite", begun, size);
        }
        match self.content.base {
            Some(Base::Head(id)) => self.content.newest = Some(id),
            Some(Base::FullTar { .. }) | None => self.find_newest().await,
        }
        Ok(self.content)
    }

    async fn step(&mut self, step: &Step, is_only: bool) -> Result<(), Failure> {
        let begun = Instant::now();
        match step {
            Step::Empty => {}
            Step::Git(git) => self.clone_repository(git).await?,
            Step::Snapshot(object) => {
                self.worker.step("restoring a snapshot");
                self.clear_without_limit().await?;
                let restored = restore::snapshot(self.context, self.subject, &self.worker, object)
                    .await?
                    .ok_or_else(|| {
                        let message =
                            format!("snapshot {} is not in store {}", object.name, self.context.store.name());
                        Failure::lasting(Fault::User, message)
                    })?;
                self.measure("snapshot", begun, restored.bytes);
            }
            Step::Prebuild(prebuild) => self.prebuild(prebuild).await?,
            Step::Download(download) => {
                self.worker.step("downloading files");
                let outcome = self.worker.run(Operation::download_of(download)).await?;
                let Outcome::Downloaded { bytes } = outcome else { return Err(unexpected(&outcome)) };
                self.measure("fileDownload", begun, bytes);
            }
            Step::Backup(_) => {
                let bytes = self.backup(is_only).await?;
                self.content.source = Some(Source::FromBackup);
                self.measure("fromBackup", begun, bytes);
            }
        }
        Ok(())
    }

    async fn clone_repository(&mut self, git: &Git) -> Result<(), Failure> {
        let begun = Instant::now();
        self.worker.step("cloning a repository");
        let outcome = self.worker.run(Operation::clone_of(git)).await?;
        let Outcome::Cloned { bytes, warnings, .. } = outcome else { return Err(unexpected(&outcome)) };
        self.warn(&warnings);
        self.measure("git", begun, bytes);
        Ok(())
    }

    /// Restores a prebuild and updates its repositories; without a usable one, clones them.
    async fn prebuild(&mut self, prebuild: &Prebuild) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut problem = None;
        if let Some(object) = &prebuild.snapshot {
            self.worker.step("restoring a prebuild");
            self.clear_without_limit().await?;
            match restore::snapshot(self.context, self.subject, &self.worker, object).await {
                Ok(Some(restored)) => {
                    self.worker.step("updating the repositories of a prebuild");
                    let outcome = self.worker.run(Operation::update_of(&prebuild.git)).await?;
                    let Outcome::Updated { head_changed, warnings } = outcome else {
                        return Err(unexpected(&outcome));
                    };
                    self.warn(&warnings);
                    if !head_changed {
                        self.content.source = Some(Source::FromPrebuild);
                    }
                    self.measure("prebuild", begun, restored.bytes);
                    return Ok(());
                }
                Ok(None) => problem = Some(format!("prebuild {} is not in the store", object.name)),
                Err(failure) => problem = Some(failure.message),
            }
            self.is_empty = false;
            self.clear().await?;
        }
        if let Some(problem) = problem {
            let instance = &self.subject.origin.instance;
            tracing::warn!(%instance, reason = %problem, "the prebuild cannot be used; its repositories are cloned");
            if prebuild.git.is_empty() {
                return Err(Failure::lasting(Fault::Platform, problem));
            }
        }
        for git in &prebuild.git {
            self.clone_repository(git).await?;
        }
        Ok(())
    }

    /// Restores the newest backup, or takes the folder that was kept with it. Returns its bytes.
    async fn backup(&mut self, is_only: bool) -> Result<u64, Failure> {
        self.worker.step("looking for the last backup");
        if is_only && let Some(reused) = keep::reuse(self.context, self.subject).await? {
            if reused.tree == keep::Tree::Moved {
                self.record().await?;
            }
            self.content.base = Some(reused.base).filter(|_| reused.tree != keep::Tree::Other);
            return Ok(reused.size);
        }
        // A kept folder that could not be taken may have left something.
        self.is_empty = false;
        self.clear_without_limit().await?;
        let source = restore::newest(self.context, self.subject).await?;
        let base = source.base.clone();
        self.worker.step("restoring the last backup");
        let restored = restore::backup(self.context, self.subject, &self.worker, source, is_only).await?;
        self.content.base = Some(base).filter(|_| is_only);
        Ok(restored.bytes)
    }

    /// Keeps the tree state of a folder whose entries were moved.
    async fn record(&self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::platform(format!("the tree state: {error}"));
        let origin = &self.subject.origin;
        let path = self.context.disk.layout().tree(&origin.instance);
        let mut file = TreeFile::create(path).await.map_err(failed)?;
        let excludes = self.context.settings.excludes.of(&self.subject.class);
        self.worker.exchange(&Request::Record { excludes }, futures::stream::empty(), &mut file).await?;
        file.finish().await.map_err(failed)
    }

    /// Makes the folder for the workspace's user, with the limit of its class.
    async fn prepare(&self) -> Result<(), Failure> {
        let prepared = volumes::prepare(self.context, &self.subject.origin.instance, self.subject.quota);
        prepared.await.map_err(|error| Failure::platform(format!("the folder of the workspace: {error}")))
    }

    /// Empties the folder for a restore, which may exceed the limit until the content is ready: what was backed up near it must come
    /// back.
    async fn clear_without_limit(&mut self) -> Result<(), Failure> {
        self.clear().await?;
        let layout = self.context.disk.layout();
        let lifted = self.context.quota.limit(layout, &self.subject.origin.instance, None);
        lifted.await.map_err(|error| Failure::platform(format!("the limit of the storage: {error}")))
    }

    /// A restore replaces all that earlier steps made.
    async fn clear(&mut self) -> Result<(), Failure> {
        if self.is_empty {
            return Ok(());
        }
        let id = self.subject.origin.instance.clone();
        let emptied = self.context.disk.blocking(self.subject.origin.instance.as_str(), move |layout| {
            volumes::empty(layout, &id, &layout.trash())
        });
        emptied.await.map_err(|error| Failure::platform(format!("the folder of the workspace: {error}")))?;
        self.prepare().await?;
        self.is_empty = true;
        Ok(())
    }

    /// The newest head, of a workspace that will be backed up.
    async fn find_newest(&mut self) {
        if self.subject.origin.kind != Kind::Regular {
            return;
        }
        if self.context.settings.format != Format::Zst {
            // The format may be another one when it is backed up.
            self.content.unlisted = Some(Timestamp::now());
            return;
        }
        match self.context.store.list_heads(&self.subject.keys()).await {
            Ok(heads) => self.content.newest = heads.last().copied(),
            Err(error) => {
                let instance = &self.subject.origin.instance;
                tracing::warn!(%instance, %error, "the heads of the workspace cannot be listed; its backup does that");
                self.content.unlisted = Some(Timestamp::now());
            }
        }
    }

    fn measure(&mut self, kind: &str, begun: Instant, size: u64) {
        let duration = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.content.metrics.push(Metric { kind: kind.to_owned(), duration, size });
    }

    fn warn(&self, warnings: &[String]) {
        for warning in warnings {
            tracing::warn!(instance = %self.subject.origin.instance, %warning, "initialisation goes on");
        }
    }
}

/// The folder whose git status is reported at the end.
fn repository(plan: &Plan) -> Option<String> {
    plan.steps.iter().find_map(|step| match step {
        Step::Git(git) => Some(git.folder.as_str().to_owned()),
        Step::Prebuild(prebuild) => prebuild.git.first().map(|git| git.folder.as_str().to_owned()),
        Step::Backup(folder) => Some(folder.as_str().to_owned()),
        Step::Empty | Step::Snapshot(_) | Step::Download(_) => None,
    })
}

fn unexpected(outcome: &Outcome) -> Failure {
    Failure::platform(format!("the helper answered something else: {outcome:?}"))
}
