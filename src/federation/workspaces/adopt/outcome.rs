//! Limits and outcomes of adopting and discarding.

use std::time::Duration;

use domain::adoption::Way;

/// Workspaces of one call that changes something.
pub const MOST: usize = 100;
/// Worked on at once.
pub(super) const AT_ONCE: usize = 8;
/// For one workspace.
pub(super) const WITHIN: Duration = Duration::from_secs(20);

/// What came of one workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It would be adopted in this way.
    Planned(Way),
    /// It is.
    Adopted,
    /// Its resource is gone, or will be when it has ended in order.
    Discarded,
    /// It is as it was, or half done and to be repeated; why, in words that follow its name.
    Refused(String),
}
