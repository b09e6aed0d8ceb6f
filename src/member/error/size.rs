//! Recognizes the responses of apiservers, of their storage and of proxies that say that an object is too large.
//!
//! They are definite: nothing was stored, and the same object is rejected again.

use kube::core::Status;

use crate::texts;

/// Causes of a 422 that are about a length.
const CAUSES: [&str; 2] = ["FieldValueTooLong", "FieldValueTooMany"];

/// The limit that an object exceeds, if the response says that it is too large.
pub(crate) fn exceeded(status: &Status) -> Option<String> {
    if status.code == 413 || status.reason == "RequestEntityTooLarge" {
        return Some("the size of a request to the apiserver".to_owned());
    }
    if status.code == 422 {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let mut too_long = causes.filter(|cause| CAUSES.contains(&cause.reason.as_str()));
        return too_long.next().map(|cause| {
            let field = super::rule::path(&cause.field).unwrap_or_else(|| "a field".to_owned());
            format!("the length of {field}")
        });
    }
    let stored = status.code >= 500 && texts::is_too_large(&status.message);
    stored.then(|| "the size of an object in the cluster's storage".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn exceeds(status: Value) -> Option<String> {
        exceeded(&serde_json::from_value(status).unwrap())
    }

    #[test]
    fn every_form_of_too_large_is_known() {
        for message in [
            "etcdserver: request is too large",
            "Internal error occurred: etcdserver: request is too large",
            "rpc error: code = Unknown desc = etcdserver: request is too large",
            "rpc error: code = ResourceExhausted desc = trying to send message larger than max (2179231 vs. 2097152)",
            "grpc: trying to send message larger than max (9497431 vs. 2097152)",
            "rpc error: code = ResourceExhausted desc = grpc: received message larger than max (2097200 vs. 2097152)",
        ] {
            assert!(exceeds(json!({ "code": 500, "message": message })).is_some(), "{message}");
        }
        let body = "Request entity too large: limit is 3145728";
        for status in [
            json!({ "code": 413, "reason": "RequestEntityTooLarge", "message": body }),
            // As a proxy before the apiserver answers.
            json!({ "code": 413, "message": "<html>413 Request Entity Too Large</html>" }),
        ] {
            assert!(exceeds(status.clone()).is_some(), "{status}");
        }
        let causes = json!([{ "reason": "FieldValueTooLong", "field": "metadata.annotations[a]" }]);
        let invalid = json!({ "code": 422, "reason": "Invalid", "details": { "causes": causes } });
        assert_eq!(exceeds(invalid).as_deref(), Some("the length of metadata.annotations[*]"));
    }

    #[test]
    fn a_refusal_that_only_quotes_such_a_text_is_another_one() {
        let quoted = r#"admission webhook "x" denied the request: etcdserver: request is too large"#;
        for status in [
            json!({ "code": 500, "message": quoted }),
            json!({ "code": 500, "message": "etcdserver: request timed out" }),
            json!({ "code": 403, "message": "etcdserver: request is too large" }),
            json!({ "code": 422, "message": "Too long", "details": { "causes": [{ "reason": "FieldValueInvalid" }] } }),
        ] {
            assert_eq!(exceeds(status.clone()), None, "{status}");
        }
    }
}
