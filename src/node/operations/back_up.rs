//! Backs up the content of a workspace whose container is gone, and puts the folder where it stays.
//!
//! 1. The state says BackingUp, with the id of the backup.
//! 2. The archive is sent and proven, and its head written. If nothing changed since the backup that the content came from, the head
//!    names the archive of that one.
//! 3. The state says BackedUp. Only from here on the folder may go.
//! 4. The folder moves to the kept ones; superseded backups are pruned.
//!
//! A try that fails is repeated with a backoff, until the backup failed for good: then the folder stays where it is.

mod logs;
mod make;

use std::collections::BTreeSet;
use std::time::Duration;

use content::store::{Choice, Format};
use domain::workspace::Kind;
use jiff::Timestamp;
use k8s::resources::Workspace;
use tokio::sync::watch;
use tokio::time::Instant;

use super::context::Context;
use super::error::{Error, Failure};
use super::keep;
use super::subject::{Subject, backup_id, prebuild_key};
use super::upload;
use crate::helper::Progress;
use crate::state::{Base, Begun, Done, Known, Origin, PendingBackup, Stage, State};

/// For pruning, which the report waits for.
const PRUNE: Duration = Duration::from_secs(30);

/// The name of the snapshot that a prebuild leaves.
pub(super) fn prebuild_name(context: &Context, workspace: &Workspace) -> Result<String, Error> {
    let subject = Subject::of(workspace)?;
    Ok(context.store.snapshot_name(&prebuild_key(&subject.origin, context.settings.format))?)
}

/// Backs up, and returns the state after that.
pub(super) async fn run(
    context: &Context,
    subject: &Subject,
    progress: &watch::Sender<Progress>,
) -> Result<State, Error> {
    let mut state = begin(context, subject).await?;
    if let Stage::BackingUp(pending) = &state.stage {
        let mut pending = (**pending).clone();
        let deadline = context.settings.deadlines.backup;
        let until = Instant::now() + deadline;
        let deadly = state.begun.as_ref().and_then(Begun::is_deadly);
        let made = async {
            if let Some(agents) = deadly {
                return Err(Failure::deadly(agents));
            }
            make::make(context, subject, &mut state, &mut pending, until, progress).await
        };
        let made = tokio::time::timeout_at(until, made).await.unwrap_or_else(|_| {
            let step = progress.borrow().step.clone();
            Err(Failure::platform(format!(
                "it took longer than {} s; its last step was: {step}",
                deadline.as_secs()
            )))
        });
        state.stage = match made {
            Ok(done) => Stage::BackedUp(Box::new(done)),
            Err(failure) => {
                let failing = failing_for(&mut pending, sent(context, subject).await, Timestamp::now());
                failed(context, &state.origin, pending, &failure, failing)
            }
        };
        state.begun = None;
        context.disk.write(&state).await?;
    }
    if let Stage::BackedUp(done) = state.stage.clone()
        && !done.settled
    {
        settle(context, subject, &done).await;
        state.stage = Stage::BackedUp(Box::new(Done { settled: true, ..*done }));
        context.disk.write(&state).await?;
        prune(context, subject).await;
    }
    Ok(state)
}

/// The state from which to go on.
async fn begin(context: &Context, subject: &Subject) -> Result<State, Error> {
    let instance = &subject.origin.instance;
    let mut state = match context.disk.read(instance).await {
        Known::State(state) if state.origin.attempt == subject.origin.attempt => *state,
        Known::Broken(problem) => return Err(Error::Broken(problem)),
        // That a folder is there proves nothing.
        Known::State(_) | Known::Nothing => return Err(Error::NoState(instance.clone())),
    };
    match &mut state.stage {
        Stage::Filled | Stage::Ready => {
            let newest = state.content.as_ref().and_then(|content| content.newest);
            state.stage = Stage::BackingUp(Box::new(PendingBackup {
                id: backup_id(&subject.origin, newest),
                began: Timestamp::now(),
                restless: false,
                tries: 1,
                first_failed: None,
                sent: 0,
                next_try: None,
                problem: None,
                git: None,
            }));
        }
        Stage::BackingUp(pending) if pending.next_try.is_some() => {
            pending.tries += 1;
            pending.next_try = None;
        }
        // One that was interrupted.
        Stage::BackingUp(_) => {}
        _ => return Ok(state),
    }
    if let Stage::BackingUp(pending) = &mut state.stage {
        pending.restless |= subject.is_restless;
        let sent = sent(context, subject).await;
        state.begun = Some(Begun::next(state.begun.as_ref(), context.disk.agents(), sent));
    }
    context.disk.write(&state).await?;
    Ok(state)
}

/// Bytes of the archive that the store has.
async fn sent(context: &Context, subject: &Subject) -> u64 {
    let instance = &subject.origin.instance;
    upload::sent(context, instance, context.disk.layout().journal(instance)).await
}

