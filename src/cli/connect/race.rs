//! Attempts that overlap ("happy eyeballs", RFC 8305): one that hangs delays the next only briefly.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::timeout;

/// Delay between the starts of two attempts, as browsers and curl have it.
pub const DELAY: Duration = Duration::from_millis(300);

/// Returns the first success and drops the other attempts. Starts the next attempt `delay` after the previous one, or when
/// one fails. Without a success returns all failures, in the order of the attempts.
pub async fn first_success<T, E>(
    attempts: impl IntoIterator<Item = impl Future<Output = Result<T, E>>>,
    delay: Duration,
) -> Result<T, Vec<E>> {
    let mut waiting = attempts.into_iter().enumerate().peekable();
    let mut running = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        if let Some((at, attempt)) = waiting.next() {
            running.push(async move { (at, attempt.await) });
        }
        let ended = if waiting.peek().is_some() {
            // Nothing ended within the delay: the next one starts beside those that run.
            let Ok(ended) = timeout(delay, running.next()).await else { continue };
            ended
        } else {
            running.next().await
        };
        match ended {
            Some((_, Ok(success))) => return Ok(success),
            Some((at, Err(failure))) => failures.push((at, failure)),
            None => break,
        }
    }
    failures.sort_by_key(|(at, _)| *at);
    Err(failures.into_iter().map(|(_, failure)| failure).collect())
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const NEVER: u64 = 1_000_000;

    /// Attempts that take so many milliseconds; returns the outcome and the milliseconds until then.
    async fn race(attempts: &[(u64, Result<u8, u8>)]) -> (Result<u8, Vec<u8>>, u128) {
        let began = Instant::now();
        let attempts = attempts.iter().map(|(millis, outcome)| async {
            sleep(Duration::from_millis(*millis)).await;
            *outcome
        });
        (first_success(attempts, DELAY).await, began.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_costs_one_delay() {
        assert_eq!(race(&[(NEVER, Err(1)), (20, Ok(2))]).await, (Ok(2), 320));
        assert_eq!(race(&[(NEVER, Err(1)), (NEVER, Err(2)), (20, Ok(3))]).await, (Ok(3), 620));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_starts_the_next_attempt_at_once() {
        assert_eq!(race(&[(10, Err(1)), (10, Err(2)), (10, Ok(3))]).await, (Ok(3), 30));
        assert_eq!(race(&[(NEVER, Err(1)), (10, Err(2)), (10, Ok(3))]).await, (Ok(3), 320));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_attempt_to_succeed_wins_whichever_began_first() {
        assert_eq!(race(&[(100, Ok(1)), (0, Ok(2))]).await, (Ok(1), 100));
        assert_eq!(race(&[(900, Ok(1)), (100, Ok(2))]).await, (Ok(2), 400));
        assert_eq!(race(&[(350, Ok(1)), (100, Ok(2))]).await, (Ok(1), 350));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_reported_in_the_order_of_the_attempts() {
        assert_eq!(race(&[(900, Err(1)), (10, Err(2)), (5, Err(3))]).await, (Err(vec![1, 2, 3]), 900));
        assert_eq!(race(&[]).await, (Err(Vec::new()), 0));
    }
}
