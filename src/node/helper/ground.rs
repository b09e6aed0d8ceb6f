//! What the parts of the helper share: its subcommand, the folder of the workspace, and the pace of progress.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::time::Instant;

use super::protocol::{Event, Progress, emit, one_line};
use super::root::WORKSPACE;

/// Hidden subcommand of the program.
pub(super) const SUBCOMMAND: &str = "content-helper";
/// Between two events of progress.
const PACE: Duration = Duration::from_millis(500);

/// The folder of the workspace.
pub(super) fn workspace() -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    Ok(rustix::fs::open(WORKSPACE, flags, Mode::empty())?)
}

/// Reports progress, at most twice a second for one step.
#[derive(Default)]
pub(super) struct Paced {
    step: String,
    last: Option<Instant>,
}

impl Paced {
    pub(super) fn report(&mut self, step: &str, bytes: u64) {
        let is_early = self.last.is_some_and(|last| last.elapsed() < PACE);
        if is_early && self.step == step {
            return;
        }
        step.clone_into(&mut self.step);
        self.last = Some(Instant::now());
        // Without the agent the process is about to end.
        let _ = emit(&Event::Progress { progress: Progress { step: one_line(step), bytes } });
    }
}
