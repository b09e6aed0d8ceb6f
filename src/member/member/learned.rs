//! What [`Member`] learned of its namespaces: whether they accept workspaces, available quota, errors of watches.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::ListParams;
use tokio::sync::watch;

use super::Member;
use crate::acceptance::Acceptance;
use crate::error;
use crate::fence::{self, Endings};
use crate::watch::workspaces_in;
use domain::names::Namespace;
use k8s::convert;

/// Quotas of a namespace that are read; real ones have a few.
const QUOTAS: u32 = 100;

impl Member {
    /// What was learned of a namespace: whether it accepts workspaces.
    pub fn acceptance(&self, namespace: &str) -> Option<&Arc<Acceptance>> {
        self.namespaces.get(namespace).map(|namespace| &namespace.acceptance)
    }

    /// What was learned of each namespace.
    pub fn acceptances(&self) -> impl Iterator<Item = (&Namespace, &Arc<Acceptance>)> {
        self.namespaces.iter().map(|(name, namespace)| (name, &namespace.acceptance))
    }

    /// Notified when something was learned of a namespace, or a watch failed or recovered.
    pub fn learned(&self) -> watch::Receiver<()> {
        self.learned.subscribe()
    }

    /// Forgets what quotas had left: this replica leads no more.
    pub fn forget_quotas(&self) {
        for namespace in self.namespaces.keys() {
            self.capacity.set_quotas(namespace, Vec::new());
        }
    }

    /// Reads what the quotas of a namespace have left, if the login may. Returns whether that changed; a failed read changes
    /// nothing.
    pub async fn read_quotas(&self, namespace: &Namespace) -> bool {
        let api = kube::Api::<ResourceQuota>::namespaced(self.client.clone(), namespace.as_str());
        let page = ListParams::default().limit(QUOTAS);
        let listing = tokio::time::timeout(self.options.limits.request_timeout, api.list(&page));
        match listing.await {
            Ok(Ok(found)) => {
                let left = found.items.iter().filter_map(convert::quota_left).collect();
                self.capacity.set_quotas(namespace, left)
            }
            // What was read before says nothing any more.
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                self.capacity.set_quotas(namespace, Vec::new())
            }
            Ok(Err(error)) => {
                tracing::debug!(%namespace, error = %error::chain(&error), "cannot list ResourceQuotas");
                false
            }
            Err(_) => false,
        }
    }

    /// Reads whether a namespace, or the one with its secrets, is being deleted or missing. A failed read changes nothing.
    pub async fn read_ending(&self, name: &Namespace) {
        let Some(namespace) = self.namespaces.get(name) else { return };
        let reading = async {
            let found = fence::ending(&self.client, name).await?;
            match found {
                None if namespace.secrets_namespace != *name => {
                    fence::ending(&self.client, &namespace.secrets_namespace).await
                }
                found => Ok(found),
            }
        };
        let answer = tokio::time::timeout(self.options.limits.request_timeout, reading).await;
        if let Ok(Ok(ending)) = answer {
            return namespace.acceptance.ends(ending);
        }
        if let Ok(Err(error)) = answer {
            tracing::debug!(namespace = %name, error = %error::chain(&error), "cannot read whether it ends");
        }
        namespace.acceptance.keep_ending();
    }

    /// A namespace takes nothing new, too, when the one with its secrets ends.
    pub(super) fn end_namespaces(&self, endings: &Endings) {
        for (name, namespace) in &self.namespaces {
            let ending = endings.get(name).or_else(|| endings.get(&namespace.secrets_namespace));
            namespace.acceptance.ends(ending.copied());
        }
    }

    /// What the watch on the workspaces of a namespace last failed with, where it received nothing since.
    pub fn workspace_watch_error(&self, namespace: &Namespace) -> Option<String> {
        self.reports.error_of(&workspaces_in(namespace))
    }
}
