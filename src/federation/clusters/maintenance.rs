//! Puts namespaces of a cluster under maintenance. The state is written to the cluster itself, where every
//! replica reads it.

use std::sync::Arc;

use jiff::Timestamp;

use crate::clusters::applied::SEEN_WITHIN;
use crate::clusters::view::{ClusterView, Views};
use crate::fleet::Fleet;
use crate::leadership::Leadership;
use crate::{Error, Result};
use domain::names::{ClusterName, Namespace};

/// Puts namespaces under maintenance.
pub struct Maintenance {
    leadership: Arc<Leadership>,
    fleet: Arc<Fleet>,
    views: Arc<Views>,
}

impl Maintenance {
    pub(crate) fn new(leadership: Arc<Leadership>, fleet: Arc<Fleet>, views: Arc<Views>) -> Arc<Self> {
        Arc::new(Self { leadership, fleet, views })
    }

    /// Puts one namespace of a cluster, or all, under maintenance until a time, or ends it. Namespaces are written one
    /// after the other; after an error the call may be repeated.
    pub async fn set(
        &self,
        name: &ClusterName,
        namespace: Option<&Namespace>,
        until: Option<Timestamp>,
    ) -> Result<ClusterView> {
        if until.is_some_and(|until| until <= Timestamp::now()) {
            return Err(Error::Invalid { field: "until".into(), rule: "must be in the future".to_owned() });
        }
        let term = self.leadership.term()?;
        let connected = self.fleet.usable(name)?;
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
        self.views.get(name)
    }
}
