//! Writes of the canary's Lease.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::error::{Error, Result};
use domain::epoch::Epoch;
use k8s::convert::resource_version;
use k8s::resources::names::CANARY;

use super::writer::{Created, Patched, Writer, by_us, created, patched};

/// Outcome of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// It was written at this version.
    Written(u64),
    /// Nothing was written: it is at this version, not at the expected one.
    Differs(u64),
}

impl Writer {
    /// Renews the canary, or makes it. `expected`: the version that it was last written at; at another one nothing is written.
    pub async fn renew_canary(
        &self,
        epoch: &Epoch,
        period: Duration,
        now: Timestamp,
        expected: Option<u64>,
    ) -> Result<Renewed> {
        let action = || format!("renew Lease {CANARY}");
        let api = self.api::<Lease>();
        let mut content = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": CANARY, "labels": { "app.kubernetes.io/part-of": "spaceport" } },
            "spec": {
                "holderIdentity": epoch.to_string(),
                // At least one: an apiserver takes no less.
                "leaseDurationSeconds": period.as_secs().max(1).saturating_mul(3).min(86_400),
                // A Lease counts microseconds.
                "renewTime": format!("{now:.6}"),
            },
        });
        if let Some(expected) = expected {
            content["metadata"]["resourceVersion"] = json!(expected.to_string());
        }
        let (params, patch) = (PatchParams::default(), Patch::Merge(&content));
        match patched(self.write(action(), api.patch(CANARY, &params, &patch)).await)? {
            Patched::Done(lease) => return Ok(Renewed::Written(resource_version(&lease.metadata))),
            Patched::Conflict => {
                if let Some(found) = self.canary_version().await? {
                    return Ok(Renewed::Differs(found));
                }
            }
            Patched::NotFound => {}
        }
        content["metadata"]["resourceVersion"].take();
        let lease: Lease = serde_json::from_value(content).map_err(|error| Error::Unsent {
            cluster: self.cluster.clone(),
            action: action(),
            reason: error.to_string(),
        })?;
        match created(self.write(action(), api.create(&by_us(), &lease)).await)? {
            Created::New(lease) => Ok(Renewed::Written(resource_version(&lease.metadata))),
            Created::Exists => Err(Error::Ambiguous {
                cluster: self.cluster.clone(),
                action: action(),
                reason: "others create and delete it at the same time".to_owned(),
            }),
        }
    }

    /// As the apiserver has it. The login may list Leases, and not get one.
    async fn canary_version(&self) -> Result<Option<u64>> {
        let named = ListParams::default().fields(&format!("metadata.name={CANARY}"));
        let api = self.api::<Lease>();
        let found = self.read(format!("list Lease {CANARY}"), api.list_metadata(&named)).await?;
        Ok(found.items.first().map(|lease| resource_version(&lease.metadata)))
    }
}
