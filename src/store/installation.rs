//! The installation's identity and secret, which the first replica creates for all.

use std::collections::BTreeMap;
use std::fmt;

use etcd_client::{GetOptions, KeyValue, Txn, TxnOp};
use jiff::Timestamp;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Error, Result, Store,
    guard::{first, is_absent, is_at},
    seal::{self, Sealed, Sealer},
    term::Term,
    value::{decode, decode_name, encode},
};
use domain::epoch::Opening;
use domain::secret::Secret;
use domain::signing::{FIRST_VERSION, SigningKeys};

const SECRET_LEN: usize = 32;
const DOING: &str = "make the installation's identity";

/// The installation of all replicas that share one etcd prefix.
#[derive(Clone)]
pub struct Installation {
    /// Random, created once.
    pub id: Uuid,
    /// From 1; an admin opens a new one after etcd was restored from a backup.
    pub incarnation: u64,
    /// Secret from which keys are derived, such as that of request digests.
    pub secret: Secret<[u8; SECRET_LEN]>,
    /// Version of the secret.
    pub secret_version: u32,
    /// Former secrets by version, kept while records name them.
    pub former_secrets: BTreeMap<u32, Secret<[u8; SECRET_LEN]>>,
}

impl Installation {
    /// Signing keys of all secrets.
    pub fn keyed(&self) -> SigningKeys {
        let newest = SigningKeys::new(self.secret_version, self.secret.expose());
        self.former_secrets
            .iter()
            .fold(newest, |keyed, (version, secret)| keyed.and(*version, secret.expose()))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Value {
    id: String,
    incarnation: u64,
    secret: Sealed,
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    secret_version: u32,
    /// Former secrets, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former_secrets: Vec<Former>,
    /// Incarnations that admins opened, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    opened: Vec<Opening>,
}

/// A secret that new starts do not use any more.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Former {
    version: u32,
    secret: Sealed,
    /// When it was replaced.
    replaced_at: Timestamp,
}

fn first_version() -> u32 {
    FIRST_VERSION
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_first_version(version: &u32) -> bool {
    *version == FIRST_VERSION
}

/// Upper bound of former secrets; if records name so many, the secret cannot be rotated.
const FORMER_MOST: usize = 16;
/// Number of openings that are kept.
const OPENINGS: usize = 20;

impl Store {
    /// Reads the installation, or creates it if there is none. Safe to call concurrently on all replicas.
    pub async fn installation(&self, sealer: &Sealer) -> Result<Installation> {
        let key = self.keys().installation();
        if let Some(found) = first(&self.get("read the installation", key.clone(), GetOptions::new()).await?)
        {
            return open(&key, sealer, &found);
        }
        let value =
            encode(&key, &new_value(sealer).map_err(|source| Error::Seal { key: key.clone(), source })?)?;
        let put = TxnOp::put(key.as_str(), value, None);
        let txn = Txn::new().when([is_absent(&key)]).and_then([put]);
        // Another replica may be first; after an ambiguous result the stored value is read.
        match self.txn(DOING, txn).await {
            Ok(_) | Err(Error::Ambiguous { .. }) => {}
            Err(error) => return Err(error),
        }
        match first(&self.get("read the installation", key.clone(), GetOptions::new()).await?) {
            Some(found) => open(&key, sealer, &found),
            None => Err(Error::Conflict { doing: DOING.to_owned(), key }),
        }
    }

    /// The current incarnation, and those that admins opened, the latest last.
    pub async fn incarnation(&self) -> Result<(u64, Vec<Opening>)> {
        let (_, value, _) = self.stored_installation("read the incarnation").await?;
        Ok((value.incarnation, value.opened))
    }

    /// Opens the next incarnation; fails with [`Error::Conflict`] on a concurrent change of the installation.
    pub async fn open_incarnation(
        &self,
        term: &Term,
        reason: &str,
        by: &str,
        at: Timestamp,
    ) -> Result<Opening> {
        let doing = "open an incarnation";
        let (key, mut value, version) = self.stored_installation(doing).await?;
        value.incarnation += 1;
        let opening =
            Opening { incarnation: value.incarnation, at, by: by.to_owned(), reason: reason.to_owned() };
        value.opened.push(opening.clone());
        let surplus = value.opened.len().saturating_sub(OPENINGS);
        value.opened.drain(..surplus);
        let put = TxnOp::put(key.as_str(), encode(&key, &value)?, None);
        self.guarded_change(term, doing, &key, vec![is_at(&key, version)], vec![put]).await?;
        Ok(opening)
    }

    /// Creates a new secret for new starts; `None` if too many former ones are still in use.
    pub async fn rotate_secret(
        &self,
        term: &Term,
        sealer: &Sealer,
        at: Timestamp,
    ) -> Result<Option<Installation>> {
        let doing = "rotate the installation's secret";
        let (key, mut value, version) = self.stored_installation(doing).await?;
        if value.former_secrets.len() >= FORMER_MOST {
            return Ok(None);
        }
        let purpose = purpose(decode_name(&key, value.id.as_bytes())?);
        let sealed =
            new_secret(sealer, &purpose).map_err(|source| Error::Seal { key: key.clone(), source })?;
        let former = Former {
            version: value.secret_version,
            secret: std::mem::replace(&mut value.secret, sealed),
            replaced_at: at,
        };
        value.former_secrets.push(former);
        value.secret_version += 1;
        let put = TxnOp::put(key.as_str(), encode(&key, &value)?, None);
        self.guarded_change(term, doing, &key, vec![is_at(&key, version)], vec![put]).await?;
        opened(&key, sealer, value).map(Some)
    }

    /// Removes former secrets that were replaced before a time and that no record names. Returns the installation if it
    /// changed.
    pub async fn forget_secrets(
        &self,
        term: &Term,
        sealer: &Sealer,
        before: Timestamp,
    ) -> Result<Option<Installation>> {
        let doing = "forget former secrets";
        let (key, mut value, version) = self.stored_installation(doing).await?;
        if value.former_secrets.iter().all(|former| former.replaced_at >= before) {
            return Ok(None);
        }
        let used = self.secrets_in_use().await?;
        let kept = value.former_secrets.len();
        value.former_secrets.retain(|former| former.replaced_at >= before || used.contains(&former.version));
        if value.former_secrets.len() == kept {
            return Ok(None);
        }
        let put = TxnOp::put(key.as_str(), encode(&key, &value)?, None);
        self.guarded_change(term, doing, &key, vec![is_at(&key, version)], vec![put]).await?;
        opened(&key, sealer, value).map(Some)
    }

    async fn stored_installation(&self, doing: &str) -> Result<(String, Value, i64)> {
        let key = self.keys().installation();
        match first(&self.get(doing, key.clone(), GetOptions::new()).await?) {
            Some(found) => {
                let value = decode(&key, found.value())?;
                Ok((key, value, found.mod_revision()))
            }
            None => Err(Error::Conflict { doing: doing.to_owned(), key }),
        }
    }
}

impl Value {
    /// Reseals all secrets with the current sealing key; `None` if they are.
    pub(super) fn resealed(self, key: &str, sealer: &Sealer) -> Result<Option<Self>> {
        let is_current = |secret: &Sealed| sealer.is_current(secret);
        if is_current(&self.secret) && self.former_secrets.iter().all(|former| is_current(&former.secret)) {
            return Ok(None);
        }
        let purpose = purpose(decode_name(key, self.id.as_bytes())?);
        let reseal = |secret: &Sealed| {
            let reseal =
                sealer.open(&purpose, secret).and_then(|plain| sealer.seal(&purpose, plain.expose()));
            reseal.map_err(|source| Error::Seal { key: key.to_owned(), source })
        };
        let secret = reseal(&self.secret)?;
        let mut former_secrets = Vec::with_capacity(self.former_secrets.len());
        for former in &self.former_secrets {
            former_secrets.push(Former { secret: reseal(&former.secret)?, ..*former });
        }
        Ok(Some(Self { secret, former_secrets, ..self }))
    }
}

fn new_value(sealer: &Sealer) -> Result<Value, seal::Error> {
    let id = Uuid::new_v4();
    Ok(Value {
        id: id.to_string(),
        incarnation: 1,
        secret: new_secret(sealer, &purpose(id))?,
        secret_version: FIRST_VERSION,
        former_secrets: Vec::new(),
        opened: Vec::new(),
    })
}

fn new_secret(sealer: &Sealer, purpose: &str) -> Result<Sealed, seal::Error> {
    let mut secret = [0; SECRET_LEN];
    SystemRandom::new().fill(&mut secret).map_err(|_| seal::Error::Failed { purpose: purpose.to_owned() })?;
    sealer.seal(purpose, &secret)
}

fn open(key: &str, sealer: &Sealer, found: &KeyValue) -> Result<Installation> {
    opened(key, sealer, decode(key, found.value())?)
}

fn opened(key: &str, sealer: &Sealer, value: Value) -> Result<Installation> {
    let Value { id, incarnation, secret, secret_version, former_secrets, .. } = value;
    let id: Uuid = decode_name(key, id.as_bytes())?;
    let open = |sealed: &Sealed| {
        let plain = sealer.open(&purpose(id), sealed);
        let plain = plain.map_err(|source| Error::Seal { key: key.to_owned(), source })?;
        let wrong_length =
            |_| Error::Malformed { key: key.to_owned(), reason: "a secret is not 32 bytes".to_owned() };
        <[u8; SECRET_LEN]>::try_from(plain.expose().as_slice()).map_err(wrong_length).map(Secret::new)
    };
    let secret = open(&secret)?;
    let mut former = BTreeMap::new();
    for Former { version, secret, .. } in &former_secrets {
        former.insert(*version, open(secret)?);
    }
    Ok(Installation { id, incarnation, secret, secret_version, former_secrets: former })
}

fn purpose(id: Uuid) -> String {
    format!("secret of installation {id}")
}

impl fmt::Debug for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Installation({}, incarnation {})", self.id, self.incarnation)
    }
}
