//! Deletes content that nobody wants: of a refused pod, of an aborted workspace, of an image build.

use super::aside;
use super::context::Context;
use super::error::Error;
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
    let mut state = match aside::own(context, &subject.origin).await? {
        Known::State(state) => *state,
        Known::Nothing => State::new(subject.origin.clone(), Stage::Wiping),
        Known::Broken(problem) => return Err(Error::Broken(problem)),
    };
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
