//! Follows one workspace until it reaches a goal.

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use futures::{Stream, StreamExt};
use tokio::time::Instant;

use super::progress::Progress;
use crate::subscription::{Event, Subscription};
use crate::table::clean;
use crate::terminal::Terminal;
use crate::view::phase_name;
use domain::duration::GoDuration;
use proto::wsman::{WorkspacePhase, WorkspaceStatus};

/// Interval of redrawing a line.
const REDRAW: Duration = Duration::from_millis(200);

/// Goal of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Usable; a headless one may have ended already.
    Running,
    Stopped,
}

impl Goal {
    /// What continues after the wait, and how to follow or stop it.
    pub fn goes_on(self, id: &str) -> String {
        match self {
            Self::Running => format!(
                "still starts: follow it with `spaceport workspace watch {id}`, see it with `spaceport workspace show \
                 {id}`, stop it with `spaceport workspace stop {id}`"
            ),
            Self::Stopped => format!("is still stopping: see it with `spaceport workspace show {id}`"),
        }
    }
}

/// A workspace that is being followed.
pub struct Wait {
    id: String,
    goal: Goal,
    limit: Duration,
    began: Instant,
    progress: Progress,
    events: Pin<Box<dyn Stream<Item = Result<Event>>>>,
    last: Option<Box<WorkspaceStatus>>,
    /// Why there are no more events.
    broken: Option<Error>,
}

impl Wait {
    /// Starts the clock.
    pub fn new(
        id: &str,
        goal: Goal,
        limit: Duration,
        subscription: Subscription,
        progress: Progress,
    ) -> Self {
        let events = Box::pin(subscription.into_events());
        Self {
            id: id.to_owned(),
            goal,
            limit,
            began: Instant::now(),
            progress,
            events,
            last: None,
            broken: None,
        }
    }

    /// Prints phases while `call` runs; returns its response.
    pub async fn during<T>(&mut self, call: impl Future<Output = T>, terminal: &mut Terminal<'_>) -> T {
        let mut call = std::pin::pin!(call);
        loop {
            tokio::select! {
                answer = &mut call => return answer,
                () = self.step(terminal) => {}
            }
        }
    }

    /// Prints phases until the goal is reached; returns the last status.
    pub async fn finish(mut self, terminal: &mut Terminal<'_>) -> Result<WorkspaceStatus> {
        let deadline = self.began + self.limit;
        let result = loop {
            if let Some(result) = self.last.as_deref().and_then(|status| outcome(self.goal, status)) {
                break result.map_err(Error::msg);
            }
            if let Some(error) = self.broken.take() {
                let goes_on = self.goal.goes_on(&self.id);
                break Err(error.context(format!("cannot be followed any more, and {goes_on}")));
            }
            if tokio::time::timeout_at(deadline, self.step(terminal)).await.is_err() {
                break Err(Error::msg(self.late()));
            }
        };
        terminal.progress(&self.progress.close(self.began.elapsed()));
        match (result, self.last) {
            (Ok(()), Some(status)) => Ok(*status),
            (Ok(()), None) => bail!("workspace {} was not seen", self.id),
            (Err(error), _) => Err(error).with_context(|| format!("workspace {}", self.id)),
        }
    }

    /// Handles the next event or redraw. Cancel-safe: the stream keeps its state.
    async fn step(&mut self, terminal: &mut Terminal<'_>) {
        let next = async {
            // A failed stream is not polled again.
            if self.broken.is_some() { std::future::pending().await } else { self.events.next().await }
        };
        let event = tokio::time::timeout(REDRAW, next).await;
        let elapsed = self.began.elapsed();
        let text = match event {
            Ok(Some(Ok(Event::Status(status)))) if self.is_news(&status) => {
                let text = self.progress.update(&status, elapsed);
                self.last = Some(status);
                text
            }
            Ok(Some(Ok(Event::Lost(reason)))) => {
                self.progress.note(&format!("connection lost, resuming: {reason}"), elapsed)
            }
            Ok(Some(Err(error))) => {
                self.broken = Some(error);
                String::new()
            }
            _ => self.progress.tick(elapsed),
        };
        terminal.progress(&text);
    }

