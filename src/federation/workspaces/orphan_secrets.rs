//! Sweeps secrets of this installation that no workspace needs any more. They are left by a refused start
//! whose secrets could not be deleted, by a resource whose finalizer was removed by hand, and by a leader
//! that died between recording that a workspace runs and deleting its secrets.
//!
//! *Flow.* For each cluster: list the installation's secrets without their content; then, under the lock of
//! each workspace id, delete the secret as it was listed if there is no record, no resource in any cache
//! and none at the apiserver, or if the workspace was ready once. *Guarantees.* A start writes secrets only
//! under that lock and after its record, and makes another version of a secret that an earlier placement
//! left, so the sweep never deletes what a start wrote. *Limits.* The secret of a start that went on to
//! another cluster stays until its record is removed. Secrets without the installation's label stay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{sleep, timeout};

use crate::Result;
use crate::fleet::Connected;
use crate::fleet::Fleet;
use crate::locks::Locks;
use crate::view::index::Index;
use domain::names::{Namespace, WorkspaceId};
use k8s::resources::{Workspace, conditions, names};
use member::apply::{Deleted, SecretSeen, Writer};
use store::Term;

/// Between sweeps, at most: where leftovers are to be younger, it is their age.
const PERIOD: Duration = Duration::from_mins(5);
/// For sweeping one cluster; what is left is swept the next time.
const WITHIN: Duration = Duration::from_mins(2);

/// Sweeps the orphan secrets of all clusters.
pub struct OrphanSecrets {
    fleet: Arc<Fleet>,
    index: Arc<Index>,
    locks: Arc<Locks>,
    /// This installation's id.
    installation: Arc<str>,
    /// How old a secret without a workspace gets before it is swept.
    age: Duration,
}

impl OrphanSecrets {
    pub(crate) fn new(
        fleet: Arc<Fleet>,
        index: Arc<Index>,
        locks: Arc<Locks>,
        installation: Arc<str>,
        age: Duration,
    ) -> Arc<Self> {
        Arc::new(Self { fleet, index, locks, installation, age })
    }

    /// Sweeps until the term ends.
    pub(crate) async fn sweep(&self, term: &Term) {
        let sweeping = async {
            loop {
                sleep(self.age.min(PERIOD)).await;
                let members = self.fleet.connected();
                join_all(members.iter().map(|connected| self.sweep_member(term, connected))).await;
            }
        };
        tokio::select! {
            () = sweeping => {}
            () = term.ended() => {}
        }
    }

    /// One that is not complete or takes no writes now is left for the next time.
    async fn sweep_member(&self, term: &Term, connected: &Connected) {
        let cluster = connected.member.name();
        if connected.places().values().any(|place| !place.cache.is_synced()) {
            return;
        }
        let Ok(pass) = connected.gate.pass(cluster, term).await else { return };
        let sweep = async {
            for (namespace, owners) in homes(connected) {
                let owners: Vec<Writer> =
                    owners.iter().map(|owner| connected.member.writer(owner, &pass)).collect();
                if let Err(error) = self.sweep_namespace(connected, &namespace, &owners).await {
                    tracing::warn!(%cluster, %namespace, %error, "failed to delete orphan secrets");
                }
            }
        };
        if timeout(WITHIN, sweep).await.is_err() {
            tracing::warn!(%cluster, "deleting orphan secrets takes too long; it continues later");
        }
    }

    async fn sweep_namespace(
        &self,
        connected: &Connected,
        namespace: &Namespace,
        owners: &[Writer],
    ) -> Result<()> {
        let Some(writer) = owners.first() else { return Ok(()) };
        let installation = &*self.installation;
        let (mut page, mut swept) = (None, Ok(()));
        loop {
            let listed = writer.list_secrets(namespace, installation, page.as_deref()).await?;
            for secret in &listed.secrets {
                if let Some(id) = made_for(&secret.name, &secret.workspace)
                    && is_old(secret.made_at, self.age, Timestamp::now())
                {
                    // One that cannot be deleted keeps no other.
                    swept = swept.and(self.sweep_secret(connected, namespace, owners, secret, &id).await);
                }
            }
            page = listed.next;
            if page.is_none() {
                return swept;
            }
        }
    }

    async fn sweep_secret(
        &self,
        connected: &Connected,
        namespace: &Namespace,
        owners: &[Writer],
        secret: &SecretSeen,
        id: &WorkspaceId,
    ) -> Result<()> {
        // Whoever holds the lock may be about to make the workspace.
        let Some(_turn) = self.locks.try_lock(id) else { return Ok(()) };
        let found = connected.places().values().find_map(|place| place.cache.get(id.as_str()));
        // A pod is made again only before it was ready.
        if !found.as_deref().is_some_and(was_ready) {
            if found.is_some() || self.index.record_of(id).is_some() {
                return Ok(());
            }
            for owner in owners {
                if owner.get_workspace(id.as_str()).await?.is_some() {
                    return Ok(());
                }
            }
        }
        let Some(writer) = owners.first() else { return Ok(()) };
        if writer.delete_seen_secret(namespace, secret).await? == Deleted::Accepted {
            let (cluster, secret) = (connected.member.name(), &secret.name);
            tracing::info!(%cluster, %namespace, secret, workspace = %id, "a leftover secret was deleted");
        }
        Ok(())
    }
}

/// Where secrets are, and the namespaces whose workspaces may have them there.
fn homes(connected: &Connected) -> BTreeMap<Namespace, Vec<Namespace>> {
    let mut homes: BTreeMap<Namespace, Vec<Namespace>> = BTreeMap::new();
    for (owner, place) in connected.places() {
        for home in [owner, &place.secrets_namespace] {
            let owners = homes.entry(home.clone()).or_default();
            if !owners.contains(owner) {
                owners.push(owner.clone());
            }
        }
    }
    homes
}

fn was_ready(workspace: &Workspace) -> bool {
    workspace.status.as_ref().is_some_and(|status| status.is_true(conditions::EVER_READY))
}

/// The workspace that a secret was made for; none where the secret's name is not one that we give.
fn made_for(secret: &str, workspace: &str) -> Option<WorkspaceId> {
    let id: WorkspaceId = workspace.parse().ok()?;
    let ours = [names::env_secret(id.as_str()), names::token_secret(id.as_str())];
    ours.iter().any(|name| name == secret).then_some(id)
}

/// Whether a secret is known to have the age.
fn is_old(made_at: Option<Timestamp>, age: Duration, now: Timestamp) -> bool {
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
    made_at.is_some_and(|made_at| now.duration_since(made_at) >= age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_old_only_by_a_known_age() {
        let at = |made_at: Option<i64>, now| {
            let made_at = made_at.map(|second| Timestamp::constant(second, 0));
            is_old(made_at, Duration::from_mins(10), Timestamp::constant(now, 0))
        };
        assert!(at(Some(1000), 1600));
        assert!(!at(Some(1000), 1599) && !at(Some(1000), 0) && !at(None, 1600));
    }

    #[test]
    fn only_secrets_of_the_names_that_we_give_are_ours_to_sweep() {
        let named = |name, workspace| made_for(name, workspace).map(|id| id.to_string());
        assert_eq!(named("a-env", "a").as_deref(), Some("a"));
        assert_eq!(named("a-tokens", "a").as_deref(), Some("a"));
        for (name, workspace) in [("a-pull", "a"), ("b-env", "a"), ("-env", ""), ("A b-env", "A b")] {
            assert_eq!(named(name, workspace), None, "{name}");
        }
    }
}
