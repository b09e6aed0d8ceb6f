//! The reason that an admin gives for what cannot be undone.

use crate::{Error, Result};

/// Characters of a reason.
const REASON_MOST: usize = 500;

/// The reason as it is kept. Fails where there is none, or where it is too long.
pub(crate) fn stated(reason: &str) -> Result<&str> {
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON_MOST {
        let rule = format!("must say why, in at most {REASON_MOST} characters");
        return Err(Error::Invalid { field: "reason".into(), rule });
    }
    Ok(reason)
}
