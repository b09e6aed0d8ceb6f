//! Deadlines: a start time and a limit.

use std::time::Duration;

use jiff::Timestamp;

/// `start + limit`; `None` on overflow.
pub(super) fn after(start: Timestamp, limit: Duration) -> Option<Timestamp> {
    start.checked_add(limit).ok()
}

/// Whether `limit` has passed since `start`.
pub(super) fn has_passed(now: Timestamp, start: Timestamp, limit: Duration) -> bool {
    after(start, limit).is_some_and(|at| at <= now)
}
