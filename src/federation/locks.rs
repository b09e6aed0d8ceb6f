//! One lock a workspace, so that calls about the same one come after each other and others do not wait.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::domain::names::WorkspaceId;

/// Locks by workspace; one that nobody holds or waits for is forgotten.
#[derive(Debug, Default)]
pub struct Locks(Mutex<HashMap<WorkspaceId, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits for the lock of a workspace.
    pub async fn lock(&self, id: &WorkspaceId) -> OwnedMutexGuard<()> {
        self.of(id).lock_owned().await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_workspace_is_locked_once_and_others_are_not() {
        let locks = Locks::default();
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let held = locks.lock(&a).await;
        assert!(locks.try_lock(&a).is_none());
        assert!(locks.try_lock(&b).is_some());
        drop(held);
        assert!(locks.try_lock(&a).is_some());
    }

    #[tokio::test]
    async fn locks_that_nobody_holds_are_forgotten() {
        let locks = Locks::default();
        for n in 0..10_000 {
            drop(locks.lock(&format!("ws-{n}").parse().unwrap()).await);
        }
        assert!(locks.0.lock().len() < 64, "{}", locks.0.lock().len());
    }
}
