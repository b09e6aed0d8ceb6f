//! Deadlines of calls that do not count the time in the cluster's own limiter, so that a full queue is not taken for a
//! fault of the cluster.
//!
//! The limiter is inside of the client, and deadlines of callers are around it. A task-local value connects the two:
//! `kube` polls a call in the task that awaits it.

use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant, timeout_at};

tokio::task_local! {
    static CALLS: Arc<Calls>;
}

/// The requests of one caller.
#[derive(Default)]
struct Calls {
    state: Mutex<State>,
    /// Those of the caller around it.
    around: Option<Arc<Calls>>,
}

#[derive(Default)]
struct State {
    /// How many wait for their turn.
    waiting: usize,
    /// When the first had its turn.
    turn: Option<Instant>,
}

/// What a call waited for when its time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Its turn in the limiter: its last request was not sent.
    ForTurn,
    /// Its answer.
    ForAnswer,
}

/// Runs a call that has to have its turn within `limit`, and its answer within `limit` of that.
pub fn within<T>(limit: Duration, call: impl Future<Output = T>) -> impl Future<Output = Result<T, Waited>> {
    // On the heap: callers await many of these in turn, and each would have its place in theirs.
    run(Instant::now() + limit, Some(limit), Box::pin(call))
}

/// Runs a call until a deadline, however long it waits for turns.
pub fn until<T>(deadline: Instant, call: impl Future<Output = T>) -> impl Future<Output = Result<T, Waited>> {
    run(deadline, None, Box::pin(call))
}

async fn run<T>(
    mut deadline: Instant,
    limit: Option<Duration>,
    call: impl Future<Output = T>,
) -> Result<T, Waited> {
    let calls = Arc::new(Calls { around: CALLS.try_with(Arc::clone).ok(), ..Calls::default() });
    let mut call = pin!(CALLS.scope(Arc::clone(&calls), call));
    loop {
        if let Ok(outcome) = timeout_at(deadline, &mut call).await {
            return Ok(outcome);
        }
        // Read while the call is there: dropped, it waits no more.
        let State { waiting, turn } = *calls.state.lock();
        if waiting > 0 {
            return Err(Waited::ForTurn);
        }
        match turn.zip(limit).map(|(turn, limit)| turn + limit) {
            Some(later) if later > deadline => deadline = later,
            _ => return Err(Waited::ForAnswer),
        }
    }
}

/// A request that waits for its turn until this is dropped.
pub(super) struct Waits(Option<Arc<Calls>>);

/// Notes that a request waits for its turn.
pub(super) fn waits() -> Waits {
    let calls = CALLS.try_with(Arc::clone).ok();
    each(calls.as_ref(), |state| state.waiting += 1);
    Waits(calls)
}

impl Drop for Waits {
    fn drop(&mut self) {
        let now = Instant::now();
        each(self.0.as_ref(), |state| {
            state.waiting -= 1;
            state.turn.get_or_insert(now);
        });
    }
}

fn each(mut calls: Option<&Arc<Calls>>, change: impl Fn(&mut State)) {
    while let Some(one) = calls {
        change(&mut one.state.lock());
        calls = one.around.as_ref();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A request that waits for its turn and then for its answer.
    async fn request(turn: Duration, answer: Duration) {
        let waits = waits();
        sleep(turn).await;
        drop(waits);
        sleep(answer).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_for_an_answer_counts_from_the_turn() {
        let limit = 3 * SECOND;
        let begun = Instant::now();
        assert_eq!(within(limit, request(2 * SECOND, 2 * SECOND)).await, Ok(()));
        assert_eq!(begun.elapsed(), 4 * SECOND);
        assert_eq!(within(limit, request(4 * SECOND, SECOND)).await, Err(Waited::ForTurn));
        let begun = Instant::now();
        assert_eq!(within(limit, request(2 * SECOND, 9 * SECOND)).await, Err(Waited::ForAnswer));
        assert_eq!(begun.elapsed(), 5 * SECOND);
        assert_eq!(within(limit, sleep(4 * SECOND)).await, Err(Waited::ForAnswer));
    }

    #[tokio::test(start_paused = true)]
    async fn several_requests_of_one_call_have_no_more_than_twice_the_limit() {
        let begun = Instant::now();
        let many = async {
            for _ in 0..20 {
                request(SECOND / 2, SECOND / 2).await;
            }
        };
        assert!(within(3 * SECOND, many).await.is_err());
        assert!(begun.elapsed() <= 6 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_around_several_calls_is_one_and_knows_what_the_last_waited_for() {
        let calls = |turn: Duration| async move {
            let _ = within(SECOND, request(Duration::ZERO, SECOND / 2)).await;
            let _ = within(9 * SECOND, request(turn, 9 * SECOND)).await;
        };
        let deadline = || Instant::now() + 3 * SECOND;
        assert_eq!(until(deadline(), calls(9 * SECOND)).await, Err(Waited::ForTurn));
        assert_eq!(until(deadline(), calls(SECOND)).await, Err(Waited::ForAnswer));
    }
}
