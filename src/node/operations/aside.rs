//! Content of another resource: its instance id is used again. Nobody knows whether it is still needed, so it is moved, never deleted.

use super::context::Context;
use super::error::Error;
use super::{folders, volumes};
use crate::state::{Known, Origin};

/// What is known of the content of this very resource, after the state and the folder of another one were set aside.
pub(super) async fn own(context: &Context, origin: &Origin) -> Result<Known, Error> {
    let known = context.disk.read(&origin.instance).await;
    let Known::State(state) = &known else { return Ok(known) };
    if state.origin.is_same_resource(origin) {
        return Ok(known);
    }
    let id = origin.instance.clone();
    let moved = context.disk.blocking(origin.instance.as_str(), move |layout| {
        let aside = layout.aside();
        volumes::empty(layout, &id, &aside)?;
        // The state file last: without it, nobody knows whose the folder is.
        let files = [layout.tree(&id), layout.new_tree(&id), layout.journal(&id), layout.state(&id)];
        files.iter().try_for_each(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            folders::discard(file, &aside, &name)
        })
    });
    moved.await.map_err(Error::stopped)?;
    let (instance, aside) = (&origin.instance, context.disk.layout().aside());
    tracing::warn!(%instance, owner = %state.origin.owner, workspace = %state.origin.workspace, folder = %aside.display(),
        "content of another resource with the same instance id was set aside; look at it and remove it");
    Ok(Known::Nothing)
}
