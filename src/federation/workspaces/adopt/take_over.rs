//! Takes over a recorded workspace from another manager.
//!
//! The pods come first: a controller that sees the Workspace without its pods would take them for vanished.
//! The Workspace comes last: once it is labelled as managed here, nothing is repeated. The secrets come
//! between: the sweep of orphan secrets would see them, and the workspace's record keeps it from deleting
//! them.

use std::time::Duration;

use crate::fleet::Place;
use crate::locks::turn;
use crate::{Error, Result};
use k8s::resources::Workspace;
use k8s::resources::names::{env_secret, token_secret};
use member::apply::{Patched, Writer};

/// For pods that name us to be seen.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// Between checks whether they are seen.
const LOOK: Duration = Duration::from_millis(20);
/// Tries of a change that others get in the way of.
const TRIES: usize = 5;

/// Makes pods, secrets and Workspace name us. Repeatable from any point.
pub(super) async fn take_over(
    writer: &Writer,
    place: &Place,
    workspace: Workspace,
    installation: &str,
) -> Result<()> {
    let id = workspace.metadata.name.clone().unwrap_or_default();
    let uid = workspace.metadata.uid.clone().unwrap_or_default();
    let mut adopted = Vec::new();
    for (name, uid) in writer.pods_of(&id, &uid).await? {
        if let Some(facts) = writer.adopt_pod(&name, &uid).await? {
            place.cache.offer_pod(facts);
            adopted.push(uid);
        }
    }
    let seen = async {
        let is_seen = |uid: &String| place.cache.pods_of(&id).iter().any(|pod| pod.uid == *uid);
        while !adopted.iter().all(is_seen) {
            tokio::time::sleep(LOOK).await;
        }
    };
    turn("seeing the workspace's pods", SEEN_WITHIN, seen).await?;
    let secrets = [(writer.namespace(), env_secret(&id)), (&place.secrets_namespace, token_secret(&id))];
    for (namespace, name) in secrets {
        writer.adopt_secret(namespace, &name, &id, installation).await?;
    }
    name_us(writer, place, workspace, installation).await
}

async fn name_us(writer: &Writer, place: &Place, mut workspace: Workspace, installation: &str) -> Result<()> {
    let (name, uid) = (workspace.metadata.name.clone().unwrap_or_default(), workspace.metadata.uid.clone());
    for _ in 0..TRIES {
        match writer.adopt_workspace(&workspace, installation).await? {
            Patched::Done(changed) => {
                place.cache.offer(changed);
                return Ok(());
            }
            Patched::NotFound => break,
            Patched::Conflict => match writer.get_workspace(&name).await? {
                Some(now) if now.metadata.uid == uid => workspace = now,
                _ => break,
            },
        }
    }
    Err(Error::Contended { what: format!("workspace {name}") })
}
