use kube::core::response::StatusDetails;
use proptest::prelude::*;

use super::*;
use crate::Error;

fn status(code: u16, reason: &str, message: &str, causes: &[(&str, &str, &str)]) -> Status {
    let causes = causes
        .iter()
        .map(|(field, reason, message)| StatusCause {
            field: (*field).to_owned(),
            reason: (*reason).to_owned(),
            message: (*message).to_owned(),
        })
        .collect();
    let details = StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes,
        retry_after_seconds: 0,
    };
    Status::failure(message, reason).with_code(code).with_details(details)
}

fn shown(status: Status) -> String {
    Error::from_kube(&"eu-1".parse().unwrap(), "create Pod a", kube::Error::Api(status.boxed())).to_string()
}

fn rule_of(code: u16, reason: &str, message: &str) -> String {
    Rule::of(&status(code, reason, message, &[])).to_string()
}

#[test]
fn an_invalid_object_is_told_by_field_and_rule_and_not_by_value() {
    let causes = [
        (
            "spec.initializer",
            "FieldValueInvalid",
            "Invalid value: \"hunter2\": initializer cannot be changed",
        ),
        (
            "spec.userEnvVars[3].value",
            "FieldValueTypeInvalid",
            "Too long: may not be more than 3 bytes: hunter2",
        ),
        ("metadata.annotations[hunter2]", "FieldValueInvalid", "Invalid value: \"hunter2\""),
        ("data[hunter2]", "hunter2", "hunter2"),
        ("hunter2.spec", "FieldValueInvalid", ""),
        ("metadata.annotations.hunter2", "FieldValueInvalid", ""),
    ];
    let text = shown(status(422, "Invalid", "Workspace \"a\" is invalid: hunter2", &causes));
    assert_eq!(
        text,
        "cluster eu-1: create Pod a was refused: field spec.initializer: initializer cannot be changed, field \
         spec.userEnvVars[3].value: FieldValueTypeInvalid, field metadata.annotations[*]: FieldValueInvalid, field \
         data[*]: it is not taken, and 2 more (422 Invalid)"
    );
}