/// How long tries have failed now, since the last one that sent more of the archive. A try whose agent was killed counts as one, too.
fn failing_for(pending: &mut PendingBackup, sent: u64, now: Timestamp) -> Duration {
    if sent > pending.sent {
        pending.first_failed = None;
    }
    pending.sent = sent;
    now.duration_since(*pending.first_failed.get_or_insert(now)).unsigned_abs()
}

/// What follows a try that failed, after tries have failed for so long.
fn failed(
    context: &Context,
    origin: &Origin,
    pending: PendingBackup,
    failure: &Failure,
    failing: Duration,
) -> Stage {
    let instance = &origin.instance;
    let retry = &context.settings.retry;
    let problem = failure.sentence();
    if failure.is_passing && failing < retry.give_up {
        let now = Timestamp::now();
        let next_try = now.checked_add(retry.after(pending.tries)).unwrap_or(now);
        tracing::warn!(%instance, tries = pending.tries, reason = %problem, "the backup failed and is tried again");
        return Stage::BackingUp(Box::new(PendingBackup {
            next_try: Some(next_try),
            problem: Some(problem),
            ..pending
        }));
    }
    let folder = context.disk.layout().content(instance);
    let node = &context.settings.node;
    let message = format!("{problem}; the content stays on node {node} in {}", folder.display());
    tracing::error!(%instance, tries = pending.tries, reason = %message, "the backup failed");
    Stage::BackupFailed { message }
}

/// Puts the folder where it stays. If that fails, it stays where it is, and housekeeping deletes it once the workspace is gone.
async fn settle(context: &Context, subject: &Subject, done: &Done) {
    let settled = match (subject.origin.kind, done.at_rest) {
        // Whatever still runs there could change what is kept.
        (_, false) => Ok(()),
        (Kind::Regular, true) => match base(context, subject, done).await {
            Some(base) => keep::keep(context, subject, base, done.size).await,
            None => keep::discard(context, subject).await,
        },
        (Kind::Prebuild | Kind::ImageBuild, true) => keep::discard(context, subject).await,
    };
    if let Err(error) = settled {
        tracing::warn!(instance = %subject.origin.instance, %error, "the folder stays where it is after its backup");
    }
}

/// The backup that the folder is equal to.
async fn base(context: &Context, subject: &Subject, done: &Done) -> Option<Base> {
    if let Some(head) = done.head {
        return Some(Base::Head(head));
    }
    match context.store.newest_backup(&subject.keys()).await {
        Ok(Some(Choice::FullTar { backup, .. })) if backup.size == done.size => {
            Some(Base::FullTar { size: backup.size, made_at: backup.made_at })
        }
        _ => None,
    }
}

/// Deletes superseded backups of the workspace.
async fn prune(context: &Context, subject: &Subject) {
    if context.settings.format != Format::Zst || subject.origin.kind != Kind::Regular {
        return;
    }
    let (keys, kept, instance) = (subject.keys(), BTreeSet::new(), &subject.origin.instance);
    let pruned = async {
        let heads = context.store.list_heads(&keys).await?;
        // Nothing can be superseded; the report does not wait for more requests.
        let keep = usize::try_from(context.settings.pruning.keep).unwrap_or(usize::MAX);
        let Some(newest) = heads.last().filter(|_| heads.len() > keep) else { return Ok(None) };
        let proven = context.store.prove_head(&keys, *newest).await?;
        let by = (context.settings.pruning, Timestamp::now());
        // Snapshots and prebuilds are objects of their own: none names an archive of a backup.
        let pruned = context.store.prune(&keys, &proven, &kept, &BTreeSet::new(), by).await?;
        Ok::<_, content::store::Error>(Some(pruned))
    };
    match tokio::time::timeout(PRUNE, pruned).await {
        Ok(Ok(Some(pruned))) if !pruned.heads.is_empty() || !pruned.archives.is_empty() => {
            tracing::info!(%instance, heads = pruned.heads.len(), archives = pruned.archives.len(), "pruned superseded backups");
        }
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%instance, %error, "superseded backups cannot be pruned"),
        Err(_) => tracing::warn!(%instance, "pruning superseded backups takes too long"),
    }
}

#[cfg(test)]
mod tests {
    use content::store::BackupId;

    use super::*;

    #[test]
    fn tries_count_as_failing_from_the_first_failure_on_and_anew_after_progress() {
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        let mut pending = PendingBackup {
            id: BackupId::first(1),
            began: at(0),
            restless: false,
            tries: 1,
            first_failed: None,
            sent: 0,
            next_try: None,
            problem: None,
            git: None,
        };
        let mut failing = |sent, second| failing_for(&mut pending, sent, at(second)).as_secs();
        // The first try took an hour.
        assert_eq!(failing(0, 3_600), 0);
        assert_eq!(failing(0, 3_700), 100);
        // Also by a try whose agent was killed.
        assert_eq!(failing(10, 5_400), 0);
        assert_eq!(failing(10, 5_500), 100);
        // The store forgot the upload.
        assert_eq!(failing(4, 5_600), 200);
        assert_eq!(failing(8, 5_700), 0);
    }
}
