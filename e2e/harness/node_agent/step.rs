//! Which step is due for an object, and how its status reports that it is done. Pure.

use std::time::Duration;

use jiff::Timestamp;
use kube::{ResourceExt as _, api::DynamicObject};
use serde_json::{Map, Value, json};

use super::{super::annotations, Pace};

/// One step of a node agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Initialize a workspace's content.
    Initialize,
    /// Wipe the content of a workspace whose pod was rejected.
    Wipe,
    /// Back up a stopped workspace.
    Backup,
    /// Take a snapshot (a Snapshot object).
    Snapshot,
}

/// What a test requests by annotations on the object.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    outcome: Option<String>,
    delay: Option<Duration>,
    step: Option<Step>,
}

impl Ask {
    pub fn of(object: &DynamicObject, step: Step) -> Self {
        let (outcome, delay) = match step {
            Step::Initialize => (annotations::INIT, annotations::INIT_DELAY_MS),
            Step::Wipe | Step::Backup | Step::Snapshot => (annotations::BACKUP, annotations::BACKUP_DELAY_MS),
        };
        let get = |name: &str| object.annotations().get(name);
        let delay = get(delay).and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
        Self { outcome: get(outcome).cloned(), delay, step: Some(step) }
    }

    pub fn hangs(&self) -> bool {
        self.outcome.as_deref() == Some("hang")
    }

    pub fn fails(&self) -> bool {
        self.outcome.as_deref() == Some("fail")
    }

    pub fn delay(&self, pace: Pace) -> Duration {
        let usual = if self.step == Some(Step::Initialize) { pace.init } else { pace.backup };
        self.delay.unwrap_or(usual)
    }
}

/// The step that a node agent would do now.
pub fn due(object: &DynamicObject) -> Option<Step> {
    if object.types.as_ref().is_some_and(|types| types.kind == "Snapshot") {
        let done = object.data.pointer("/status/completed").and_then(Value::as_bool);
        return (done != Some(true)).then_some(Step::Snapshot);
    }
    let status = object.data.get("status")?;
    status.pointer("/runtime/nodeName").and_then(Value::as_str).filter(|node| !node.is_empty())?;
    match status.get("phase").and_then(Value::as_str)? {
        "Creating" | "Initializing" => {
            condition(status, "ContentReady").is_none().then_some(Step::Initialize)
        }
        "Stopping" => disposal(object, status),
        _ => None,
    }
}

fn disposal(object: &DynamicObject, status: &Value) -> Option<Step> {
    let running = condition(status, "WorkspaceContainerRunning");
    if condition(status, "PodRejected") == Some("True") {
        return (running != Some("True") && condition(status, "StateWiped").is_none()).then_some(Step::Wipe);
    }
    let decided = ["BackupComplete", "BackupFailure", "Aborted"]
        .iter()
        .any(|kind| condition(status, kind) == Some("True"));
    let wanted = condition(status, "ContentReady") == Some("True") && kind_of(object) != Some("ImageBuild");
    (running == Some("False") && wanted && !decided).then_some(Step::Backup)
}

/// Changes the status. Returns false if another write must follow.
pub fn perform(step: Step, object: &mut DynamicObject, fails: bool, now: Timestamp) -> bool {
    let regular = kind_of(object) == Some("Regular");
    let name = object.name_any();
    let url = format!("e2e://content/{name}@backup.tar");
    let Some(data) = object.data.as_object_mut() else { return true };
    let status = data.entry("status").or_insert_with(|| json!({}));
    let Some(fields) = status.as_object_mut() else { return true };
    match step {
        Step::Initialize if fails => {
            set(fields, now, "ContentReady", false, "InitializationFailure", "asked to fail");
        }
        Step::Initialize => {
            fields.insert(
                "initializerMetrics".to_owned(),
                json!({ "git": { "duration": "5ms", "size": 1024 } }),
            );
            set(fields, now, "ContentReady", true, "InitializationSuccess", "");
        }
        Step::Wipe => {
            set(fields, now, "StateWiped", !fails, "StateWiped", if fails { "asked to fail" } else { "" });
        }
        // The path of the upload is known, and reported, before the upload.
        Step::Backup if !regular && !fields.contains_key("snapshot") => {
            fields.insert("snapshot".to_owned(), json!(url));
            return false;
        }
        Step::Backup => {
            if regular {
                fields.insert("git".to_owned(), json!({ "branch": "main", "latestCommit": "0123abc" }));
            }
            let (kind, reason) =
                if fails { ("BackupFailure", "BackupFailed") } else { ("BackupComplete", "BackupComplete") };
            set(fields, now, kind, true, reason, if fails { "asked to fail" } else { "" });
        }
        Step::Snapshot if !fields.contains_key("url") => {
            fields.insert("url".to_owned(), json!(url));
            fields.insert("completed".to_owned(), json!(false));
            return false;
        }
        Step::Snapshot => {
            fields.insert("completed".to_owned(), json!(true));
            if fails {
                fields.insert("error".to_owned(), json!("asked to fail"));
            }
        }
    }
    true
}

fn kind_of(object: &DynamicObject) -> Option<&str> {
    object.data.pointer("/spec/type").and_then(Value::as_str)
}

/// The status of a condition: `True`, `False` or `Unknown`.
fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a str> {
    let list = status.get("conditions")?.as_array()?;
    list.iter().find(|c| c["type"] == kind)?.get("status")?.as_str()
}

fn set(status: &mut Map<String, Value>, now: Timestamp, kind: &str, yes: bool, reason: &str, message: &str) {
    let list = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else { return };
    list.retain(|c| c["type"] != kind);
    list.push(json!({
        "type": kind,
        "status": if yes { "True" } else { "False" },
        "reason": reason,
        "message": message,
        // Kubernetes timestamps have whole seconds.
        "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    }));
}
