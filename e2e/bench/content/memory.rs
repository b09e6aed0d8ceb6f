//! Peak memory of processes, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Between samples: a helper lives longer.
const PACE: Duration = Duration::from_millis(20);

/// Peak memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    pub mebibytes: f64,
}

/// Watches processes.
pub struct Watch {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
    own: Option<Own>,
}

/// A process whose own memory counts over what it had when idle.
struct Own {
    pid: u32,
    idle: u64,
}

impl Watch {
    /// Of a process that runs one step.
    pub fn of(pid: u32) -> Self {
        Self::of_all(move || descendants(pid).into_iter().chain([pid]).collect())
    }

    fn of_all(pids: impl Fn() -> Vec<u32> + Send + 'static) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut peak = 0;
            while !seen.load(Ordering::Relaxed) {
                peak = peak.max(pids().into_iter().filter_map(|pid| kibibytes(pid, "VmHWM:")).sum());
                thread::sleep(PACE);
            }
            peak
        });
        Self { ends, thread, own: None }
    }

    /// Of a process that runs many steps: its own memory over what it has now, and that of its descendants.
    pub fn over_idle(pid: u32) -> Result<Self> {
        // Peak memory begins again from here.
        fs::write(format!("/proc/{pid}/clear_refs"), "5").context("cannot reset the peak of memory")?;
        let idle = kibibytes(pid, "VmRSS:").context("no memory of the agent")?;
        Ok(Self { own: Some(Own { pid, idle }), ..Self::of_all(move || descendants(pid)) })
    }

    /// The peak.
    pub fn end(self) -> Result<Used> {
        self.ends.store(true, Ordering::Relaxed);
        let of_others = self.thread.join().ok().context("the watch of memory panicked")?;
        let own = self.own.and_then(|own| Some(kibibytes(own.pid, "VmHWM:")?.saturating_sub(own.idle)));
        let all = u32::try_from(of_others + own.unwrap_or_default()).unwrap_or(u32::MAX);
        Ok(Used { mebibytes: f64::from(all) / 1024.0 })
    }
}

/// Processes below one.
fn descendants(root: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: BTreeMap<u32, u32> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let is_below = |mut pid: u32| {
        // A process that ended between the reads cannot make a circle longer than this.
        for _ in 0..32 {
            match parents.get(&pid) {
                Some(parent) if *parent == root => return true,
                Some(parent) => pid = *parent,
                None => return false,
            }
        }
        false
    };
    parents.keys().copied().filter(|pid| is_below(*pid)).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may contain anything.
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

fn kibibytes(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}
