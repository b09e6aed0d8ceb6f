//! Executes the actions of a decision. Each is idempotent: an object that already exists, or is already gone, counts as done.

use k8s_openapi::api::core::v1::Pod;

use domain::acceptance::Change;
use domain::pod::PodFacts;
use k8s::convert::{self, pod_facts};
use k8s::references::{self, Referrer};
use k8s::resources::{SeenPod, Workspace, names};
use member::apply::{Created, Deleted, MadeFor, Patched, Writer};
use member::cache::NamespaceCache;
use member::error::Rule;

use super::controller::Parts;
use super::decide::{Action, Denial, Refusal, SecretsToDelete};
use super::error::Error;
use super::settings::Settings;

/// Failures in a row from which on one that may pass by itself is reported as a denial.
const FAILURES_OF_A_DENIAL: u32 = 3;

/// Result of an action.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// The cluster is in the wanted state.
    Done,
    /// The object changed since it was read. The watch reports the change, which queues the workspace.
    Stale,
    /// The cluster rejected the pod.
    Refused(Refusal),
    /// The cluster refuses this action.
    Denied(Denial),
}

/// Executes one action; `failures` of the workspace's reconciles in a row.
pub(super) async fn apply(
    parts: &Parts,
    settings: &Settings,
    workspace: &Workspace,
    action: &Action,
    failures: u32,
) -> Result<Outcome, Error> {
    match execute(parts, settings, workspace, action).await {
        Err(Error::Cluster(error)) if is_denial(&error, failures) => {
            action.denied(&error.cause()).map(Outcome::Denied).ok_or(Error::Cluster(error))
        }
        outcome => outcome,
    }
}

async fn execute(
    parts: &Parts,
    settings: &Settings,
    workspace: &Workspace,
    action: &Action,
) -> Result<Outcome, Error> {
    let (writer, cache) = (&*parts.writer.load_full(), &*parts.cache);
    let name = workspace.metadata.name.as_deref().unwrap_or_default();
    match action {
        Action::CreatePod(pod) => create_pod(parts, writer, settings, workspace, pod).await,
        Action::DeletePod { name, uid, grace } => match writer.delete_pod(name, uid, *grace).await? {
            Deleted::Accepted | Deleted::NotFound => Ok(Outcome::Done),
            Deleted::Conflict => Ok(Outcome::Stale),
        },
        Action::ReleasePod { name, uid } => Ok(stale_or_done(&writer.remove_pod_finalizer(name, uid).await?)),
        Action::CheckForPod { name } => {
            let found = writer.get_pod(name).await?;
            let Some(facts) = found.as_ref().and_then(|found| own(found, workspace)) else {
                return Ok(Outcome::Done);
            };
            cache.offer_pod(facts);
            Ok(Outcome::Stale)
        }
        Action::DeleteSecrets(secrets) => {
            delete_secrets(writer, settings, workspace, *secrets).await?;
            Ok(Outcome::Done)
        }
        Action::ReleaseWorkspace => {
            let released = writer.remove_finalizer(workspace).await;
            parts.acceptance.changed(Change::Object, name, released.as_ref());
            Ok(stale_or_done(&released?))
        }
        Action::DeleteWorkspace => {
            let uid = workspace.metadata.uid.as_deref().unwrap_or_default();
            match writer.delete_workspace(name, uid).await? {
                Deleted::Accepted | Deleted::NotFound => Ok(Outcome::Done),
                Deleted::Conflict => Ok(Outcome::Stale),
            }
        }
    }
}

