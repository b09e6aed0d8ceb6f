//! Debounced periodic task of the leader: runs now, after each change, and when the last run asks for it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use store::Term;

/// Runs now, after each change, and after the time that the last run returned, until the term ends. Changes that come
/// within `gather` of the first are handled by one run.
pub(crate) async fn rounds<R: Future<Output = Option<Duration>>>(
    term: &Term,
    changes: watch::Receiver<()>,
    gather: Duration,
    round: impl Fn() -> R,
) {
    tokio::select! {
        () = go_round(changes, gather, round) => {}
        () = term.ended() => {}
    }
}

/// Ends when the sender of changes is dropped.
async fn go_round<R: Future<Output = Option<Duration>>>(
    mut changes: watch::Receiver<()>,
    gather: Duration,
    round: impl Fn() -> R,
) {
    loop {
        changes.mark_unchanged();
        let again = round().await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(again.unwrap_or_default()), if again.is_some() => {}
        }
        sleep(gather).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const GATHER: Duration = Duration::from_millis(200);

    /// The rounds that changes lead to, after each of which so long is waited.
    async fn counted(waits: &[Duration], again: Option<Duration>) -> u32 {
        let (changed, changes) = watch::channel(());
        let count = Cell::new(0);
        let round = || {
            count.set(count.get() + 1);
            std::future::ready(again)
        };
        let change = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            for wait in waits {
                changed.send_replace(());
                tokio::time::sleep(*wait).await;
            }
            drop(changed);
        };
        tokio::join!(go_round(changes, GATHER, round), change);
        count.get()
    }

    #[tokio::test(start_paused = true)]
    async fn every_change_leads_to_a_round_and_those_that_come_together_to_one() {
        let apart = Duration::from_secs(1);
        assert_eq!(counted(&[], None).await, 1);
        assert_eq!(counted(&[apart, apart], None).await, 3);
        assert_eq!(counted(&[GATHER / 4, GATHER / 4, apart], None).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_that_is_not_done_is_followed_by_another_without_a_change() {
        let waits = [Duration::from_millis(3100)];
        // At 0 s, after the change at once, and then every second and what is gathered.
        assert_eq!(counted(&waits, Some(Duration::from_millis(800))).await, 5);
    }
}
