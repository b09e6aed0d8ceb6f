//! Backoff: the delays before the retries of what failed. They double up to a bound and never end; whoever retries has the
//! deadline.

use std::time::Duration;

use backon::ExponentialBuilder;

/// Delays of `first`, doubled up to `longest`.
pub const fn doubling(first: Duration, longest: Duration) -> ExponentialBuilder {
    ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest).without_max_times()
}

/// The same with jitter, so that many that failed together do not retry together: between half and all of each delay.
pub const fn jittered(first: Duration, longest: Duration) -> ExponentialBuilder {
    // The library adds up to as much again.
    doubling(half(first), half(longest)).with_jitter()
}

const fn half(time: Duration) -> Duration {
    match time.checked_div(2) {
        Some(half) => half,
        None => time,
    }
}

#[cfg(test)]
mod tests {
    use backon::BackoffBuilder as _;

    use super::*;

    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(3);
    const DOUBLED: [u64; 7] = [200, 400, 800, 1600, 3000, 3000, 3000];

    /// The library counts in floating point.
    fn is_about(delay: Duration, milliseconds: u64) -> bool {
        delay.abs_diff(Duration::from_millis(milliseconds)) < Duration::from_micros(1)
    }

    #[test]
    fn delays_double_to_the_bound_and_do_not_end() {
        let delays = doubling(FIRST, LONGEST).build();
        assert!(delays.zip(DOUBLED).all(|(delay, expected)| is_about(delay, expected)));
        assert!(doubling(FIRST, LONGEST).build().nth(10_000).is_some_and(|delay| is_about(delay, 3000)));
    }

    #[test]
    fn jitter_is_at_most_half_of_a_delay_and_differs() {
        let series = || jittered(FIRST, LONGEST).build().take(DOUBLED.len()).collect::<Vec<_>>();
        for _ in 0..100 {
            for (delay, whole) in series().into_iter().zip(DOUBLED.map(Duration::from_millis)) {
                let slack = Duration::from_micros(1);
                assert!(delay + slack >= whole / 2 && delay <= whole + slack, "{delay:?} of {whole:?}");
            }
        }
        assert_ne!(series(), series());
    }
}
