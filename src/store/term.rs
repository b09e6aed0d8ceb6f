//! A leader's term, and whether it is still valid.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Permission to write, from an election until [`Term::is_valid`] is false; a term that ended never becomes valid again.
///
/// The epoch is the etcd revision that created the leader's key: it grows from term to term.
#[derive(Clone)]
pub struct Term {
    epoch: i64,
    revision: i64,
    key: Arc<str>,
    validity: Arc<Validity>,
}

impl Term {
    pub(super) fn new(epoch: i64, revision: i64, key: &str, validity: Arc<Validity>) -> Self {
        Self { epoch, revision, key: key.into(), validity }
    }

    /// Grows from term to term within one etcd.
    pub const fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The etcd revision at which the election was won. All writes of earlier leaders are before it, so a mirror that has seen
    /// this revision has seen all of them.
    pub const fn revision(&self) -> i64 {
        self.revision
    }

    /// Whether writing is allowed now: the last confirmed renewal was sent less than `stop_after` ago. Cheap.
    pub fn is_valid(&self) -> bool {
        self.validity.holds()
    }

    /// Resolves once the term has ended. Writers check [`Term::is_valid`]; this is for tasks that run during the term.
    pub async fn ended(&self) {
        // By the clock, too, so that no task waits forever if the election was dropped.
        while self.is_valid() {
            tokio::select! {
                () = self.validity.ended() => return,
                () = sleep_until(self.validity.until()) => {}
            }
        }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Ends it at once.
    pub(super) fn end(&self) {
        self.validity.end();
    }
}

impl PartialEq for Term {
    fn eq(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.key == other.key
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Term(epoch {}, key {}, valid: {})", self.epoch, self.key, self.is_valid())
    }
}

/// Until when a lease is valid: counted from when the last confirmed renewal was sent, on the monotonic clock.
pub(super) struct Validity {
    /// Base of `until`, which is in nanoseconds; 0: ended.
    base: Instant,
    until: AtomicU64,
    stop_after: Duration,
    ended: CancellationToken,
}

impl Validity {
    /// Starts with the request that granted the lease.
    pub(super) fn since(sent: Instant, stop_after: Duration) -> Arc<Self> {
        let until = AtomicU64::new(nanos(stop_after));
        Arc::new(Self { base: sent, until, stop_after, ended: CancellationToken::new() })
    }

    /// Extends it by a confirmed renewal; `false` if it had ended before: then it stays ended.
    pub(super) fn renewed(&self, sent: Instant) -> bool {
        let now = nanos(self.base.elapsed());
        let until = nanos(sent + self.stop_after - self.base);
        let held = |old| if now < old { Some(until.max(old)) } else { None };
        if self.until.fetch_update(Ordering::AcqRel, Ordering::Acquire, held).is_err() {
            self.end();
            return false;
        }
        true
    }

    pub(super) fn holds(&self) -> bool {
        nanos(self.base.elapsed()) < self.until.load(Ordering::Acquire)
    }

    /// When it ends unless it is renewed.
    pub(super) fn until(&self) -> Instant {
        self.base + Duration::from_nanos(self.until.load(Ordering::Acquire))
    }

    pub(super) fn end(&self) {
        self.until.store(0, Ordering::Release);
        self.ended.cancel();
    }

    pub(super) fn ended(&self) -> WaitForCancellationFuture<'_> {
        self.ended.cancelled()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_term_counts_from_when_the_renewal_was_sent_not_from_its_answer() {
        let validity = Validity::since(Instant::now(), 4 * SECOND);
        tokio::time::advance(2 * SECOND).await;
        let sent = Instant::now();
        tokio::time::advance(SECOND).await;
        assert!(validity.renewed(sent));
        tokio::time::advance(Duration::from_millis(2999)).await;
        assert!(validity.holds());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!validity.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_confirmed_after_the_end_does_not_revive_the_term() {
        let validity = Validity::since(Instant::now(), 4 * SECOND);
        tokio::time::advance(3 * SECOND).await;
        let sent = Instant::now();
        tokio::time::advance(2 * SECOND).await;
        assert!(!validity.renewed(sent));
        assert!(!validity.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_that_was_ended_stays_ended_and_notifies_waiters() {
        let validity = Validity::since(Instant::now(), 4 * SECOND);
        let term = Term::new(7, 9, "leader/1", Arc::clone(&validity));
        assert!(term.is_valid());
        term.end();
        assert!(!validity.renewed(Instant::now()) && !term.is_valid());
        term.ended().await;
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_are_notified_of_the_end_by_the_clock() {
        let validity = Validity::since(Instant::now(), 4 * SECOND);
        let sent = Instant::now();
        let term = Term::new(7, 9, "leader/1", validity);
        term.ended().await;
        assert!(sent.elapsed() >= 4 * SECOND && !term.is_valid());
    }
}
