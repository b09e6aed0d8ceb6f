//! Queue of workspaces whose records are to be settled. It is open while this replica settles; a standby
//! takes nothing out, so nothing is put in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use domain::names::WorkspaceId;

/// Workspaces to look at, each once.
#[derive(Debug, Clone, Default)]
pub struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Absent while the queue is closed.
    pending: Mutex<Option<Pending>>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    due: BTreeSet<WorkspaceId>,
    /// To be handled again after a while.
    later: BTreeSet<WorkspaceId>,
    /// Recorded starts whose cluster said that their resource does not exist, and when first.
    absent: BTreeMap<WorkspaceId, Instant>,
    /// Workspaces that are there although their end is recorded, and when that was seen first.
    back: BTreeMap<WorkspaceId, Instant>,
}

/// Closes the queue when it is dropped, and forgets what is in it.
#[derive(Debug)]
pub(super) struct Open<'a>(&'a Queue);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        *self.0.0.pending.lock() = None;
    }
}

impl Queue {
    /// Takes workspaces from now on, until the answer is dropped. What a closed queue was not given must be put in now.
    pub(super) fn open(&self) -> Open<'_> {
        *self.0.pending.lock() = Some(Pending::default());
        Open(self)
    }

    /// Asks for a look at a workspace; ignored while the queue is closed.
    pub fn push(&self, id: &WorkspaceId) {
        let is_new = self.with(|pending| pending.due.insert(id.clone()));
        if is_new.unwrap_or_default() {
            self.0.wake.notify_one();
        }
    }

    /// Workspaces that are to be handled, now or after a while.
    pub(crate) fn waiting(&self) -> usize {
        self.with(|pending| pending.due.len() + pending.later.len()).unwrap_or_default()
    }

    pub(super) async fn pop(&self) -> WorkspaceId {
        loop {
            if let Some(id) = self.with(|pending| pending.due.pop_first()).flatten() {
                return id;
            }
            self.0.wake.notified().await;
        }
    }

    /// For how long it is known that the resource of a recorded start does not exist.
    pub(super) fn absent_for(&self, id: &WorkspaceId) -> Duration {
        let first = |pending: &mut Pending| *pending.absent.entry(id.clone()).or_insert_with(Instant::now);
        self.with(first).map_or(Duration::ZERO, |first| first.elapsed())
    }

    /// Its resource exists, or is about to, or that is not known, or it is settled.
    pub(crate) fn not_absent(&self, id: &WorkspaceId) {
        self.with(|pending| pending.absent.remove(id));
    }

    /// Since when it is known that a workspace is there although its end is recorded.
    pub(super) fn back_since(&self, id: &WorkspaceId) -> Instant {
        let now = Instant::now();
        self.with(|pending| *pending.back.entry(id.clone()).or_insert(now)).unwrap_or(now)
    }

    /// It is not there, or was stopped, or has no end.
    pub(super) fn not_back(&self, id: &WorkspaceId) {
        self.with(|pending| pending.back.remove(id));
    }

    pub(super) fn later(&self, id: WorkspaceId) {
        self.with(|pending| pending.later.insert(id));
    }

    /// Asks for a look at everything that was put off.
    pub(super) fn look_again(&self) {
        let some = self.with(|pending| {
            pending.due.append(&mut pending.later);
            !pending.due.is_empty()
        });
        if some.unwrap_or_default() {
            self.0.wake.notify_one();
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Pending) -> T) -> Option<T> {
        self.0.pending.lock().as_mut().map(act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> WorkspaceId {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_standby_keeps_nothing_of_what_it_sees() {
        let queue = Queue::default();
        for n in 0..10_000 {
            queue.push(&id(&format!("before-{n}")));
        }
        assert_eq!(queue.waiting(), 0);
        let open = queue.open();
        queue.push(&id("a"));
        queue.push(&id("a"));
        assert_eq!(queue.waiting(), 1);
        assert_eq!(queue.pop().await, id("a"));
        queue.later(id("b"));
        queue.absent_for(&id("b"));
        drop(open);
        assert_eq!(queue.waiting(), 0);
        queue.push(&id("after"));
        queue.later(id("after"));
        queue.look_again();
        let _open = queue.open();
        assert_eq!(queue.waiting(), 0, "nothing of an earlier term is left");
    }

    #[tokio::test]
    async fn what_is_put_off_is_looked_at_again_once() {
        let queue = Queue::default();
        let _open = queue.open();
        queue.later(id("a"));
        queue.push(&id("a"));
        assert_eq!(queue.pop().await, id("a"));
        queue.look_again();
        assert_eq!(queue.pop().await, id("a"));
        queue.look_again();
        assert_eq!(queue.waiting(), 0);
    }
}