/// Creates a pod if its Secrets may be referenced. That is checked here because an admin may have changed it since the start,
/// and for a Workspace that was created by hand nothing else checks it.
async fn create_pod(
    parts: &Parts,
    writer: &Writer,
    settings: &Settings,
    workspace: &Workspace,
    pod: &Pod,
) -> Result<Outcome, Error> {
    let id = workspace.metadata.name.as_deref().unwrap_or_default();
    let referrer = Referrer { own: Some(id), allowed: &settings.allowed_secrets };
    let referenced = references::of_workspace(workspace);
    let checked = writer.check_references(&format!("create the Pod of {id}"), &referenced, referrer).await;
    let made = match checked {
        Ok(()) => writer.create_pod(pod).await,
        Err(error) => Err(error),
    };
    let cache = &*parts.cache;
    match made {
        Ok(Created::New(made)) => {
            parts.acceptance.pod(Ok(()));
            if let Some(spec) = &made.spec {
                let (class, kind) = (&workspace.spec.class, workspace.spec.type_);
                parts.capacity.admitted(cache.namespace(), class, kind, convert::pod_requests(spec));
            }
            // The next reconcile need not wait for the watch, and a stop before that finds the pod.
            if let Some(facts) = pod_facts(&made) {
                cache.offer_pod(facts);
            }
            Ok(Outcome::Done)
        }
        Ok(Created::Exists) => {
            taken(writer, cache, workspace, pod.metadata.name.as_deref().unwrap_or_default()).await
        }
        Err(error) => {
            parts.acceptance.pod(Err(&error));
            refusal(error).map(Outcome::Refused)
        }
    }
}

/// A pod of this name exists: the workspace's own, which the watch has not shown yet, or a foreign one, which is reported.
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
    let message = format!("a pod {name} is there, and does not belong to this workspace");
    Ok(Outcome::Refused(Refusal { message, is_final: false }))
}

/// The facts of a pod of this very workspace.
fn own(pod: &SeenPod, workspace: &Workspace) -> Option<PodFacts> {
    pod_facts(pod).filter(|facts| workspace.metadata.uid.as_deref() == Some(facts.workspace_uid.as_str()))
}

/// Deletes the Secrets that were created for this very workspace; both are tried even if one fails. A workspace without an
/// installation was created by hand and has none: Secrets of such names belong to somebody else.
pub(super) async fn delete_secrets(
    writer: &Writer,
    settings: &Settings,
    workspace: &Workspace,
    which: SecretsToDelete,
) -> Result<(), Error> {
    let annotation = |key: &str| workspace.metadata.annotations.as_ref()?.get(key).map(String::as_str);
    let Some(installation) = annotation(names::INSTALLATION) else { return Ok(()) };
    let id = workspace.metadata.name.as_deref().unwrap_or_default();
    let made_for = MadeFor { workspace: id, installation, placed_at: annotation(names::PLACED_AT) };
    let env = async {
        if which.env {
            writer.delete_secret(&settings.namespace, &names::env_secret(id), made_for).await?;
        }
        Ok::<(), member::Error>(())
    };
    let tokens = async {
        if which.tokens {
            writer.delete_secret(&settings.secrets_namespace, &names::token_secret(id), made_for).await?;
        }
        Ok::<(), member::Error>(())
    };
    let (env, tokens) = tokio::join!(env, tokens);
    env?;
    tokens?;
    Ok(())
}

/// Whether an error shows that the cluster refuses an action, so that the status reports it: at once where a rule of the
/// cluster denies it, and after [`FAILURES_OF_A_DENIAL`] failures in a row for what mostly passes by itself, such as a busy
/// apiserver or a webhook that does not answer.
pub(super) fn is_denial(error: &member::Error, failures: u32) -> bool {
    match error {
        member::Error::Refused { code, rule, .. } => {
            let is_of_webhook = matches!(rule, Rule::Webhook(_) | Rule::WebhookFailed(_));
            let is_rule = (400..500).contains(code) && !matches!(code, 408 | 429);
            is_of_webhook || is_rule || failures >= FAILURES_OF_A_DENIAL
        }
        member::Error::TooLarge { .. } | member::Error::Disallowed { .. } => true,
        member::Error::Ambiguous { .. } => failures >= FAILURES_OF_A_DENIAL,
        member::Error::Unsent { .. }
        | member::Error::Queued { .. }
        | member::Error::NotLeader { .. }
        | member::Error::Fenced { .. }
        | member::Error::Kubeconfig { .. } => false,
    }
}

