//! Makes the content of a workspace, once.
//!
//! 1. The state says Initialising. What an interrupted call left in the folder is discarded.
//! 2. The steps of the plan fill the folder.
//! 3. The state says Filled, and only then the ready file tells the programs of the workspace, so that no later call discards what
//!    they may have used.
//! 4. The state says Ready.

mod fill;

use tokio::sync::watch;
use tokio::time::Instant;

use super::aside;
use super::context::Context;
use super::error::{Error, Failure};
use super::exchange::Worker;
use super::folders;
use super::subject::Subject;
use super::volumes;
use crate::helper::{self, Operation, Progress, Source};
use crate::state::{Begun, Known, Stage, State, remove_file};
use content::initializer::Fault;
use content::initializer::scrub::Scrubber;

/// Initialises, and returns the state after that.
pub(super) async fn run(
    context: &Context,
    subject: &Subject,
    progress: &watch::Sender<Progress>,
) -> Result<State, Error> {
    let mut state = begin(context, subject).await?;
    // Of an earlier call, programs of the workspace may have seen that the content is complete.
    let is_unseen = state.stage == Stage::Initialising;
    let deadline = context.settings.deadlines.initialize;
    let until = Instant::now() + deadline;
    if state.stage == Stage::Initialising {
        let deadly = state.begun.as_ref().and_then(Begun::is_deadly);
        let fill = async {
            match deadly {
                Some(agents) => Err(Failure::deadly(agents)),
                None => fill::fill(context, subject, until, progress).await,
            }
        };
        let filled = tokio::time::timeout_at(until, fill).await;
        let filled = filled.unwrap_or_else(|_| {
            let step = progress.borrow().step.clone();
            let message = format!("it took longer than {} s; its last step was: {step}", deadline.as_secs());
            // Otherwise a repository is too large, or its server too slow.
            let fault = if step.starts_with("restoring") { Fault::Platform } else { Fault::User };
            Err(Failure::lasting(fault, message))
        });
        match filled {
            Ok(content) => {
                state.content = Some(content);
                state.stage = Stage::Filled;
            }
            Err(failure) => {
                discard(context, subject).await?;
                state.stage = Stage::NotInitialised { fault: failure.fault, message: failure.sentence() };
            }
        }
        state.begun = None;
        context.disk.write(&state).await?;
    }
    if state.stage == Stage::Filled {
        // The ready file has space, too, where a restore has filled all of it.
        limit(context, subject, None).await;
        let readied = ready(context, subject, &state, progress).await;
        limit(context, subject, subject.quota).await;
        match readied {
            Ok(()) => state.stage = Stage::Ready,
            Err(NotReady { failure, is_written: false }) if is_unseen => {
                // So that content that is deleted only in part is never taken for complete.
                let unfinished = State { stage: Stage::Initialising, content: None, ..state.clone() };
                context.disk.write(&unfinished).await?;
                discard(context, subject).await?;
                state.content = None;
                state.stage = Stage::NotInitialised { fault: failure.fault, message: failure.sentence() };
            }
            Err(NotReady { failure, .. }) => return Err(Error::NotReady(failure.sentence())),
        }
        context.disk.write(&state).await?;
    }
    Ok(state)
}

/// The state from which to go on. The folder is empty if that is Initialising.
async fn begin(context: &Context, subject: &Subject) -> Result<State, Error> {
    let instance = &subject.origin.instance;
    let attempt = subject.origin.attempt;
    let mut begun = None;
    let is_known = match aside::own(context, &subject.origin).await? {
        Known::Broken(problem) => return Err(Error::Broken(problem)),
        Known::State(state) if state.origin.attempt > attempt => return Ok(*state),
        Known::State(state) if state.origin.attempt == attempt && state.stage != Stage::Initialising => {
            return Ok(*state);
        }
        // A pod that was refused, or an interrupted call: nobody used that.
        Known::State(state) => {
            begun = state.begun.filter(|_| state.origin.attempt == attempt);
            !matches!(state.stage, Stage::BackingUp(_) | Stage::BackupFailed { .. })
        }
        Known::Nothing => false,
    };
    let id = instance.clone();
    let emptied = context.disk.blocking(instance.as_str(), move |layout| {
        let target = if is_known { layout.trash() } else { layout.aside() };
        let had_content = !folders::is_empty(&layout.content(&id))?;
        volumes::empty(layout, &id, &target)?;
        remove_file(&layout.tree(&id))?;
        Ok(had_content)
    });
    let had_content = emptied.await.map_err(Error::stopped)?;
    if had_content && is_known {
        // A full disk has space for the state only after that.
        context.swept().await;
    }
    if had_content && !is_known {
        let aside = context.disk.layout().aside();
        tracing::warn!(%instance, folder = %aside.display(), "content without a state file was set aside; look at it and remove it");
    }
    let mut state = State::new(subject.origin.clone(), Stage::Initialising);
    state.begun = Some(Begun::next(begun.as_ref(), context.disk.agents(), 0));
    context.disk.write(&state).await?;
    Ok(state)
}

/// Empties the folder again. Waits for the deletion: a full disk has space for the state only after that.
async fn discard(context: &Context, subject: &Subject) -> Result<(), Error> {
    let id = subject.origin.instance.clone();
    let emptied = context.disk.blocking(subject.origin.instance.as_str(), move |layout| {
        volumes::empty(layout, &id, &layout.trash())?;
        remove_file(&layout.tree(&id))
    });
    emptied.await.map_err(Error::stopped)?;
    context.swept().await;
    Ok(())
}

/// Sets the limit of the storage. Where that fails, the next look at what is used sets it.
async fn limit(context: &Context, subject: &Subject, bytes: Option<u64>) {
    let instance = &subject.origin.instance;
    if let Err(why) = context.quota.limit(context.disk.layout(), instance, bytes).await {
        tracing::warn!(%instance, why, "the limit of the storage cannot be set");
    }
}

/// The ready file was not written, as far as is known.
struct NotReady {
    failure: Failure,
    /// Whether it may be there all the same.
    is_written: bool,
}

/// Tells the programs of the workspace. Repeating it changes nothing.
async fn ready(
    context: &Context,
    subject: &Subject,
    state: &State,
    progress: &watch::Sender<Progress>,
) -> Result<(), NotReady> {
    const TRIES: usize = 3;
    let content = state.content.clone().unwrap_or_default();
    let source = content.source.unwrap_or(Source::FromOther);
    let worker = Worker {
        helper: &context.helper,
        folder: context.disk.layout().content(&subject.origin.instance),
        until: Instant::now() + context.settings.deadlines.initialize,
        scrubber: Scrubber::default(),
        progress,
    };
    worker.step("writing the ready file");
    let failure = Failure::platform("the ready file was not written");
    let mut last = NotReady { failure, is_written: false };
    for _ in 0..TRIES {
        match worker.run(Operation::Ready { source, metrics: content.metrics.clone() }).await {
            Ok(_) => return Ok(()),
            Err(error) => {
                // Its last step is a rename. Whatever else happens to a helper may happen after that.
                let is_sure = matches!(error, helper::Error::NotStarted(_) | helper::Error::Failed { .. });
                last = NotReady { failure: error.into(), is_written: last.is_written || !is_sure };
            }
        }
    }
    Err(last)
}
