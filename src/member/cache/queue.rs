//! Notifies observers of changes in their order, outside the lock of the cache.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::observer::Observer;

/// Pending notifications, added under the cache's lock so that their order is that of the changes.
pub(super) struct Queue<T> {
    waiting: Mutex<VecDeque<T>>,
    /// Held by the one thread that notifies.
    telling: Mutex<()>,
    observers: Vec<Arc<dyn Observer>>,
}

impl<T> Queue<T> {
    pub(super) fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self { waiting: Mutex::default(), telling: Mutex::default(), observers }
    }

    /// Adds a change. Call it with the cache's lock held.
    pub(super) fn push(&self, change: T) {
        self.waiting.lock().push_back(change);
    }

    /// Sends pending notifications, unless another thread does: that one sends these too. Call it without any lock.
    pub(super) fn drain(&self, tell: impl Fn(&dyn Observer, &T)) {
        loop {
            let Some(turn) = self.telling.try_lock() else { return };
            while let Some(change) = self.next() {
                for observer in &self.observers {
                    tell(&**observer, &change);
                }
            }
            drop(turn);
            // Nobody else would send what was added between the last `next` and the release of the lock.
            if self.waiting.lock().is_empty() {
                return;
            }
        }
    }

    fn next(&self) -> Option<T> {
        self.waiting.lock().pop_front()
    }
}
