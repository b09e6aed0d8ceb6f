//! Health of a cluster: a state machine over answered and missed probes.
//!
//! Suspect stops new placements; Lost shows workspaces as unreachable. Neither ever stops or moves a workspace.
//! Recovery needs a clean time that doubles with each flap, so that a flapping cluster is not placed on.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Flaps older than this no longer lengthen the hold-down.
const FLAP_WINDOW: Duration = Duration::from_hours(1);

/// Health as placement and clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Health {
    /// No probe was answered yet.
    Connecting,
    /// Answers; gets placements.
    Available,
    /// Missed several probes in a row, or has answered again for too short a time; gets no placements.
    Suspect,
    /// Has not answered for long; its workspaces are shown as unreachable.
    Lost,
}

/// When the state changes. All durations are configurable (`federation.health`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Misses in a row until Suspect.
    pub suspect_after: u32,
    /// Silence until Lost.
    pub lost_after: Duration,
    /// Clean time until Available again, for the first flap.
    pub recover_after: Duration,
    /// Upper bound of the required clean time.
    pub hold_down_max: Duration,
}

/// One cluster's health. Times are readings of one monotonic clock, given by the caller.
#[derive(Debug, Clone)]
pub struct HealthState {
    health: Health,
    since: Duration,
    last_answer: Option<Duration>,
    started: Duration,
    misses: u32,
    clean_since: Option<Duration>,
    flaps: VecDeque<Duration>,
}

impl HealthState {
    /// Health of a cluster that is probed from `now` on.
    pub fn new(now: Duration) -> Self {
        Self {
            health: Health::Connecting,
            since: now,
            last_answer: None,
            started: now,
            misses: 0,
            clean_since: None,
            flaps: VecDeque::new(),
        }
    }

    /// Current health.
    pub fn health(&self) -> Health {
        self.health
    }

    /// When the state began.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// When the cluster last answered.
    pub fn last_answer(&self) -> Option<Duration> {
        self.last_answer
    }

    /// Adds an answered probe; returns the new health if it changed.
    pub fn answered(&mut self, now: Duration, limits: &Limits) -> Option<Health> {
        self.last_answer = Some(now);
        self.misses = 0;
        let clean = now.saturating_sub(*self.clean_since.get_or_insert(now));
        let trusted = clean >= self.hold_down(now, limits);
        match self.health {
            Health::Connecting => Some(self.enter(Health::Available, now)),
            Health::Suspect | Health::Lost if trusted => Some(self.enter(Health::Available, now)),
            // Answers again, but not for long enough to get new workspaces.
            Health::Lost => Some(self.enter(Health::Suspect, now)),
            Health::Available | Health::Suspect => None,
        }
    }

    /// Adds a missed probe; returns the new health if it changed.
    pub fn missed(&mut self, now: Duration, limits: &Limits) -> Option<Health> {
        self.misses = self.misses.saturating_add(1);
        self.clean_since = None;
        let silent = now.saturating_sub(self.last_answer.unwrap_or(self.started));
        match self.health {
            Health::Available if self.misses >= limits.suspect_after => {
                self.flaps.push_back(now);
                Some(self.enter(Health::Suspect, now))
            }
            Health::Connecting | Health::Suspect if silent >= limits.lost_after => {
                Some(self.enter(Health::Lost, now))
            }
            _ => None,
        }
    }

    fn enter(&mut self, health: Health, now: Duration) -> Health {
        self.health = health;
        self.since = now;
        health
    }

    /// Required clean time: doubled for each flap within the window after the first.
    fn hold_down(&mut self, now: Duration, limits: &Limits) -> Duration {
        while self.flaps.front().is_some_and(|at| now.saturating_sub(*at) > FLAP_WINDOW) {
            self.flaps.pop_front();
        }
        // More doublings exceed any maximum.
        let doublings = u32::try_from(self.flaps.len()).unwrap_or(u32::MAX).saturating_sub(1).min(20);
        limits.recover_after.saturating_mul(1 << doublings).min(limits.hold_down_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        suspect_after: 3,
        lost_after: Duration::from_secs(40),
        recover_after: Duration::from_secs(30),
        hold_down_max: Duration::from_mins(10),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn available() -> HealthState {
        let mut state = HealthState::new(at(0));
        assert_eq!(state.answered(at(1), &LIMITS), Some(Health::Available));
        state
    }

    fn fall(state: &mut HealthState, from: u64) {
        for second in from..from + 3 {
            state.missed(at(second), &LIMITS);
        }
        assert_eq!(state.health(), Health::Suspect);
    }

    #[test]
    fn three_misses_in_a_row_make_a_cluster_suspect_and_one_answer_between_does_not() {
        let mut state = available();
        state.missed(at(2), &LIMITS);
        state.missed(at(3), &LIMITS);
        state.answered(at(4), &LIMITS);
        state.missed(at(5), &LIMITS);
        state.missed(at(6), &LIMITS);
        assert_eq!(state.health(), Health::Available);
        assert_eq!(state.missed(at(7), &LIMITS), Some(Health::Suspect));
    }

    #[test]
    fn silence_makes_a_suspect_cluster_lost_and_an_answer_makes_it_suspect_again() {
        let mut state = available();
        fall(&mut state, 2);
        assert_eq!(state.missed(at(40), &LIMITS), None);
        assert_eq!(state.missed(at(41), &LIMITS), Some(Health::Lost));
        assert_eq!(state.answered(at(50), &LIMITS), Some(Health::Suspect));
        assert_eq!(state.answered(at(79), &LIMITS), None);
        assert_eq!(state.answered(at(80), &LIMITS), Some(Health::Available));
    }

    #[test]
    fn the_hold_down_doubles_with_each_flap_within_an_hour() {
        let mut state = available();
        fall(&mut state, 10);
        state.answered(at(20), &LIMITS);
        assert_eq!(state.answered(at(50), &LIMITS), Some(Health::Available));
        fall(&mut state, 60);
        state.answered(at(70), &LIMITS);
        assert_eq!(state.answered(at(129), &LIMITS), None);
        assert_eq!(state.answered(at(130), &LIMITS), Some(Health::Available));
        fall(&mut state, 4000);
        state.answered(at(4010), &LIMITS);
        assert_eq!(state.answered(at(4040), &LIMITS), Some(Health::Available), "old flaps are forgotten");
    }

    #[test]
    fn a_cluster_that_never_answered_is_lost_after_the_same_time() {
        let mut state = HealthState::new(at(0));
        assert_eq!(state.missed(at(39), &LIMITS), None);
        assert_eq!(state.missed(at(40), &LIMITS), Some(Health::Lost));
    }
}
