//! A term of leadership, and whether it still holds.

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

/// The right to write, from an election until [`Term::is_valid`] says no; a term that ended never holds again.
///
/// The epoch is the etcd revision that created the leader's key: it grows from leader to leader.
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

    /// Grows from leader to leader within one etcd.
    pub const fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The etcd revision at which the election was won. No earlier leader's write is later, so a mirror that has seen this
    /// revision has seen everything that they wrote.
    pub const fn revision(&self) -> i64 {
        self.revision
    }

    /// Whether writing is allowed now: the last confirmed renewal was sent less than `stop_after` ago. Cheap.
    pub fn is_valid(&self) -> bool {
        self.validity.holds()
    }

    /// Resolves once the term has ended. Writers check [`Term::is_valid`]; this is for tasks that live as long as it.
    pub async fn ended(&self) {
        // By the clock too, so that nobody waits for ever where the election itself was dropped.
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

/// Until when a lease may be relied on: counted from when the last confirmed renewal was sent, on the monotonic clock.
pub(super) struct Validity {
    /// `until` counts from here, in nanoseconds; 0: ended for good.
    base: Instant,
    until: AtomicU64,
    stop_after: Duration,
    ended: CancellationToken,
}

impl Validity {
    /// Begins with the request that made the lease.
    pub(super) fn since(sent: Instant, stop_after: Duration) -> Arc<Self> {
        let until = AtomicU64::new(nanos(stop_after));
        Arc::new(Self { base: sent, until, stop_after, ended: CancellationToken::new() })
    }

    /// Counts a confirmed renewal. Answers no where the end came first: then it stays ended.
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
    async fn a_renewal_confirmed_after_the_end_revives_nothing() {
        let validity = Validity::since(Instant::now(), 4 * SECOND);
        tokio::time::advance(3 * SECOND).await;
        let sent = Instant::now();
        tokio::time::advance(2 * SECOND).await;
        assert!(!validity.renewed(sent));
        assert!(!validity.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_that_was_ended_stays_ended_and_tells_who_waits() {
        let validity = Validity::since(Instant::now(), 4 * SECOND);
        let term = Term::new(7, 9, "leader/1", Arc::clone(&validity));
        assert!(term.is_valid());
        term.end();
        assert!(!validity.renewed(Instant::now()) && !term.is_valid());
        term.ended().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_by_the_clock_is_told_too() {
        let validity = Validity::since(Instant::now(), 4 * SECOND);
        let sent = Instant::now();
        let term = Term::new(7, 9, "leader/1", validity);
        term.ended().await;
        assert!(sent.elapsed() >= 4 * SECOND && !term.is_valid());
    }
}
