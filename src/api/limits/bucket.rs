//! Token buckets, one for all calls or one for each key. Time is passed in: nothing here sleeps.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Digest of a key, so that callers cannot fill the memory with long texts.
pub type Key = [u8; 32];

/// Rate of a bucket.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Tokens that a full bucket holds.
    pub size: u32,
    /// Time until one token is added.
    pub refill: Duration,
}

/// Buckets by key; the least recently used is evicted. A bucket is stored as the time at which it will be full.
#[derive(Debug)]
pub struct Buckets {
    rate: Rate,
    most: usize,
    full_at: HashMap<Key, (Duration, u64)>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
}

impl Buckets {
    /// All full; at most `most` are kept.
    pub fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most, full_at: HashMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    /// Whether a key has a bucket of its own.
    pub fn knows(&self, key: &Key) -> bool {
        self.full_at.contains_key(key)
    }

    /// Takes a token and returns how long to wait for it. If that is longer than `patience`, takes none and returns the
    /// wait as the error.
    pub fn take(&mut self, key: Key, now: Duration, patience: Duration) -> Result<Duration, Duration> {
        let (full_at, used) = self.full_at.get(&key).copied().unwrap_or((Duration::ZERO, 0));
        let after = full_at.max(now).saturating_add(self.rate.refill);
        let wait = after.saturating_sub(now.saturating_add(self.rate.refill.saturating_mul(self.rate.size)));
        if wait > patience {
            return Err(wait);
        }
        self.uses += 1;
        self.by_use.remove(&used);
        self.by_use.insert(self.uses, key);
        self.full_at.insert(key, (after, self.uses));
        if self.full_at.len() > self.most
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.full_at.remove(&oldest);
        }
        Ok(wait)
    }

    /// Returns an unused token. Calls that wait already keep their wait.
    pub fn give_back(&mut self, key: &Key) {
        if let Some((full_at, _)) = self.full_at.get_mut(key) {
            *full_at = full_at.saturating_sub(self.rate.refill);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const ONE: Key = [1; 32];

    fn buckets(most: usize) -> Buckets {
        Buckets::new(Rate { size: 2, refill: SECOND }, most)
    }

    #[test]
    fn a_burst_is_taken_at_once_and_then_one_each_interval() {
        let mut buckets = buckets(1);
        let mut take = |now: Duration| buckets.take(ONE, now, Duration::ZERO);
        let start = SECOND * 100;
        assert_eq!(
            [take(start), take(start), take(start)],
            [Ok(Duration::ZERO), Ok(Duration::ZERO), Err(SECOND)]
        );
        assert_eq!(take(start + SECOND / 2), Err(SECOND / 2));
        assert_eq!([take(start + SECOND), take(start + SECOND)], [Ok(Duration::ZERO), Err(SECOND)]);
        let later = start + SECOND * 50;
        assert_eq!(
            [take(later), take(later), take(later)],
            [Ok(Duration::ZERO), Ok(Duration::ZERO), Err(SECOND)]
        );
    }

    #[test]
    fn waiting_calls_are_served_in_order() {
        let mut buckets = buckets(1);
        let mut take = || buckets.take(ONE, SECOND, SECOND * 2);
        let all = [take(), take(), take(), take(), take()];
        assert_eq!(
            all,
            [Ok(Duration::ZERO), Ok(Duration::ZERO), Ok(SECOND), Ok(SECOND * 2), Err(SECOND * 3)]
        );
    }

    #[test]
    fn a_token_that_is_given_back_is_there_for_the_next() {
        let mut buckets = buckets(1);
        let take = |buckets: &mut Buckets| buckets.take(ONE, SECOND, SECOND * 2);
        let first = [take(&mut buckets), take(&mut buckets), take(&mut buckets)];
        assert_eq!(first, [Ok(Duration::ZERO), Ok(Duration::ZERO), Ok(SECOND)]);
        buckets.give_back(&ONE);
        buckets.give_back(&[2; 32]);
        assert_eq!([take(&mut buckets), take(&mut buckets)], [Ok(SECOND), Ok(SECOND * 2)]);
    }

    #[test]
    fn keys_have_buckets_of_their_own_and_the_oldest_is_forgotten() {
        let mut buckets = buckets(2);
        let mut take = |key: u8| buckets.take([key; 32], SECOND, Duration::ZERO).is_ok();
        assert_eq!([take(1), take(1), take(1)], [true, true, false]);
        assert!(take(2) && take(3), "others are not held up");
        assert!(take(1), "it was forgotten");
        assert_eq!((buckets.full_at.len(), buckets.by_use.len()), (2, 2));
    }

    #[test]
    fn the_largest_configuration_does_not_overflow() {
        let rate = Rate { size: u32::MAX, refill: Duration::MAX };
        assert!(Buckets::new(rate, 1).take(ONE, SECOND, Duration::ZERO).is_ok());
    }
}