    /// Describes the state at the timeout.
    fn late(&self) -> String {
        let phase = self.last.as_ref().map_or("not seen", |status| phase_name(status.phase));
        let reason = self.last.as_ref().map(|status| clean(&status.message)).filter(|text| !text.is_empty());
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let (limit, goes_on) = (GoDuration::from(self.limit), self.goal.goes_on(&self.id));
        format!("is {phase} after {limit}{reason}, and {goes_on}")
    }

    fn is_news(&self, status: &WorkspaceStatus) -> bool {
        // A resumed stream may repeat what was seen.
        status.id == self.id
            && self.last.as_ref().is_none_or(|last| last.status_version <= status.status_version)
    }
}

/// Whether the goal is reached or missed; `None` while waiting.
fn outcome(goal: Goal, status: &WorkspaceStatus) -> Option<Result<(), String>> {
    let phase = status.phase();
    if goal == Goal::Stopped {
        return (phase == WorkspacePhase::Stopped).then_some(Ok(()));
    }
    if let Some(failure) = failure_of(status) {
        return Some(Err(format!("failed: {failure}")));
    }
    let headless = status.spec.as_ref().is_some_and(|spec| spec.headless);
    match phase {
        WorkspacePhase::Running => Some(Ok(())),
        WorkspacePhase::Stopped | WorkspacePhase::Stopping if headless => {
            (phase == WorkspacePhase::Stopped).then_some(Ok(()))
        }
        WorkspacePhase::Stopped | WorkspacePhase::Stopping => {
            let reason = if status.message.is_empty() { "no reason given" } else { &status.message };
            Some(Err(format!("stopped before it ran: {}", clean(reason))))
        }
        _ => None,
    }
}

/// Why a workspace failed; `None` if it did not.
pub fn failure_of(status: &WorkspaceStatus) -> Option<String> {
    let conditions = status.conditions.as_ref()?;
    let reasons = [&conditions.failed, &conditions.headless_task_failed, &conditions.timeout];
    reasons.into_iter().find(|reason| !reason.is_empty()).map(|reason| clean(reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::wsman::{WorkspaceConditions, WorkspaceSpec};

    fn in_phase(phase: WorkspacePhase) -> WorkspaceStatus {
        WorkspaceStatus { phase: phase.into(), ..Default::default() }
    }

    #[test]
    fn a_start_is_over_when_it_runs_or_cannot_any_more() {
        assert_eq!(outcome(Goal::Running, &in_phase(WorkspacePhase::Creating)), None);
        assert_eq!(outcome(Goal::Running, &in_phase(WorkspacePhase::Interrupted)), None);
        assert_eq!(outcome(Goal::Running, &in_phase(WorkspacePhase::Running)), Some(Ok(())));
        let stopped = outcome(Goal::Running, &in_phase(WorkspacePhase::Stopped));
        assert_eq!(stopped, Some(Err("stopped before it ran: no reason given".to_owned())));
        let conditions = WorkspaceConditions { failed: "no such image".to_owned(), ..Default::default() };
        let failed = WorkspaceStatus { conditions: Some(conditions), ..in_phase(WorkspacePhase::Creating) };
        assert_eq!(outcome(Goal::Running, &failed), Some(Err("failed: no such image".to_owned())));
    }

    #[test]
    fn an_ended_headless_workspace_reached_its_goal() {
        let spec = Some(WorkspaceSpec { headless: true, ..Default::default() });
        let stopping = WorkspaceStatus { spec: spec.clone(), ..in_phase(WorkspacePhase::Stopping) };
        assert_eq!(outcome(Goal::Running, &stopping), None);
        let stopped = WorkspaceStatus { spec, ..in_phase(WorkspacePhase::Stopped) };
        assert_eq!(outcome(Goal::Running, &stopped), Some(Ok(())));
    }

    #[test]
    fn a_stop_is_over_when_it_stopped() {
        assert_eq!(outcome(Goal::Stopped, &in_phase(WorkspacePhase::Stopping)), None);
        assert_eq!(outcome(Goal::Stopped, &in_phase(WorkspacePhase::Stopped)), Some(Ok(())));
    }
}
