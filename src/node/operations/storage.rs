//! How much of its storage a running workspace uses.

use std::time::Duration;

use content::initializer::scrub::Scrubber;
use domain::names::WorkspaceId;
use futures::stream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::context::Context;
use super::exchange::{NoFrames, Worker};
use super::subject::Subject;
use crate::archives::{Answer, Request};
use crate::helper::Progress;
use crate::quota::{Backend, Usage};

/// Of one walk. What takes longer is measured the next time, or never.
const WALK: Duration = Duration::from_mins(2);

/// What a workspace uses, and of how much. `None`: its class has no limit, or the node keeps none.
pub(super) async fn usage(context: &Context, subject: &Subject) -> Result<Option<Usage>, String> {
    let (Some(limit), instance) = (subject.quota, &subject.origin.instance) else { return Ok(None) };
    let used = match context.quota.backend() {
        Backend::None => return Ok(None),
        Backend::BtrfsQgroup => counted(context, instance, limit).await?,
        Backend::Measured => Some(walked(context, instance).await?),
    };
    Ok(used.map(|used| Usage { backend: context.quota.backend(), used, limit }))
}

/// What the file system counts. Sets the limit where another one is set: an agent may have ended before it could.
async fn counted(context: &Context, instance: &WorkspaceId, limit: u64) -> Result<Option<u64>, String> {
    let layout = context.disk.layout();
    let counted = context.quota.counted(layout, instance).await?;
    if counted.is_some_and(|counted| counted.limit != Some(limit)) {
        context.quota.limit(layout, instance, Some(limit)).await?;
    }
    Ok(counted.map(|counted| counted.used))
}

async fn walked(context: &Context, instance: &WorkspaceId) -> Result<u64, String> {
    let (progress, _) = watch::channel(Progress::default());
    let worker = Worker {
        helper: &context.helper,
        folder: context.disk.layout().content(instance),
        until: Instant::now() + WALK,
        scrubber: Scrubber::default(),
        progress: &progress,
    };
    match worker.exchange(&Request::Measure, stream::empty(), &mut NoFrames).await {
        Ok(Answer::Measured { bytes, .. }) => Ok(bytes),
        Ok(other) => Err(format!("the helper answered something else: {other:?}")),
        Err(failure) => Err(failure.message),
    }
}
