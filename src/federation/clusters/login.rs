//! The kubeconfig of a cluster: given with the call, or read from the Secret that the cluster's
//! specification names.

use jiff::Timestamp;

use crate::fleet::{Fleet, LoginState};
use crate::{Error, Result};
use domain::check::Check;
use domain::cluster::ClusterSpec;
use domain::condition::{Condition, State};
use domain::names::ClusterName;
use domain::secret::Secret;
use domain::secret_ref::SecretRef;
use host::Unread;

/// The one kubeconfig that is given or named; both or none is refused.
pub(super) async fn kubeconfig(
    fleet: &Fleet,
    spec: &ClusterSpec,
    given: Option<Secret<String>>,
) -> Result<Secret<String>> {
    match (&spec.kubeconfig_secret, given) {
        (None, Some(given)) => Ok(given),
        (Some(reference), None) => read_secret(fleet, &spec.name, reference).await,
        (reference, _) => {
            let both = "must not be given together with spec.kubeconfig_secret";
            let none = "is required, or spec.kubeconfig_secret";
            let rule = if reference.is_some() { both } else { none };
            Err(Error::Invalid { field: "kubeconfig".into(), rule: rule.to_owned() })
        }
    }
}

/// Reads a kubeconfig in the manager's own cluster.
pub(super) async fn read_secret(
    fleet: &Fleet,
    cluster: &ClusterName,
    reference: &SecretRef,
) -> Result<Secret<String>> {
    let reading = match fleet.host() {
        Some(host) => host.read(reference).await,
        None => Err(Unread::without_host(reference)),
    };
    let unread = |unread| Error::Unread { cluster: cluster.clone(), unread };
    reading.map(|found| found.text).map_err(unread)
}

/// Whether what a cluster's Secret holds is in use; nothing of a cluster whose kubeconfig is kept here.
pub(super) fn login_current(fleet: &Fleet, spec: &ClusterSpec) -> Option<Condition> {
    const KIND: &str = "LoginCurrent";
    let reference = spec.kubeconfig_secret.as_ref()?;
    let (state, since) = fleet.login_since(&spec.name).unzip();
    let since = since.unwrap_or_else(Timestamp::now);
    Some(match state {
        Some(LoginState::InUse { version, .. }) => {
            let message = format!("what Secret {reference} holds in version {version} is in use");
            Condition { message, ..Condition::holds(KIND, since) }
        }
        Some(LoginState::Failing(failure)) => Condition::fails(KIND, failure.reason, failure.message, since),
        Some(LoginState::Reading) | None => {
            let message = format!("Secret {reference} was not read yet");
            Condition { state: State::Unknown, ..Condition::fails(KIND, "Reading", message, since) }
        }
    })
}

/// The same as a check.
pub(super) fn login_check(fleet: &Fleet, name: &ClusterName) -> Option<Check> {
    const NAME: &str = "kubeconfig-secret";
    let connected = fleet.get(name)?;
    let condition = login_current(fleet, &connected.spec())?;
    let remedy = "correct the Secret; until then the manager keeps using the previous login";
    Some(match condition.state {
        State::True => Check::ok(NAME, condition.message),
        State::False => Check::failed(NAME, condition.message, remedy),
        State::Unknown => Check::warning(NAME, condition.message, "run doctor again in a moment"),
    })
}
