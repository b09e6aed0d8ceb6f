//! Who keeps a workspace that has stopped from being deleted.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::describe::describe;
use crate::connect::Client;
use crate::failure::passes;
use domain::names::WorkspaceId;
use proto::wsman::WorkspaceStatus;

/// How long the deletion of a stopped workspace is followed at most.
pub const LONGEST: Duration = Duration::from_secs(10);
/// Interval of reading its status.
const PAUSE: Duration = Duration::from_millis(250);

/// Waits until a stopped workspace is gone, or its status names who holds it; the status then. `None` if nobody is known
/// by the deadline.
pub async fn holders(client: &Client, id: &WorkspaceId, deadline: Instant) -> Option<WorkspaceStatus> {
    let reading = async {
        loop {
            match describe(client, id).await {
                Ok(answer) => {
                    let held = answer.status.filter(|status| !status.held.is_empty());
                    if held.is_some() {
                        return held;
                    }
                }
                Err(status) if passes(&status) => {}
                // It is gone, or cannot be read: the stop itself is over.
                Err(_) => return None,
            }
            sleep(PAUSE).await;
        }
    };
    timeout_at(deadline, reading).await.ok().flatten()
}
