//! Maintenance of a cluster's namespaces, as the admin wants it: written to the cluster, where everybody reads it.

use jiff::Timestamp;

use crate::clusters::registry::{ClusterView, SEEN_WITHIN};
use crate::{Error, Federation, Result};
use domain::names::{ClusterName, Namespace};

impl Federation {
    /// Puts one namespace of a cluster, or all, under maintenance until a time, or ends it. Namespaces are written one
    /// after the other; after an error the call may be repeated.
    pub async fn set_maintenance(
        &self,
        name: &ClusterName,
        namespace: Option<&Namespace>,
        until: Option<Timestamp>,
    ) -> Result<ClusterView> {
        if until.is_some_and(|until| until <= Timestamp::now()) {
            return Err(Error::Invalid { field: "until".into(), rule: "must be in the future".to_owned() });
        }
        let term = self.leadership.term()?;
        let Some(connected) = self.fleet.get(name) else {
            let reason = self.cluster(name)?.reason;
            return Err(Error::Unusable { cluster: name.clone(), reason });
        };
        let namespaces: Vec<&Namespace> = match namespace {
            None => connected.places().keys().collect(),
            Some(one) if connected.places().contains_key(one) => vec![one],
            Some(other) => {
                let rule = format!("{other} is none of cluster {name}");
                return Err(Error::Invalid { field: "namespace".into(), rule });
            }
        };
        let pass = connected.gate.pass(name, &term).await?;
        for namespace in &namespaces {
            let writer = connected.member.writer(namespace, &pass);
            writer.set_maintenance(until).await?;
            tracing::info!(cluster = %name, %namespace, ?until, "maintenance");
        }
        let seen = async {
            for maintenance in
                namespaces.iter().filter_map(|name| connected.member.maintenance(name.as_str()))
            {
                maintenance.is_until(until).await;
            }
        };
        if tokio::time::timeout(SEEN_WITHIN, seen).await.is_err() {
            tracing::warn!(cluster = %name, "maintenance was written, and is not seen yet");
        }
        self.cluster(name)
    }
}
