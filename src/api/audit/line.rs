//! Format of an audit line. Whatever a caller sends, it is one line, one JSON object, and harmless in a terminal.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::fields::text;
use crate::caller::Who;
use domain::text::is_unsafe;

/// Organizations and alternative names that are written at most.
const NAMES: usize = 16;

/// Content of an audit line.
pub struct Facts<'a> {
    /// When the call arrived.
    pub began: Timestamp,
    /// The replica that served it.
    pub replica: &'a str,
    pub who: &'a Who,
    /// The replica that forwarded it.
    pub via: Option<&'a str>,
    /// Full name of the method.
    pub method: &'a str,
    /// What the call acts on, such as a workspace or a cluster.
    pub object: &'a Map<String, Value>,
    /// Other recorded fields of the request.
    pub arguments: &'a Map<String, Value>,
    /// Why it was denied; `None` if it was allowed.
    pub denied: Option<&'a str>,
    /// The status code, as gRPC names it: `OK`, `INVALID_ARGUMENT`.
    pub outcome: &'a str,
    /// From arrival to end.
    pub took: Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    audit: &'static str,
    time: String,
    replica: &'a str,
    identity: Identity,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<&'a str>,
    method: &'a str,
    object: &'a Map<String, Value>,
    arguments: &'a Map<String, Value>,
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    outcome: &'a str,
    duration_ms: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    /// `certificate`, `local` or `anonymous`.
    kind: &'static str,
    name: Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    organizations: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alternative_names: Vec<Value>,
}

/// The line, without line break.
pub fn line(facts: &Facts<'_>) -> String {
    let line = Line {
        audit: "call",
        time: format!("{:.3}", facts.began),
        replica: facts.replica,
        identity: identity(facts.who),
        peer: facts.who.peer.map(|peer| peer.to_string()),
        via: facts.via,
        method: facts.method,
        object: facts.object,
        arguments: facts.arguments,
        decision: if facts.denied.is_some() { "denied" } else { "allowed" },
        reason: facts.denied,
        outcome: facts.outcome,
        duration_ms: u64::try_from(facts.took.as_millis()).unwrap_or(u64::MAX),
    };
    escaped(&serde_json::to_string(&line).unwrap_or_else(|_| r#"{"audit":"unwritable"}"#.to_owned()))
}

fn identity(who: &Who) -> Identity {
    let certificate = who.certificate.as_ref();
    let short = |names: &[String]| names.iter().take(NAMES).map(|name| text(name.as_bytes())).collect();
    Identity {
        kind: match certificate {
            Some(_) => "certificate",
            None if who.is_local => "local",
            None => "anonymous",
        },
        name: text(who.name().as_bytes()),
        organizations: certificate.map(|identity| short(&identity.organizations)).unwrap_or_default(),
        alternative_names: certificate.map(|identity| short(&identity.names)).unwrap_or_default(),
    }
}

/// JSON escapes ASCII control characters. This escapes those of Unicode too, and characters that reorder or break
/// displayed text. They occur only inside strings.
fn escaped(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unsafe(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use runtime::tls::PeerIdentity;

    fn of(name: &str, id: &str) -> String {
        let identity = PeerIdentity { common_name: name.to_owned(), ..PeerIdentity::default() };
        let who =
            Who { certificate: Some(identity), peer: Some("10.0.0.7:9".parse().unwrap()), ..Who::default() };
        let object = Map::from_iter([("workspace".to_owned(), Value::from(id))]);
        line(&Facts {
            began: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            replica: "manager-0",
            who: &who,
            via: Some("manager-1"),
            method: "/wsman.WorkspaceManager/StopWorkspace",
            object: &object,
            arguments: &Map::new(),
            denied: Some("needs the role admin"),
            outcome: "PERMISSION_DENIED",
            took: Duration::from_micros(1500),
        })
    }

    #[test]
    fn a_line_has_all_that_an_auditor_asks_for() {
        assert_eq!(
            of("Žofie", "ws"),
            concat!(
                r#"{"audit":"call","time":"2026-01-02T03:04:05.678Z","replica":"manager-0","#,
                r#""identity":{"kind":"certificate","name":"Žofie"},"peer":"10.0.0.7:9","via":"manager-1","#,
                r#""method":"/wsman.WorkspaceManager/StopWorkspace","object":{"workspace":"ws"},"arguments":{},"#,
                r#""decision":"denied","reason":"needs the role admin","outcome":"PERMISSION_DENIED","durationMs":1}"#
            )
        );
    }

    proptest! {
        #[test]
        fn whatever_a_caller_writes_is_one_line_and_one_object(name in any::<String>(), id in ".*") {
            let hostile = format!("{name}\r\n{{\"audit\":\"call\"}}\u{85}\u{2028}\u{202e}\u{1b}[2J\u{e0041}");
            let line = of(&hostile, &id);
            prop_assert!(!line.chars().any(char::is_control), "{line:?}");
            let hidden = ['\u{2028}', '\u{202e}', '\u{e0041}'];
            prop_assert!(!line.contains(hidden));
            let read: Value = serde_json::from_str(&line).unwrap();
            let workspace = read["object"]["workspace"].as_str();
            prop_assert_eq!(workspace, Some(id.as_str()));
            let kept: String = hostile.chars().take(250).collect();
            let shown = read["identity"]["name"].as_str().unwrap();
            prop_assert!(shown.starts_with(&kept));
        }
    }
}