#[test]
fn what_an_admin_must_know_of_a_rejection_is_kept() {
    for (code, reason, message, expected) in [
        (
            403,
            "Forbidden",
            "pods \"a\" is forbidden: exceeded quota: compute, requested: limits.cpu=2,pods=1, used: limits.cpu=9,pods=3, \
             limited: limits.cpu=10,pods=3",
            "exceeded quota: compute, requested: limits.cpu=2,pods=1, used: limits.cpu=9,pods=3, limited: \
             limits.cpu=10,pods=3",
        ),
        (
            422,
            "Invalid",
            "workspaces.workspace.gitpod.io \"a\" is forbidden: ValidatingAdmissionPolicy 'no-hunter' with binding 'b' \
             denied request: hunter2",
            "ValidatingAdmissionPolicy no-hunter denied it",
        ),
        (
            422,
            "Invalid",
            "pods \"a\" is forbidden: ValidatingAdmissionPolicy 'spaceport-pods' with binding 'spaceport-pods' denied \
             request: a workspace's pod is not privileged",
            "ValidatingAdmissionPolicy spaceport-pods denied it: a workspace's pod is not privileged",
        ),
        (
            400,
            "hunter2",
            "admission webhook \"check.example.com\" denied the request: hunter2",
            "admission webhook check.example.com denied it",
        ),
        (
            500,
            "InternalError",
            "Internal error occurred: failed calling webhook \"check.example.com\": Post \"https://hunter2\"",
            "admission webhook check.example.com could not be called",
        ),
        (
            403,
            "Forbidden",
            "pods \"a\" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi",
            "a LimitRange of the namespace does not allow it: maximum memory usage per Container is 1Gi",
        ),
        (
            403,
            "Forbidden",
            "pods \"a\" is forbidden: [minimum cpu usage per Pod is 2.  No request is specified, maximum memory usage per Pod is 1Gi, but limit is 2Gi]",
            "a LimitRange of the namespace does not allow it: minimum cpu usage per Pod is 2",
        ),
        (
            403,
            "Forbidden",
            "pods \"a\" is forbidden: pod rejected: RuntimeClass \"sandboxed\" not found",
            "RuntimeClass sandboxed does not exist",
        ),
        (
            403,
            "Forbidden",
            "pods is forbidden: User \"spaceport\" cannot create resource \"pods\" in API group \"\" in the namespace \"x\"",
            "the login may not create pods",
        ),
        (
            403,
            "Forbidden",
            "users \"spaceport\" is forbidden: User \"m\" cannot impersonate resource \"users\" in API group \"\"",
            "the login cannot impersonate user spaceport",
        ),
        (
            403,
            "Forbidden",
            "pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (hunter2)",
            "it violates PodSecurity baseline:latest",
        ),
        (504, "Timeout", "Timeout: Too large resource version: 5, current: 4", "Too large resource version"),
        (502, "", "<html>hunter2</html>", "the apiserver rejected it"),
    ] {
        assert_eq!(rule_of(code, reason, message), expected);
        let text = shown(status(code, reason, message, &[]));
        assert!(text.contains(expected) && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_webhook_that_cannot_be_called_is_a_definite_refusal_and_another_500_is_not() {
    let error = |message: &str| {
        let status = status(500, "InternalError", message, &[]).boxed();
        Error::from_kube(&"eu-1".parse().unwrap(), "create Pod a", kube::Error::Api(status))
    };
    assert!(error("Internal error occurred: failed calling webhook \"a.b\": no").is_definite_refusal());
    assert!(!error("Internal error occurred: hunter2 failed calling webhook \"a.b\"").is_definite_refusal());
}

#[test]
fn a_refusal_of_the_fence_is_one() {
    let message = "configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'spaceport-fence-shown' with binding 'b' denied";
    let refused = status(422, "Invalid", message, &[]).boxed();
    let error = Error::from_kube(&"eu-1".parse().unwrap(), "x", kube::Error::Api(refused));
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    // What a caller wrote into a value is no policy.
    let forged = format!("Workspace \"x\" is invalid: spec: Invalid value: \"{message}\"");
    let error = Error::from_kube(
        &"eu-1".parse().unwrap(),
        "x",
        kube::Error::Api(status(422, "Invalid", &forged, &[]).boxed()),
    );
    assert!(matches!(error, Error::Refused { rule: Rule::Unnamed, .. }), "{error}");
}

#[test]
fn an_answer_that_cannot_be_read_and_a_watch_that_breaks_quote_nothing() {
    use kube::runtime::watcher;
    let unreadable = || kube::Error::SerdeError(serde_json::from_str::<u8>("\"hunter2\"").unwrap_err());
    let refused =
        || kube::Error::Api(status(422, "hunter2", "hunter2", &[("a", "hunter2", "hunter2")]).boxed());
    let errors = [
        watcher::Error::InitialListFailed(unreadable()),
        watcher::Error::WatchStartFailed(refused()),
        watcher::Error::WatchError(status(410, "Expired", "hunter2", &[]).boxed()),
    ];
    for error in errors {
        let text = super::super::chain(&error);
        assert!(!text.contains("hunter2"), "{text}");
    }
    let text = super::super::chain(&kube::Error::Service(Box::new(refused())));
    assert!(!text.contains("hunter2"), "{text}");
}

proptest! {
    #[test]
    fn no_text_of_an_apiserver_is_shown_wherever_it_stands(
        before in "[ -~]{0,40}", after in "[ -~]{0,40}", code in 400u16..600,
    ) {
        // Letters that no name of an object or a field has next to each other.
        let secret = "Hunter_2!";
        let text = format!("{before}{secret}{after}");
        let causes = [(text.as_str(), text.as_str(), text.as_str())];
        let error = shown(status(code, &text, &text, &causes));
        prop_assert!(!error.contains(secret), "{error}");
    }
}
