//! The canary's Lease.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cluster::cache::version;
use crate::cluster::canary::NAME;
use crate::cluster::error::{Error, Result};
use crate::domain::epoch::Epoch;

use super::{Created, Patched, Writer, by_us, created, patched};

impl Writer {
    /// Renews the canary, or makes it; answers its version.
    pub async fn renew_canary(&self, epoch: &Epoch, period: Duration, now: Timestamp) -> Result<u64> {
        let action = || format!("renew Lease {NAME}");
        let api = self.api::<Lease>();
        let content = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": NAME, "labels": { "app.kubernetes.io/part-of": "spaceport" } },
            "spec": {
                "holderIdentity": epoch.to_string(),
                // At least one: an apiserver takes no less.
                "leaseDurationSeconds": period.as_secs().max(1).saturating_mul(3).min(86_400),
                // A Lease counts microseconds.
                "renewTime": format!("{now:.6}"),
            },
        });
        let (params, patch) = (PatchParams::default(), Patch::Merge(&content));
        if let Patched::Done(lease) = patched(self.write(action(), api.patch(NAME, &params, &patch)).await)? {
            return Ok(version(&lease.metadata));
        }
        let lease: Lease = serde_json::from_value(content).map_err(|error| Error::Unsent {
            cluster: self.cluster.clone(),
            action: action(),
            reason: error.to_string(),
        })?;
        match created(self.write(action(), api.create(&by_us(), &lease)).await)? {
            Created::New(lease) => Ok(version(&lease.metadata)),
            Created::Exists => Err(Error::Ambiguous {
                cluster: self.cluster.clone(),
                action: action(),
                reason: "others create and delete it at the same time".to_owned(),
            }),
        }
    }
}
