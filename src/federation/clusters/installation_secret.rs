//! Versions of the installation's secret, from which owner tokens and digests are derived.
//!
//! *Guarantees.* A record names the version that it was made with. A version is kept while any record names
//! it, an ended record included: live workspaces keep their token, and a repeated start is recognised.
//! *Limits.* A leader of a release before secrets had versions forgets former versions; rotate only when
//! all replicas are upgraded.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};

use crate::leadership::Leadership;
use crate::reason::stated;
use crate::{Error, Result};
use domain::signing::SigningKeys;
use store::{Installation, Sealer, Store, Term};

/// How long a former secret is kept in any case: a start that is under way records the version that it began with.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// Versions of the installation's secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    /// New starts are keyed with it.
    pub current: u32,
    /// Records still name them, or may.
    pub former: Vec<u32>,
}

impl Versions {
    fn of(installation: &Installation) -> Self {
        let former: &BTreeMap<_, _> = &installation.former_secrets;
        Self { current: installation.secret_version, former: former.keys().copied().collect() }
    }
}

/// Versions of the installation's secret.
pub struct InstallationSecret {
    leadership: Arc<Leadership>,
    store: Store,
    sealer: Arc<Sealer>,
    keyed: Arc<ArcSwap<SigningKeys>>,
}

impl InstallationSecret {
    pub(crate) fn new(
        leadership: Arc<Leadership>,
        store: Store,
        sealer: Arc<Sealer>,
        keyed: Arc<ArcSwap<SigningKeys>>,
    ) -> Arc<Self> {
        Arc::new(Self { leadership, store, sealer, keyed })
    }

    /// Keys new starts with a new secret.
    pub async fn rotate(&self, reason: &str, by: String) -> Result<Versions> {
        let reason = stated(reason)?;
        let term = self.leadership.term()?;
        let rotated = self.store.rotate_secret(&term, &self.sealer, Timestamp::now()).await?;
        let installation = rotated.ok_or(Error::SecretsInUse)?;
        self.keyed.store(Arc::new(installation.keyed()));
        let versions = Versions::of(&installation);
        tracing::warn!(version = versions.current, by, reason, "an admin rotated the installation's secret");
        Ok(versions)
    }

    /// Forgets former secrets that no record names.
    pub(crate) async fn sweep(&self, term: &Term) {
        let before = Timestamp::now().saturating_sub(KEPT).unwrap_or(Timestamp::MIN);
        match self.store.forget_secrets(term, &self.sealer, before).await {
            Ok(None) => {}
            Ok(Some(installation)) => {
                self.keyed.store(Arc::new(installation.keyed()));
                tracing::info!(kept = ?Versions::of(&installation), "former secrets were forgotten");
            }
            Err(error) => tracing::warn!(%error, "cannot forget former secrets now"),
        }
    }
}
