//! Usage of processes and apiservers, from `/proc` and audit logs.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader, Seek as _, SeekFrom},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tokio::time::Instant;

use e2e::harness::cluster::USER_AGENT;

/// Unit of `/proc/<pid>/stat`, fixed by Linux for programs.
const TICKS_A_SECOND: f64 = 100.0;

/// Sender, and `verb resource/subresource`.
pub type Call = (String, String);

/// Processes and audit logs at the start of a measurement.
pub struct Meter {
    begun: Instant,
    cpu: BTreeMap<String, f64>,
    logs: Vec<(PathBuf, u64)>,
}

/// Usage since the start.
pub struct Spent {
    /// Seconds since the beginning.
    pub seconds: f64,
    /// CPU seconds by program, over all clusters.
    pub cpu: BTreeMap<String, f64>,
    /// Resident MiB by program at the end, over all clusters.
    pub memory: BTreeMap<String, f64>,
    /// Calls that the apiservers answered, except watches.
    pub calls: BTreeMap<Call, f64>,
}

impl Spent {
    /// Calls of a sender.
    pub fn calls_of(&self, sender: &str) -> f64 {
        // The sum of no floats is -0.
        0.0 + self.calls.iter().filter(|((who, _), _)| who == sender).map(|(_, count)| count).sum::<f64>()
    }

    /// CPU milliseconds of all programs for each of `count`.
    pub fn cpu_each(&self, count: f64) -> f64 {
        self.cpu.values().sum::<f64>() * 1000.0 / count
    }

    /// Writes of the manager, without those of its canary, a Lease that each leader renews independently of workspaces.
    pub fn writes(&self) -> f64 {
        self.of_manager(|what| !is_read(what) && !what.ends_with(" leases"))
    }

    /// Reads of the manager.
    pub fn reads(&self) -> f64 {
        self.of_manager(is_read)
    }

    fn of_manager(&self, counts: impl Fn(&str) -> bool) -> f64 {
        let of = self.calls.iter().filter(|((who, what), _)| who == "manager" && counts(what));
        0.0 + of.map(|(_, count)| count).sum::<f64>()
    }
}

fn is_read(what: &str) -> bool {
    ["get ", "list "].iter().any(|verb| what.starts_with(verb))
}

impl Meter {
    /// `processes` are programs by name; a name repeats if there are several clusters.
    pub fn begin(processes: &[(String, u32)], logs: Vec<PathBuf>) -> Result<Self> {
        let logs = logs.into_iter().map(|log| {
            let length = fs::metadata(&log).map_or(0, |meta| meta.len());
            (log, length)
        });
        Ok(Self { begun: Instant::now(), cpu: sum(processes, cpu_seconds)?, logs: logs.collect() })
    }

    /// Usage of the same processes, without audited requests on objects whose name begins with `but`.
    pub fn end(&self, processes: &[(String, u32)], but: Option<&str>) -> Result<Spent> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let mut cpu = sum(processes, cpu_seconds)?;
        for (name, used) in &mut cpu {
            *used -= self.cpu.get(name).copied().unwrap_or_default();
        }
        let mut calls = BTreeMap::new();
        for (log, from) in &self.logs {
            count(log, *from, but, &mut calls).with_context(|| format!("cannot read {}", log.display()))?;
        }
        Ok(Spent { seconds, cpu, memory: sum(processes, resident_mib)?, calls })
    }
}

fn sum(processes: &[(String, u32)], of: impl Fn(u32) -> Result<f64>) -> Result<BTreeMap<String, f64>> {
    let mut all = BTreeMap::new();
    for (name, pid) in processes {
        *all.entry(name.clone()).or_default() += of(*pid).with_context(|| name.clone())?;
    }
    Ok(all)
}

/// CPU seconds of a process so far.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The second field is the program's name in brackets and may hold spaces.
    let (_, fields) = stat.rsplit_once(')').context("an unexpected stat file")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("a short stat file")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / TICKS_A_SECOND)
}

/// Resident MiB of a process now.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Audited {
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<Object>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    name: String,
}

fn count(log: &PathBuf, from: u64, but: Option<&str>, calls: &mut BTreeMap<Call, f64>) -> Result<()> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(from))?;
    for line in BufReader::new(file).lines() {
        // The last line may be incomplete.
        let Ok(audited) = serde_json::from_str::<Audited>(&line?) else { continue };
        let Some(object) = &audited.object_ref else { continue };
        let left_out = but.is_some_and(|but| object.name.contains(but));
        if audited.verb == "watch" || left_out {
            continue;
        }
        let mut what = format!("{} {}", audited.verb, object.resource);
        if !object.subresource.is_empty() {
            what = format!("{what}/{}", object.subresource);
        }
        *calls.entry((sender(&audited), what)).or_default() += 1.0;
    }
    Ok(())
}

/// With the fence, the login identifies managers. Without, they log in as the administrator like all others, but send
/// no user agent.
fn sender(audited: &Audited) -> String {
    let program = audited.user_agent.split('/').next().unwrap_or_default();
    if audited.user.username.contains("spaceport") || program.is_empty() {
        "manager".to_owned()
    } else if program == USER_AGENT {
        "bench and stand-in".to_owned()
    } else {
        program.trim_start_matches("kube-").to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_identified_by_login_user_agent_verb_and_resource() {
        let line = |user: &str, agent: &str, verb: &str, name: &str| {
            serde_json::json!({
                "verb": verb, "user": { "username": user }, "userAgent": agent,
                "objectRef": { "resource": "pods", "subresource": "status", "name": name },
            })
        };
        let fenced = "system:serviceaccount:spaceport-system:spaceport";
        let lines = [
            line(fenced, "", "patch", "a"),
            line("admin", "", "patch", "b"),
            line("admin", "kube-scheduler/v1 (linux)", "patch", "a"),
            line("admin", USER_AGENT, "patch", "a"),
            line("admin", "", "watch", "a"),
            line("admin", "", "patch", "left-out-1"),
        ];
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("{}\n{{\"half\":", lines.map(|line| line.to_string()).join("\n")))
            .unwrap();
        let mut calls = BTreeMap::new();
        count(&file.path().to_path_buf(), 0, Some("left-out"), &mut calls).unwrap();
        let of = |sender: &str| calls.get(&(sender.to_owned(), "patch pods/status".to_owned())).copied();
        assert_eq!(of("manager"), Some(2.0));
        assert_eq!(of("scheduler"), Some(1.0));
        assert_eq!(of("bench and stand-in"), Some(1.0));
        assert_eq!(calls.len(), 3);
    }
}
