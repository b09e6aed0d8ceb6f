//! Who we are to the member clusters: an identity and a secret that the first replica makes for all.

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
use crate::domain::epoch::Opening;
use crate::domain::secret::Secret;

const SECRET_LEN: usize = 32;
const DOING: &str = "make the installation's identity";

/// The installation that all replicas of one etcd prefix are part of.
#[derive(Clone)]
pub struct Installation {
    /// Random, made once.
    pub id: Uuid,
    /// From 1; an admin opens a new one after etcd was restored from a backup.
    pub incarnation: u64,
    /// From which keys of their own are derived, such as that of request digests.
    pub secret: Secret<[u8; SECRET_LEN]>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Value {
    id: String,
    incarnation: u64,
    secret: Sealed,
    /// The last ones that admins opened, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    opened: Vec<Opening>,
}

/// Openings that are kept.
const OPENINGS: usize = 20;

impl Store {
    /// The installation's identity, made by whichever replica asks first. Safe to call on all at once.
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
        // Another replica may win, and an unclear answer is cleared up by reading what is there.
        match self.txn(DOING, txn).await {
            Ok(_) | Err(Error::Ambiguous { .. }) => {}
            Err(error) => return Err(error),
        }
        match first(&self.get("read the installation", key.clone(), GetOptions::new()).await?) {
            Some(found) => open(&key, sealer, &found),
            None => Err(Error::Conflict { doing: DOING.to_owned(), key }),
        }
    }

    /// The incarnation as etcd has it now, and those that admins opened, the latest last.
    pub async fn incarnation(&self) -> Result<(u64, Vec<Opening>)> {
        let (_, value, _) = self.stored_installation("read the incarnation").await?;
        Ok((value.incarnation, value.opened))
    }

    /// Opens the next incarnation; fails with [`Error::Conflict`] where somebody else changes the installation meanwhile.
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
    /// The same under the key that seals now; `None` where it is.
    pub(super) fn sealed_anew(self, key: &str, sealer: &Sealer) -> Result<Option<Self>> {
        if sealer.is_current(&self.secret) {
            return Ok(None);
        }
        let purpose = purpose(decode_name(key, self.id.as_bytes())?);
        let anew =
            sealer.open(&purpose, &self.secret).and_then(|plain| sealer.seal(&purpose, plain.expose()));
        let secret = anew.map_err(|source| Error::Seal { key: key.to_owned(), source })?;
        Ok(Some(Self { secret, ..self }))
    }
}

fn new_value(sealer: &Sealer) -> Result<Value, seal::Error> {
    let id = Uuid::new_v4();
    let purpose = purpose(id);
    let mut secret = [0; SECRET_LEN];
    SystemRandom::new().fill(&mut secret).map_err(|_| seal::Error::Failed { purpose: purpose.clone() })?;
    Ok(Value {
        id: id.to_string(),
        incarnation: 1,
        secret: sealer.seal(&purpose, &secret)?,
        opened: Vec::new(),
    })
}

fn open(key: &str, sealer: &Sealer, found: &KeyValue) -> Result<Installation> {
    let Value { id, incarnation, secret, .. } = decode(key, found.value())?;
    let id: Uuid = decode_name(key, id.as_bytes())?;
    let secret =
        sealer.open(&purpose(id), &secret).map_err(|source| Error::Seal { key: key.to_owned(), source })?;
    let wrong_length =
        |_| Error::Malformed { key: key.to_owned(), reason: "the secret is not 32 bytes".to_owned() };
    let secret = <[u8; SECRET_LEN]>::try_from(secret.expose().as_slice()).map_err(wrong_length)?;
    Ok(Installation { id, incarnation, secret: Secret::new(secret) })
}

fn purpose(id: Uuid) -> String {
    format!("secret of installation {id}")
}

impl fmt::Debug for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Installation({}, incarnation {})", self.id, self.incarnation)
    }
}
