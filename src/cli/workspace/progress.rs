//! Renders the phases of a workspace during a wait. Pure: statuses and elapsed time in, text out.

use std::fmt::Write;
use std::time::Duration;

use crate::table::clean;
use crate::view::phase_name;
use proto::wsman::WorkspaceStatus;

/// Longest line that can be redrawn; a wrapped line cannot.
const WIDTH: usize = 79;

/// Prints a line for each phase, cluster and reason; on a terminal one line per phase, redrawn with time and reason
/// until the phase ends.
#[derive(Debug)]
pub struct Progress {
    redraws: bool,
    name: String,
    line: Option<Line>,
}

#[derive(Debug, PartialEq, Eq)]
struct Line {
    phase: i32,
    since: Duration,
    cluster: String,
    message: String,
}

impl Progress {
    /// For one workspace; `name` prefixes every line unless it is empty.
    pub fn new(redraws: bool, name: &str) -> Self {
        Self { redraws, name: name.to_owned(), line: None }
    }

    /// Renders a status that arrived `elapsed` after the wait began.
    pub fn update(&mut self, status: &WorkspaceStatus, elapsed: Duration) -> String {
        let mut text = String::new();
        let same_phase = self.line.as_ref().filter(|line| line.phase == status.phase);
        let since = same_phase.map_or(elapsed, |line| line.since);
        if same_phase.is_none() {
            text += &self.close(elapsed);
        }
        let line = Line {
            phase: status.phase,
            since,
            cluster: status.cluster.clone(),
            message: clean(&status.message),
        };
        if !self.redraws && self.line.as_ref() != Some(&line) {
            let _ = writeln!(text, "{}", self.text_of(&line, elapsed));
        }
        self.line = Some(line);
        text + &self.tick(elapsed)
    }

    /// Redraws with the elapsed time.
    pub fn tick(&self, elapsed: Duration) -> String {
        match &self.line {
            Some(line) if self.redraws => format!("\r\u{1b}[2K{}", shorten(&self.text_of(line, elapsed))),
            _ => String::new(),
        }
    }

    /// Prints another line.
    pub fn note(&self, text: &str, elapsed: Duration) -> String {
        let clear = if self.redraws && self.line.is_some() { "\r\u{1b}[2K" } else { "" };
        format!("{clear}{}  {}\n{}", seconds(elapsed), clean(text), self.tick(elapsed))
    }

    /// Ends the line that is being redrawn.
    pub fn close(&self, elapsed: Duration) -> String {
        match self.tick(elapsed) {
            text if text.is_empty() => text,
            text => text + "\n",
        }
    }

    /// A terminal shows how long the phase has lasted, a log when it began.
    fn text_of(&self, line: &Line, elapsed: Duration) -> String {
        let time = if self.redraws { elapsed.saturating_sub(line.since) } else { elapsed };
        let mut text = format!("{}  ", seconds(time));
        if !self.name.is_empty() {
            let _ = write!(text, "{}  ", self.name);
        }
        let _ = write!(text, "{:12}  {}  {}", phase_name(line.phase), line.cluster, line.message);
        text.trim_end().to_owned()
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:7.1}s", duration.as_secs_f64())
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    text.chars().take(WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::wsman::WorkspacePhase;

    fn status(phase: WorkspacePhase, message: &str) -> WorkspaceStatus {
        WorkspaceStatus {
            phase: phase.into(),
            cluster: "eu".to_owned(),
            message: message.to_owned(),
            ..Default::default()
        }
    }

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_log_has_a_line_for_each_phase_and_each_changed_reason() {
        let mut progress = Progress::new(false, "");
        let mut shown = progress.update(&status(WorkspacePhase::Pending, ""), at(100));
        shown += &progress.update(&status(WorkspacePhase::Creating, "pulling"), at(1200));
        shown += &progress.update(&status(WorkspacePhase::Creating, "pulled"), at(1300));
        shown += &progress.update(&status(WorkspacePhase::Creating, "pulled"), at(1350));
        shown += &progress.tick(at(1400));
        shown += &progress.update(&status(WorkspacePhase::Running, ""), at(12_000));
        shown += &progress.close(at(12_100));
        let expected = "    0.1s  PENDING       eu\n    1.2s  CREATING      eu  pulling\n    \
                        1.3s  CREATING      eu  pulled\n   12.0s  RUNNING       eu\n";
        assert_eq!(shown, expected);
        assert!(!shown.contains('\u{1b}') && !shown.contains('\r'));
    }

    #[test]
    fn a_terminal_draws_the_phases_line_again_until_it_is_over() {
        let mut progress = Progress::new(true, "");
        assert_eq!(progress.tick(at(50)), "");
        let first = progress.update(&status(WorkspacePhase::Creating, "pulling"), at(1000));
        assert_eq!(first, "\r\u{1b}[2K    0.0s  CREATING      eu  pulling");
        let next = progress.update(&status(WorkspacePhase::Running, ""), at(3500));
        let expected =
            "\r\u{1b}[2K    2.5s  CREATING      eu  pulling\n\r\u{1b}[2K    0.0s  RUNNING       eu";
        assert_eq!(next, expected);
        assert_eq!(progress.close(at(3600)), "\r\u{1b}[2K    0.1s  RUNNING       eu\n");
    }

    #[test]
    fn a_drawn_line_never_wraps_and_never_moves_the_cursor() {
        let mut progress = Progress::new(true, "");
        let shown = progress.update(&status(WorkspacePhase::Creating, &"x\u{1b}[A".repeat(100)), at(0));
        let drawn = shown.trim_start_matches("\r\u{1b}[2K");
        assert_eq!(drawn.chars().count(), WIDTH);
        assert!(!drawn.contains('\u{1b}'));
    }
}
