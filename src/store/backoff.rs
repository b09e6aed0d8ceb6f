//! Exponential backoff with jitter.

use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};

/// Doubles from `first` to `most`. Each delay is a random part of that, at least half.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The delay before the next retry.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = jitter(self.next);
        self.next = (self.next * 2).min(self.most);
        pause
    }

    /// Starts from `first` again, after a success.
    pub(super) const fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Between half of `time` and `time`.
fn jitter(time: Duration) -> Duration {
    let mut byte = [u8::MAX];
    // Without randomness the delay is the longest one.
    let _ = SystemRandom::new().fill(&mut byte);
    time / 2 + time / 2 * u32::from(byte[0]) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_bound_and_are_reset_by_a_success() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 4 * second);
        for bound in [1, 2, 4, 4, 4] {
            let pause = backoff.pause();
            assert!(pause >= second * bound / 2 && pause <= second * bound, "{pause:?} of {bound} s");
        }
        backoff.reset();
        assert!(backoff.pause() <= second);
    }
}
