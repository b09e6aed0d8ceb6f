//! Locks that calls wait for: one a workspace, so that calls about the same workspace follow each other and
//! others do not wait; and one of the registry. Every wait has a limit, because a holder may be waiting for
//! a cluster. Use cases about workspaces and about clusters take them, so they lie below both.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::timeout;

use crate::{Error, Result};
use domain::names::WorkspaceId;

/// How long a call waits for another one, where its own deadline is no shorter. A change of a workspace takes no longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits within a limit.
pub(super) async fn turn<T>(
    what: &'static str,
    within: Duration,
    lock: impl Future<Output = T>,
) -> Result<T> {
    timeout(within, lock).await.map_err(|_| Error::Deadline { what, within })
}

/// Locks by workspace; one that nobody holds or waits for is forgotten.
#[derive(Debug, Default)]
pub struct Locks(Mutex<HashMap<WorkspaceId, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits for the lock of a workspace.
    pub async fn lock(&self, id: &WorkspaceId, within: Duration) -> Result<OwnedMutexGuard<()>> {
        let lock = self.of(id).lock_owned();
        turn("waiting for another call about the same workspace", within, lock).await
    }

    /// The lock of a workspace, where nobody holds it.
    pub fn try_lock(&self, id: &WorkspaceId) -> Option<OwnedMutexGuard<()>> {
        self.of(id).try_lock_owned().ok()
    }

    fn of(&self, id: &WorkspaceId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock();
        if let Some(lock) = locks.get(id).and_then(Weak::upgrade) {
            return lock;
        }
        // Forgetting costs a pass over all, so it is done only when the table has doubled.
        if locks.len() == locks.capacity() {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::default();
        locks.insert(id.clone(), Arc::downgrade(&lock));
        lock
    }
}

/// Held shared while a placement is recorded and alone while a cluster is taken out, so that a cluster that was found empty
/// stays so until it is gone.
#[derive(Debug, Default)]
pub struct RegistryLock(RwLock<()>);

impl RegistryLock {
    /// Waits until no cluster is being taken out.
    pub async fn read(&self, within: Duration) -> Result<RwLockReadGuard<'_, ()>> {
        turn("waiting for a change of the registry of clusters", within, self.0.read()).await
    }

    /// Waits until no placement is being recorded.
    pub async fn write(&self, within: Duration) -> Result<RwLockWriteGuard<'_, ()>> {
        turn("waiting for starts that are being recorded", within, self.0.write()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_workspace_is_locked_once_and_others_are_not() {
        let locks = Locks::default();
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let held = locks.lock(&a, PATIENCE).await.unwrap();
        assert!(locks.try_lock(&a).is_none());
        assert!(locks.try_lock(&b).is_some());
        drop(held);
        assert!(locks.try_lock(&a).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn no_lock_is_waited_for_without_a_limit() {
        let (locks, registry, id) = (Locks::default(), RegistryLock::default(), "a".parse().unwrap());
        let _held = locks.lock(&id, PATIENCE).await.unwrap();
        let late = locks.lock(&id, PATIENCE).await.unwrap_err();
        let told = "waiting for another call about the same workspace took longer than 20s";
        assert_eq!(late.to_string(), told);
        let recorded = registry.read(PATIENCE).await.unwrap();
        assert!(matches!(registry.write(PATIENCE).await, Err(Error::Deadline { .. })));
        drop(recorded);
        let _removed = registry.write(PATIENCE).await.unwrap();
        assert!(matches!(registry.read(PATIENCE).await, Err(Error::Deadline { .. })));
    }

    #[tokio::test]
    async fn locks_that_nobody_holds_are_forgotten() {
        let locks = Locks::default();
        for n in 0..10_000 {
            drop(locks.lock(&format!("ws-{n}").parse().unwrap(), PATIENCE).await);
        }
        assert!(locks.0.lock().len() < 64, "{}", locks.0.lock().len());
    }
}
