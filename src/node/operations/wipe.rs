//! Deletes content that nobody wants: of a refused pod, of an aborted workspace, of an image build.

use super::aside;
use super::context::Context;
use super::error::Error;
use super::folders;
use super::subject::Subject;
use super::volumes;
use crate::state::{Known, Stage, State, remove_file};

/// Wipes, and returns the state after that. The folder itself stays for another attempt, whose pod may have mounted it.
pub(super) async fn run(
    context: &Context,
    subject: &Subject,
    is_attempted_again: bool,
) -> Result<State, Error> {
    let instance = &subject.origin.instance;
    let (mut state, is_known) = match aside::own(context, &subject.origin).await? {
        // Of an earlier attempt, and a user's.
        Known::State(state) if is_backed_up_later(&state, subject) => (*state, false),
        Known::State(state) => (*state, true),
        // Nobody knows whose content is in the folder: of this workspace, or of one before it.
        Known::Nothing => (State::new(subject.origin.clone(), Stage::Wiping), false),
        Known::Broken(problem) => return Err(Error::Broken(problem)),
    };
    if !is_known {
        // Before the state file says that what is in the folder may go.
        set_aside(context, subject).await?;
    }
    // What an earlier attempt left goes, too.
    state.origin = subject.origin.clone();
    state.stage = Stage::Wiping;
    context.disk.write(&state).await?;
    let id = instance.clone();
    let emptied = context.disk.blocking(instance.as_str(), move |layout| {
        // Out of the folder by a rename, so nothing of it is left halfway.
        if is_attempted_again {
            volumes::empty(layout, &id, &layout.trash())?;
        } else {
            volumes::discard(layout, &id)?;
        }
        [layout.tree(&id), layout.new_tree(&id)].iter().try_for_each(|file| remove_file(file))
    });
    let problem = emptied.await.err();
    context.sweep();
    state.stage = match problem {
        None => Stage::Wiped,
        Some(problem) => {
            let folder = context.disk.layout().content(instance);
            let node = &context.settings.node;
            let message = format!(
                "the content in {} on node {node} could not be deleted: {problem} (fault of the platform)",
                folder.display()
            );
            Stage::NotWiped { message }
        }
    };
    context.disk.write(&state).await?;
    Ok(state)
}

async fn set_aside(context: &Context, subject: &Subject) -> Result<(), Error> {
    let id = subject.origin.instance.clone();
    let moved = context.disk.blocking(subject.origin.instance.as_str(), move |layout| {
        let (content, aside) = (layout.content(&id), layout.aside());
        if !folders::is_empty(&content)? {
            volumes::empty(layout, &id, &aside)?;
            tracing::warn!(instance = %id, folder = %aside.display(), "content without a state file was set aside; look at it and remove it");
        }
        Ok(())
    });
    moved.await.map_err(Error::stopped)
}

/// Whether it says that its content is to be backed up, and is of another attempt.
fn is_backed_up_later(state: &State, subject: &Subject) -> bool {
    let is_unproven = matches!(state.stage, Stage::BackingUp(_) | Stage::BackupFailed { .. });
    is_unproven && state.origin.attempt != subject.origin.attempt
}
