//! Records from a stream when objects started to run and when they were gone.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// Timeout of a whole burst.
const PATIENCE: Duration = Duration::from_mins(5);

/// A moment of an object.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// It runs.
    Running,
    /// It is gone.
    Gone,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    running: Option<Instant>,
    gone: Option<Instant>,
}

impl Seen {
    fn at(&mut self, moment: Moment) -> &mut Option<Instant> {
        match moment {
            Moment::Running => &mut self.running,
            Moment::Gone => &mut self.gone,
        }
    }
}

/// The first time of each moment of each object.
pub struct Tracker {
    seen: Mutex<HashMap<String, Seen>>,
    changed: watch::Sender<u64>,
}

impl Tracker {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { seen: Mutex::default(), changed: watch::Sender::new(0) })
    }

    /// Records that a moment is reached now.
    pub fn note(&self, name: &str, moment: Moment) {
        let now = Instant::now();
        if let Some(seen) = self.seen.lock().get_mut(name) {
            seen.at(moment).get_or_insert(now);
        } else {
            let mut seen = Seen::default();
            *seen.at(moment) = Some(now);
            self.seen.lock().insert(name.to_owned(), seen);
        }
        self.changed.send_modify(|count| *count += 1);
    }

    fn when(&self, name: &str, moment: Moment) -> Option<Instant> {
        self.seen.lock().get_mut(name).and_then(|seen| *seen.at(moment))
    }

    /// Waits until all objects have reached a moment; returns the times in order.
    pub async fn wait(&self, names: &[String], moment: Moment) -> Result<Vec<Instant>> {
        let mut times = Vec::with_capacity(names.len());
        let mut changes = self.changed.subscribe();
        let waiting = async {
            for name in names {
                loop {
                    changes.mark_unchanged();
                    if let Some(time) = self.when(name, moment) {
                        times.push(time);
                        break;
                    }
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
            }
        };
        let outcome = timeout(PATIENCE, waiting).await;
        if outcome.is_err() || times.len() < names.len() {
            bail!("{} of {} are {moment:?} after {PATIENCE:?}", times.len(), names.len());
        }
        Ok(times)
    }
}
