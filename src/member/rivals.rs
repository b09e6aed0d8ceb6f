//! Other managers at work in a namespace: managers of existing installations by the Lease of their leader, other
//! installations of Spaceport by the fence and the canary.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::{canary, fence};
use domain::epoch::Epoch;

/// Lease by which the managers of existing installations elect their leader.
pub const OTHER_LEADER: &str = "ws-manager-mk2-leader.gitpod.io";

/// Most that a member cluster's clock and the manager's may differ.
const APART: SignedDuration = SignedDuration::from_secs(30);

/// Why another installation than `us` may be at work in a namespace, as one sentence; `None` if certainly none is. Its
/// canary counts until it has certainly expired, however the clocks differ.
pub async fn rival(
    client: &Client,
    namespace: &str,
    us: &str,
    now: Timestamp,
) -> Result<Option<String>, kube::Error> {
    let is_other = |epoch: &Epoch| epoch.installation.to_string() != us;
    let parameter = Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(fence::NAME).await?;
    if let Some(held) = parameter.as_ref().and_then(fence::held_by).filter(is_other) {
        return Ok(Some(format!(
            "namespace {namespace} is held by the installation {} of Spaceport: deregister the cluster there, then \
             annotate ConfigMap {} of the namespace with spaceport.dev/release and delete it",
            held.installation,
            fence::NAME
        )));
    }
    let named = ListParams::default().fields(&format!("metadata.name={}", canary::NAME));
    let leases = Api::<Lease>::namespaced(client.clone(), namespace).list(&named).await?;
    let live = leases.items.into_iter().filter_map(|lease| lease.spec).find_map(|spec| {
        let holder: Epoch = spec.holder_identity.as_deref()?.parse().ok()?;
        (is_other(&holder) && may_be_live(&spec, now)).then_some(holder)
    });
    Ok(live.map(|holder| {
        format!(
            "a leader of the installation {} of Spaceport may be at work: it renewed Lease {} in namespace {namespace} \
             a moment ago",
            holder.installation,
            canary::NAME
        )
    }))
}

/// Holder of [`OTHER_LEADER`] in a namespace, if the Lease is live at `now` by the cluster's own clock.
pub async fn live_leader(
    client: &Client,
    namespace: &str,
    now: Timestamp,
) -> Result<Option<String>, kube::Error> {
    let lease = Api::<Lease>::namespaced(client.clone(), namespace).get_opt(OTHER_LEADER).await?;
    let spec = lease.and_then(|lease| lease.spec).filter(|spec| is_live(spec, now));
    Ok(spec.and_then(|spec| spec.holder_identity))
}

fn is_live(spec: &LeaseSpec, now: Timestamp) -> bool {
    let held = spec.holder_identity.as_deref().is_some_and(|holder| !holder.is_empty());
    let life = SignedDuration::from_secs(i64::from(spec.lease_duration_seconds.unwrap_or(15)));
    let renewed = spec.renew_time.as_ref().map(|time| time.0);
    held && renewed.is_some_and(|at| now.duration_since(at) <= life)
}

/// Holder of [`OTHER_LEADER`] in a namespace, unless the Lease has certainly expired, however the clocks differ.
pub async fn possible_leader(
    client: &Client,
    namespace: &str,
    now: Timestamp,
) -> Result<Option<String>, kube::Error> {
    let lease = Api::<Lease>::namespaced(client.clone(), namespace).get_opt(OTHER_LEADER).await?;
    let spec = lease.and_then(|lease| lease.spec).filter(|spec| may_be_live(spec, now));
    Ok(spec.and_then(|spec| spec.holder_identity))
}

fn may_be_live(spec: &LeaseSpec, now: Timestamp) -> bool {
    let unknown =
        spec.renew_time.is_none() && spec.holder_identity.as_deref().is_some_and(|it| !it.is_empty());
    unknown || is_live(spec, now.saturating_sub(APART).unwrap_or(Timestamp::MIN))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    #[test]
    fn a_lease_is_live_while_its_holder_renews_it() {
        let now = Timestamp::UNIX_EPOCH;
        let lease = |holder: &str, ago: i64| LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(now - SignedDuration::from_secs(ago))),
            ..LeaseSpec::default()
        };
        assert!(is_live(&lease("manager-0", 15), now));
        assert!(!is_live(&lease("manager-0", 16), now) && !is_live(&lease("", 0), now));
        assert!(!is_live(&LeaseSpec::default(), now));
        // Whoever would take its place must be sure of it, whatever the clocks.
        assert!(may_be_live(&lease("manager-0", 45), now));
        assert!(!may_be_live(&lease("manager-0", 46), now) && !may_be_live(&lease("", 0), now));
        assert!(may_be_live(&LeaseSpec { renew_time: None, ..lease("manager-0", 0) }, now));
        assert!(!may_be_live(&LeaseSpec::default(), now));
    }
}
