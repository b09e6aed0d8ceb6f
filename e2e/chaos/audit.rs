//! Reads an apiserver's audit log: every completed write, and which of them were fenced.

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::Value;

use super::history::Write;

/// Key of the user's extra in which a write sends its epoch.
const EXTRA: &str = "spaceport.dev/epoch";
/// Name of the object that holds the fence epoch of a namespace.
const FENCE: &str = "spaceport-fence";
/// Start of each line of an apiserver.
const HEAD: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1""#;

/// A write that an apiserver answered. It took effect between the two times.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When the apiserver received it.
    pub received: u64,
    /// When it had answered.
    pub answered: u64,
    /// Such as `create`.
    pub verb: String,
    /// Plural kind, such as `workspaces`.
    pub resource: String,
    /// Namespace written to.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Whether it was carried out.
    pub accepted: bool,
    /// Whether it was a dry run.
    pub dry_run: bool,
    /// Incarnation and revision of the epoch that it sent.
    pub epoch: Option<(u64, u64)>,
    /// The response object, if the log has it.
    pub object: Value,
}

/// The writes to some namespaces, from complete lines of a log.
///
/// A killed apiserver may leave the beginning of a line, and the next one appends to it: the rest of that line counts.
/// Anything else that cannot be parsed is an error, because a missing entry would look like a write that never
/// happened.
pub fn events(lines: &str, namespaces: &[&str]) -> Result<Vec<Event>> {
    // A shared cluster logs much of other tests, and parsing all of it as JSON takes long.
    let ours = |line: &&str| namespaces.iter().any(|namespace| line.contains(namespace));
    let mut events = Vec::new();
    for line in lines.lines().filter(ours) {
        let entry = whole(line).with_context(|| format!("cannot read a line of the audit log: {line}"))?;
        events.extend(event(entry, namespaces));
    }
    Ok(events)
}

fn whole(line: &str) -> Option<Value> {
    let whole = serde_json::from_str(line).ok();
    whole.or_else(|| serde_json::from_str(line.get(line.rfind(HEAD)?..)?).ok())
}

fn event(mut entry: Value, namespaces: &[&str]) -> Option<Event> {
    let verb = entry["verb"].as_str()?.to_owned();
    if entry["stage"] != "ResponseComplete" || matches!(verb.as_str(), "get" | "list" | "watch") {
        return None;
    }
    let object = entry["responseObject"].take();
    let of = |key: &str| entry["objectRef"][key].as_str().unwrap_or_default().to_owned();
    let namespace = of("namespace");
    if !namespaces.contains(&namespace.as_str()) {
        return None;
    }
    let code = entry["responseStatus"]["code"].as_u64()?;
    Some(Event {
        received: millis(&entry["requestReceivedTimestamp"])?,
        answered: millis(&entry["stageTimestamp"])?,
        verb,
        resource: of("resource"),
        namespace,
        name: of("name"),
        accepted: (200..300).contains(&code),
        dry_run: entry["requestURI"].as_str()?.contains("dryRun=All"),
        epoch: entry["impersonatedUser"]["extra"][EXTRA][0].as_str().and_then(epoch),
        object,
    })
}

impl Event {
    /// The fenced write, if the event is one.
    pub fn write(&self) -> Option<Write> {
        Some(Write {
            received: self.received,
            answered: self.answered,
            namespace: self.namespace.clone(),
            what: format!("{} {}/{}", self.verb, self.resource, self.name),
            epoch: self.epoch?,
            accepted: self.accepted,
            probe: self.name == FENCE || self.dry_run,
        })
    }
}

/// Parses `<installation>/<incarnation>/<revision>` into incarnation and revision.
fn epoch(shown: &str) -> Option<(u64, u64)> {
    let mut parts = shown.split('/').skip(1).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn millis(time: &Value) -> Option<u64> {
    let time: Timestamp = time.as_str()?.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(uri: &str, name: &str, code: u16) -> String {
        let entry = serde_json::json!({
            "stage": "ResponseComplete", "verb": "create", "requestURI": uri,
            "objectRef": { "resource": "workspaces", "namespace": "ws", "name": name },
            "impersonatedUser": { "username": "spaceport", "extra": { EXTRA: ["some-id/1/42"] } },
            "responseStatus": { "code": code },
            "requestReceivedTimestamp": "2026-11-24T08:00:00.100000Z",
            "stageTimestamp": "2026-11-24T08:00:00.250000Z",
        });
        // In the order of an apiserver; `serde_json` sorts keys.
        entry.to_string().replacen('{', &format!("{HEAD},"), 1)
    }

    #[test]
    fn a_log_becomes_the_writes_under_an_epoch() {
        let log = [
            line("/apis/x", "w1", 201),
            line("/apis/x", "w2", 403),
            line("/apis/x?dryRun=All", "w3", 201),
            line("/api/v1", FENCE, 200),
            r#"{"stage":"ResponseComplete","verb":"list","ws":1}"#.to_owned(),
        ];
        let events = events(&log.join("\n"), &["ws"]).unwrap();
        let writes: Vec<Write> = events.iter().filter_map(Event::write).collect();
        let reported: Vec<_> =
            writes.iter().map(|write| (write.accepted, write.probe, write.epoch)).collect();
        assert_eq!(
            reported,
            [(true, false, (1, 42)), (false, false, (1, 42)), (true, true, (1, 42)), (true, true, (1, 42)),]
        );
        assert_eq!(writes[0].answered - writes[0].received, 150);
        assert_eq!(writes[0].what, "create workspaces/w1");
        assert!(super::events(&log[0], &["other"]).unwrap().is_empty());
    }

    #[test]
    fn a_line_that_a_killed_apiserver_began_does_not_hide_the_next_and_any_other_is_an_error() {
        let begun = &line("/apis/x", "w1", 201)[..90];
        let log = format!("{begun}{}", line("/apis/x", "w2", 201));
        let names: Vec<String> = events(&log, &["ws"]).unwrap().into_iter().map(|event| event.name).collect();
        assert_eq!(names, ["w2"]);
        assert!(events(r#"{"namespace":"ws","#, &["ws"]).is_err());
    }
}
