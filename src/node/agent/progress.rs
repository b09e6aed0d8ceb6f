//! What a long operation does, as a condition of its workspace, so that a person who waits for it sees it.
//!
//! Each write wakes everybody who watches the workspace. So an operation that is quick writes nothing, one that takes long writes
//! less and less often, and what did not change is not written.

use std::convert::Infallible;
use std::time::Duration;

use k8s::resources::{Workspace, conditions};
use kube::ResourceExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::work::Work;
use crate::decide::{Report, Update};
use crate::helper::Progress;

/// Until the first write, and between two.
const LEAST: Duration = Duration::from_secs(5);
/// Between two writes of an operation that takes very long.
const MOST: Duration = Duration::from_secs(30);
/// Of one write: a later one says more.
const WRITE: Duration = Duration::from_secs(10);
/// Characters of a message.
const LONGEST: usize = 300;

/// Says what an operation does until it is dropped.
pub async fn follow(
    work: &Work,
    workspace: &Workspace,
    mut progress: watch::Receiver<Progress>,
) -> Infallible {
    let (began, mut said) = (Instant::now(), String::new());
    loop {
        sleep(interval(began.elapsed())).await;
        let text = text(&progress.borrow_and_update());
        if text.is_empty() || text == said {
            continue;
        }
        say(work, workspace, &text).await;
        said = text;
    }
}

/// Says it once. That nobody hears it changes nothing.
pub async fn say(work: &Work, workspace: &Workspace, text: &str) {
    let report = report(workspace, text);
    let outcome = timeout(WRITE, work.report(workspace, &report)).await;
    let why = match outcome {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the apiserver takes too long".to_owned(),
    };
    debug!(instance = workspace.name_any(), reason = %why, "the progress was not reported");
}

fn report(workspace: &Workspace, text: &str) -> Report {
    let update = Update {
        kind: conditions::CONTENT_PROGRESS,
        is_true: true,
        reason: conditions::reason::UNKNOWN,
        message: domain::text::shown(text, LONGEST),
    };
    let attempt = workspace.status.as_ref().and_then(|status| status.pod_recreated).unwrap_or_default();
    Report { attempt, conditions: vec![update], ..Report::default() }
}

/// Until the next write, so long after the operation began.
fn interval(elapsed: Duration) -> Duration {
    (elapsed / 10).clamp(LEAST, MOST)
}

/// The step, and how many bytes it is at.
fn text(progress: &Progress) -> String {
    match progress.bytes {
        0 => progress.step.clone(),
        bytes => format!("{}, {}", progress.step, domain::text::bytes(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_of_work_is_written_less_than_150_times() {
        let (mut elapsed, mut writes) = (Duration::ZERO, 0);
        while elapsed < Duration::from_hours(1) {
            elapsed += interval(elapsed);
            writes += 1;
        }
        assert!((100..150).contains(&writes), "{writes}");
        assert_eq!(interval(Duration::ZERO), LEAST);
    }

    #[test]
    fn a_progress_is_a_step_and_its_bytes() {
        let at = |bytes| text(&Progress { step: "restoring the archive".to_owned(), bytes });
        assert_eq!(at(0), "restoring the archive");
        assert_eq!(at(3 << 29), "restoring the archive, 1.5 GiB");
    }
}