fn stale_or_done<T>(patched: &Patched<T>) -> Outcome {
    match patched {
        Patched::Done(_) | Patched::NotFound => Outcome::Done,
        Patched::Conflict => Outcome::Stale,
    }
}

/// A pod that is invalid or too large stays so. Other rejections may pass: a quota is raised, a webhook answers again. Both
/// are reported in the status; failures that also prevent writing the status are errors.
fn refusal(error: member::Error) -> Result<Refusal, Error> {
    match &error {
        member::Error::TooLarge { .. } => Ok(Refusal { message: error.cause(), is_final: true }),
        member::Error::Refused { code, rule, .. } => {
            // The cause has at least the status code.
            let message = if *rule == Rule::Unnamed { error.cause() } else { rule.to_string() };
            // A webhook may deny with any code, 400 where it names none, and may judge otherwise later.
            let is_final = matches!(code, 400 | 422) && !matches!(rule, Rule::Webhook(_));
            Ok(Refusal { message, is_final })
        }
        member::Error::Ambiguous { .. } => Ok(Refusal { message: error.cause(), is_final: false }),
        member::Error::Disallowed { why, .. } => Ok(Refusal { message: why.clone(), is_final: false }),
        member::Error::Unsent { .. }
        | member::Error::Queued { .. }
        | member::Error::NotLeader { .. }
        | member::Error::Fenced { .. }
        | member::Error::Kubeconfig { .. } => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_is_invalid_is_not_retried_and_one_that_a_webhook_denies_is() {
        for (rule, is_final) in [(Rule::Unnamed, true), (Rule::Webhook("hook.example".to_owned()), false)] {
            let (cluster, action) = ("eu-1".parse().unwrap(), "create Pod ws-a".to_owned());
            let error = member::Error::Refused { cluster, action, code: 400, reason: "BadRequest", rule };
            assert_eq!(refusal(error).unwrap().is_final, is_final);
        }
    }

    #[test]
    fn a_rule_of_the_cluster_is_a_denial_at_once_and_what_may_pass_is_one_when_it_lasts() {
        let refused = |code, rule| {
            let (cluster, action) = ("eu-1".parse().unwrap(), "delete Pod ws-a".to_owned());
            member::Error::Refused { cluster, action, code, reason: "", rule }
        };
        let hook = || "hook.example".to_owned();
        let policy = Rule::Policy { name: "p".to_owned(), says: None };
        for (code, rule) in [
            (403, Rule::Unnamed),
            (422, policy),
            (403, Rule::Rights("delete pods".to_owned())),
            (429, Rule::Webhook(hook())),
            (500, Rule::WebhookFailed(hook())),
        ] {
            assert!(is_denial(&refused(code, rule.clone()), 0), "{code} {rule:?}");
        }
        let (cluster, action) = ("eu-1".parse().unwrap(), "delete Pod ws-a".to_owned());
        let late = member::Error::Ambiguous { cluster, action, reason: "no answer".to_owned() };
        for passing in [refused(429, Rule::Unnamed), refused(503, Rule::Unnamed), late] {
            assert!(!is_denial(&passing, FAILURES_OF_A_DENIAL - 1), "{passing}");
            assert!(is_denial(&passing, FAILURES_OF_A_DENIAL), "{passing}");
        }
        let (cluster, action) = ("eu-1".parse().unwrap(), String::new());
        assert!(!is_denial(&member::Error::NotLeader { cluster, action }, 9), "another replica leads");
    }

    #[test]
    fn a_pod_that_is_too_large_is_not_retried() {
        let (cluster, action) = ("eu-1".parse().unwrap(), "create Pod ws-a".to_owned());
        let error = member::Error::TooLarge { cluster, action, limit: "the size of an object".to_owned() };
        assert!(refusal(error).unwrap().is_final);
    }
}
