//! Reads fenced writes out of an apiserver's audit log.

use jiff::Timestamp;
use serde_json::Value;

use super::history::Write;

/// Extra in which a write shows its epoch.
const EXTRA: &str = "spaceport.dev/epoch";
/// The object that holds the epoch a namespace is fenced at.
const FENCE: &str = "spaceport-fence";

/// The writes under an epoch to one namespace, of the lines of a log. Lines that are no whole event are left out: the last
/// one may be under way.
pub fn writes(log: &str, namespaces: &[&str]) -> Vec<Write> {
    // A shared cluster logs much that is none of ours, and reading it all as JSON takes long.
    let ours = |line: &&str| namespaces.iter().any(|namespace| line.contains(namespace));
    log.lines().filter(ours).filter_map(|line| write(&serde_json::from_str(line).ok()?, namespaces)).collect()
}

fn write(event: &Value, namespaces: &[&str]) -> Option<Write> {
    let verb = event["verb"].as_str()?;
    if event["stage"] != "ResponseComplete" || matches!(verb, "get" | "list" | "watch") {
        return None;
    }
    let namespace = event["objectRef"]["namespace"].as_str()?;
    if !namespaces.contains(&namespace) {
        return None;
    }
    let shown = &event["impersonatedUser"]["extra"][EXTRA][0];
    let object = &event["objectRef"];
    let name = object["name"].as_str().unwrap_or_default();
    let resource = object["resource"].as_str()?;
    let code = event["responseStatus"]["code"].as_u64()?;
    Some(Write {
        received: millis(&event["requestReceivedTimestamp"])?,
        answered: millis(&event["stageTimestamp"])?,
        namespace: namespace.to_owned(),
        what: format!("{verb} {resource}/{name}"),
        epoch: epoch(shown.as_str()?)?,
        accepted: (200..300).contains(&code),
        probe: name == FENCE || event["requestURI"].as_str()?.contains("dryRun=All"),
    })
}

/// Incarnation and revision of `<installation>/<incarnation>/<revision>`.
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

    fn event(uri: &str, name: &str, code: u16) -> String {
        serde_json::json!({
            "stage": "ResponseComplete", "verb": "create", "requestURI": uri,
            "objectRef": { "resource": "workspaces", "namespace": "ws", "name": name },
            "impersonatedUser": { "username": "spaceport", "extra": { EXTRA: ["some-id/1/42"] } },
            "responseStatus": { "code": code },
            "requestReceivedTimestamp": "2026-11-24T08:00:00.100000Z",
            "stageTimestamp": "2026-11-24T08:00:00.250000Z",
        })
        .to_string()
    }

    #[test]
    fn a_log_becomes_the_writes_under_an_epoch() {
        let log = [
            event("/apis/x", "w1", 201),
            event("/apis/x", "w2", 403),
            event("/apis/x?dryRun=All", "w3", 201),
            event("/api/v1", FENCE, 200),
            r#"{"stage":"ResponseComplete","verb":"list"}"#.to_owned(),
            r#"{"stage":"Respon"#.to_owned(),
        ];
        let writes = writes(&log.join("\n"), &["ws"]);
        let told: Vec<_> = writes.iter().map(|write| (write.accepted, write.probe, write.epoch)).collect();
        assert_eq!(
            told,
            [(true, false, (1, 42)), (false, false, (1, 42)), (true, true, (1, 42)), (true, true, (1, 42)),]
        );
        assert_eq!(writes[0].answered - writes[0].received, 150);
        assert_eq!(writes[0].what, "create workspaces/w1");
        assert!(super::writes(&log[0], &["other"]).is_empty());
    }
}
