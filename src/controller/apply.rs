//! Carries out actions. Each can be repeated: what is there already, or gone already, is as good as done.

use crate::cluster;
use crate::cluster::apply::{Created, Deleted, Patched, Writer};
use crate::cluster::cache::NamespaceCache;
use crate::cluster::convert::pod_facts;
use crate::cluster::resources::{Workspace, names};

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
            // Ours, not seen yet, or one that somebody else made: the watch tells.
            Ok(Created::Exists) => {
                Err(Error::NameTaken { pod: pod.metadata.name.clone().unwrap_or_default() })
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
            let of_this = found
                .as_ref()
                .and_then(pod_facts)
                .filter(|facts| workspace.metadata.uid.as_deref() == Some(facts.workspace_uid.as_str()));
            let Some(facts) = of_this else { return Ok(Outcome::Done) };
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
