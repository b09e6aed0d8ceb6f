//! Records that can be mirrored, and how each kind is decoded.

use super::{Error, Result, value::decode};
use domain::{drain::Drain, record::PlacementRecord};

/// A kind of record that can be mirrored. Only the store implements it.
pub trait Mirrored: Sized + sealed::Sealed {
    /// Decodes a value; `key` is without the prefix of the kind.
    #[doc(hidden)]
    fn decode(key: &str, value: &[u8]) -> Result<Self>;
}

/// A record with its key and version.
#[derive(Debug, Clone, PartialEq)]
pub struct Item<T> {
    /// Key without the prefix of the kind: the workspace id, the cluster, or `<cluster>/spec` and `<cluster>/status`.
    pub key: String,
    /// The record.
    pub value: T,
    /// etcd version, which a change must compare.
    pub version: i64,
}

pub(super) mod sealed {
    pub trait Sealed {}
}

impl sealed::Sealed for PlacementRecord {}
impl sealed::Sealed for Drain {}

impl Mirrored for PlacementRecord {
    fn decode(key: &str, value: &[u8]) -> Result<Self> {
        let record: Self = decode(key, value)?;
        if record.workspace.as_str() != key {
            let reason = format!("it is the record of workspace {}", record.workspace);
            return Err(Error::Malformed { key: key.to_owned(), reason });
        }
        Ok(record)
    }
}
