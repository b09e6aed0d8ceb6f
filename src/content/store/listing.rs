//! Bounded listings of objects.

use std::time::Duration;

use futures::TryStreamExt as _;
use jiff::Timestamp;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::error::Error;
use super::names::{InvalidName, Key, Prefix};
use super::open::{Place, Store};

/// Objects of one kind that a workspace has at most. Pruning keeps far fewer.
pub(super) const OBJECTS_MAX: usize = 100_000;

impl Store {
    /// Objects below a prefix that `of` knows, at most `limit`. With `after`, a name below the prefix, those in the order of names
    /// behind it.
    pub(super) async fn found<T>(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        of: impl Fn(&ObjectMeta, Key) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let Place { bucket, path, at } = self.prefix(prefix)?;
        let after = after.map(|name| Path::parse(format!("{path}/{name}"))).transpose();
        let after =
            after.map_err(|_| InvalidName::new("object name", "must be a valid path", prefix.path()))?;
        let list = || async {
            let mut listing = match &after {
                Some(after) => bucket.objects.list_with_offset(Some(&path), after),
                None => bucket.objects.list(Some(&path)),
            };
            let mut found = Vec::new();
            while found.len() <= limit
                && let Some(object) = listing.try_next().await?
            {
                found.extend(self.key_of(prefix.owner(), &object.location).and_then(|key| of(&object, key)));
            }
            Ok(found)
        };
        let found = self.list(&at, list).await?;
        if found.len() > limit {
            return Err(Error::TooMany { at, limit });
        }
        Ok(found)
    }

    /// Objects below a prefix that `of` knows, and when the store wrote them.
    pub(super) async fn listed<T>(
        &self,
        prefix: &Prefix,
        of: impl Fn(Key) -> Option<T>,
    ) -> Result<Vec<(T, Timestamp)>, Error> {
        let of = |meta: &ObjectMeta, key| Some((of(key)?, timestamp(meta.last_modified)));
        self.found(prefix, None, OBJECTS_MAX, of).await
    }
}

/// A time of the client library, which uses another crate.
pub(super) fn timestamp(time: impl Into<std::time::SystemTime>) -> Timestamp {
    let since = time.into().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::UNIX_EPOCH.checked_add(since).unwrap_or(Timestamp::MAX)
}
