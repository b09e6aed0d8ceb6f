//! Bounds of maintenance.

use std::time::Duration;

/// How long maintenance may last: meanwhile no workspace there times out or can be stopped, so a forgotten one must end.
pub const LONGEST: Duration = Duration::from_hours(30 * 24);
/// [`LONGEST`] in words.
pub const LONGEST_TEXT: &str = "30 days (720h)";
/// How far the clocks of an admin and of a manager may differ.
const CLOCK_SKEW: Duration = Duration::from_hours(1);

/// Whether maintenance may end so long from now; the clock of who asked may differ from this one.
pub fn may_last(left: Duration) -> bool {
    left <= LONGEST + CLOCK_SKEW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maintenance_lasts_a_month_at_most_whatever_the_clocks_say() {
        assert!(may_last(LONGEST) && may_last(LONGEST + Duration::from_mins(5)));
        assert!(!may_last(Duration::from_hours(200_000)));
        assert!(LONGEST_TEXT.contains(&format!("{}h", LONGEST.as_secs() / 3600)));
    }
}
