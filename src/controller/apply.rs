//! Carries out actions. Each can be repeated: what is there already, or gone already, is as good as done.

use crate::cluster;
use crate::cluster::apply::{Created, Deleted, Patched, Writer};
use crate::cluster::cache::NamespaceCache;
use crate::cluster::convert::pod_facts;
use crate::cluster::resources::{SeenPod, Workspace, names};
use crate::domain::pod::PodFacts;

use super::Error;
use super::decide::{Action, Refusal, SecretsToDelete};
use super::settings::Settings;

/// What came of an action.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// It is as it should be.
    Done,
    /// The object changed since it was seen: the change will be seen too, and decided on.
    Stale,
    /// The cluster does not take the pod.
    Refused(Refusal),
}

/// Carries out one action.
pub(super) async fn apply(
    writer: &Writer,
    cache: &NamespaceCache,
    settings: &Settings,
    workspace: &Workspace,
    action: &Action,
) -> Result<Outcome, Error> {
    let name = workspace.metadata.name.as_deref().unwrap_or_default();
    match action {
        Action::CreatePod(pod) => match writer.create_pod(pod).await {
            Ok(Created::New(made)) => {
                // The next pass need not wait for the watch, and a stop before that finds the pod.
                if let Some(facts) = pod_facts(&made) {
                    cache.offer_pod(facts);
                }
                Ok(Outcome::Done)
            }
            Ok(Created::Exists) => {
                taken(writer, cache, workspace, pod.metadata.name.as_deref().unwrap_or_default()).await
            }
            Err(error) => refusal(error).map(Outcome::Refused),
        },
        Action::DeletePod { name, uid, grace } => match writer.delete_pod(name, uid, *grace).await? {
            Deleted::Accepted | Deleted::NotFound => Ok(Outcome::Done),
            Deleted::Conflict => Ok(Outcome::Stale),
        },
        Action::ReleasePod { name, uid } => Ok(stale_or_done(&writer.remove_pod_finalizer(name, uid).await?)),
        Action::SeeThatNoPodIs { name } => {
            let found = writer.get_pod(name).await?;
            let Some(facts) = found.as_ref().and_then(|found| own(found, workspace)) else {
                return Ok(Outcome::Done);
            };
            cache.offer_pod(facts);
            Ok(Outcome::Stale)
        }
        Action::DeleteSecrets(secrets) => {
            delete_secrets(writer, settings, name, *secrets).await?;
            Ok(Outcome::Done)
        }
        Action::ReleaseWorkspace => Ok(stale_or_done(&writer.remove_finalizer(workspace).await?)),
        Action::DeleteWorkspace => {
            let uid = workspace.metadata.uid.as_deref().unwrap_or_default();
            match writer.delete_workspace(name, uid).await? {
                Deleted::Accepted | Deleted::NotFound => Ok(Outcome::Done),
                Deleted::Conflict => Ok(Outcome::Stale),
            }
        }
    }
}

/// A pod of the name is there: ours, of which the watch has yet to tell, or somebody else's, which a person must know of.
async fn taken(
    writer: &Writer,
    cache: &NamespaceCache,
    workspace: &Workspace,
    name: &str,
) -> Result<Outcome, Error> {
    let Some(found) = writer.get_pod(name).await? else {
        return Err(Error::NameTaken { pod: name.to_owned() });
    };
    if let Some(facts) = own(&found, workspace) {
        cache.offer_pod(facts);
        return Ok(Outcome::Stale);
    }
    let message = format!("a pod {name} is there, which is none of this workspace's");
    Ok(Outcome::Refused(Refusal { message, is_final: false }))
}

/// The facts of a pod of this very workspace.
fn own(pod: &SeenPod, workspace: &Workspace) -> Option<PodFacts> {
    pod_facts(pod).filter(|facts| workspace.metadata.uid.as_deref() == Some(facts.workspace_uid.as_str()))
}

/// Deletes the secrets of a workspace; one that fails does not keep the other from being deleted.
pub(super) async fn delete_secrets(
    writer: &Writer,
    settings: &Settings,
    id: &str,
    which: SecretsToDelete,
) -> Result<(), Error> {
    let env = async {
        if which.env {
            writer.delete_secret(&settings.namespace, &names::env_secret(id)).await?;
        }
        Ok::<(), cluster::Error>(())
    };
    let tokens = async {
        if which.tokens {
            writer.delete_secret(&settings.secrets_namespace, &names::token_secret(id)).await?;
        }
        Ok::<(), cluster::Error>(())
    };
    let (env, tokens) = tokio::join!(env, tokens);
    env?;
    tokens?;
    Ok(())
}

fn stale_or_done<T>(patched: &Patched<T>) -> Outcome {
    match patched {
        Patched::Done(_) | Patched::NotFound => Outcome::Done,
        Patched::Conflict => Outcome::Stale,
    }
}

/// A pod that is not valid stays so; one that is forbidden may be allowed when a quota has room again.
fn refusal(error: cluster::Error) -> Result<Refusal, Error> {
    match &error {
        cluster::Error::Refused { code: 400 | 422, message, .. } => {
            Ok(Refusal { message: message.clone(), is_final: true })
        }
        cluster::Error::Refused { code: 403, message, .. } => {
            Ok(Refusal { message: message.clone(), is_final: false })
        }
        _ => Err(error.into()),
    }
}
