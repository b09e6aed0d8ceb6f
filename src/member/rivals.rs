//! Other installations of Spaceport at work in a namespace: whose fence holds it, and whose leader renews its canary there.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::{Api, Client};

use super::others::may_be_live;
use crate::{canary, fence};
use domain::epoch::Epoch;

/// What tells that another installation than `us` is at work there, as a sentence's end. Its canary counts until it is
/// certainly dead, as clocks may differ.
pub(crate) async fn rival(
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
