//! Cordoning a member cluster: no new workspaces go there.

use std::sync::Arc;

use super::drain::Drains;
use super::update::Updates;
use super::view::ClusterView;
use crate::Result;
use domain::cluster::SpecChange;
use domain::names::ClusterName;

/// Cordons and uncordons member clusters.
pub struct Cordons {
    drains: Arc<Drains>,
    updates: Arc<Updates>,
}

impl Cordons {
    pub(crate) fn new(drains: Arc<Drains>, updates: Arc<Updates>) -> Arc<Self> {
        Arc::new(Self { drains, updates })
    }

    /// Keeps new workspaces away, or lets them in again.
    pub async fn set(&self, name: &ClusterName, cordoned: bool) -> Result<ClusterView> {
        if !cordoned {
            self.drains.end_for_uncordon(name).await?;
        }
        self.updates.change(name, &SpecChange { cordoned: Some(cordoned), ..SpecChange::default() }).await
    }
}
