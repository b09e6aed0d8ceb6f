use std::collections::HashMap;

use anyhow::Context;
use tonic_types::ErrorDetails;

use tonic::Code;

use super::*;
use crate::table::WIDTH;

fn table(error: &anyhow::Error) -> (u8, String) {
    report(error, Format::Table, None)
}

fn failed(status: Status) -> anyhow::Error {
    Err::<(), _>(status).context("failed to start a").unwrap_err()
}

#[test]
fn a_status_is_shown_by_code_message_and_details() {
    let mut details = ErrorDetails::with_error_info(
        "NO_CLUSTER_FITS",
        "spaceport.dev",
        HashMap::from([("us".to_owned(), "is cordoned".to_owned()), ("eu".to_owned(), "is lost".to_owned())]),
    );
    details.add_bad_request_violation("spec.class", "is unknown");
    let status = Status::with_error_details(Code::FailedPrecondition, "no cluster fits", details);
    let (code, text) = table(&failed(status));
    assert_eq!(code, 1);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "spaceport: failed to start a: FAILED_PRECONDITION: no cluster fits");
    assert!(lines.contains(&"NO_CLUSTER_FITS  eu          is lost"), "{text}");
    assert!(lines.contains(&"NO_CLUSTER_FITS  us          is cordoned"), "{text}");
    assert!(lines.contains(&"field            spec.class  is unknown"), "{text}");
}

#[test]
fn details_repeat_nothing_of_the_sentence() {
    let info = || ErrorDetails::with_error_info("INVALID", "spaceport.dev", HashMap::new());
    let mut details = info();
    details.add_bad_request_violation("spec.class", "is unknown");
    details.add_bad_request_violation("kubeconfig.server", "must be https");
    let message = "spec.class: is unknown; kubeconfig: server must be https";
    let status = Status::with_error_details(Code::InvalidArgument, message, details);
    let expected = format!("spaceport: failed to start a: INVALID_ARGUMENT: {message}\n");
    assert_eq!(table(&failed(status)), (1, expected));

    let mut details = info();
    details.add_precondition_failure_violation("WORKSPACE", "ws-1", "is still placed there");
    details.add_precondition_failure_violation("WORKSPACE", "ws", "is still placed there");
    let message = "cluster eu still holds 2 workspaces: ws-1, …";
    let (_, text) = table(&failed(Status::with_error_details(Code::FailedPrecondition, message, details)));
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.ends_with("WORKSPACE  ws       is still placed there\n"), "{text}");

    let mut details = info();
    details.add_precondition_failure_violation("CHECK", "rights", "may not create pods; apply rbac.yaml");
    let message = "cluster eu may not be a member: rights: may not create pods";
    let (_, text) = table(&failed(Status::with_error_details(Code::FailedPrecondition, message, details)));
    assert!(text.ends_with("CHECK   rights   apply rbac.yaml\n"), "{text}");
}

#[test]
fn details_fit_the_terminal() {
    let mut details = ErrorDetails::new();
    details.add_precondition_failure_violation("CLUSTER", "eu", "has no node with enough memory ".repeat(5));
    let status = Status::with_error_details(Code::ResourceExhausted, "full", details);
    let (_, text) = table(&failed(status));
    assert!(text.lines().count() > 3 && text.lines().all(|line| line.len() <= WIDTH), "{text}");
}

#[test]
fn programs_get_one_object_in_one_line() {
    let mut details = ErrorDetails::with_error_info("INVALID", "spaceport.dev", HashMap::new());
    details.add_bad_request_violation("spec.class", "is unknown");
    let message = "spec.class: is unknown";
    let error = failed(Status::with_error_details(Code::InvalidArgument, message, details));
    let (code, text) = report(&error, Format::Json, Some(WIDTH));
    let expected = concat!(
        r#"{"error":{"code":"INVALID_ARGUMENT","reason":"INVALID","#,
        r#""message":"failed to start a: spec.class: is unknown","#,
        r#""details":[{"kind":"field","subject":"spec.class","description":"is unknown"}]}}"#,
        "\n"
    );
    assert_eq!((code, text.as_str()), (1, expected));
    let (code, text) = report(&Usage("no server".to_owned()).into(), Format::Json, Some(WIDTH));
    assert_eq!(
        (code, text.as_str()),
        (2, "{\"error\":{\"code\":\"USAGE\",\"message\":\"no server\",\"details\":[]}}\n")
    );
    let (_, text) = report(&anyhow::anyhow!("1 of 3 checks failed"), Format::Yaml, Some(WIDTH));
    assert!(text.starts_with("error:\n") && text.contains("code: FAILED"), "{text}");
}

#[test]
fn a_wrong_command_line_ends_with_2_and_a_closed_pipe_with_0() {
    assert_eq!(table(&Usage("no server".to_owned()).into()), (2, "spaceport: no server\n".to_owned()));
    let closed = WriteError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
    assert_eq!(table(&closed.into()), (0, String::new()));
}

#[test]
fn a_long_failure_wraps_on_a_terminal_and_nowhere_else() {
    let long = format!("{} has 2 problems:\n  name: {}", "eu.yaml", "is not good ".repeat(20).trim_end());
    let (_, wrapped) = report(&anyhow::anyhow!(long.clone()), Format::Table, Some(WIDTH));
    assert!(wrapped.lines().count() > 3 && wrapped.lines().all(|line| line.len() <= WIDTH), "{wrapped}");
    let below = wrapped.lines().skip(2);
    assert!(below.clone().count() > 1 && below.clone().all(|line| line.starts_with("      ")), "{wrapped}");
    let whole = format!("spaceport: {long}\n");
    assert_eq!(report(&anyhow::anyhow!(long.clone()), Format::Table, None).1, whole);
    assert_eq!(report(&anyhow::anyhow!(long), Format::Wide, Some(40)).1, whole);
}

#[test]
fn problems_of_a_file_are_details_by_field() {
    let problem = |field: &str, rule: &str| Problem { field: field.to_owned(), rule: rule.to_owned() };
    let problems = vec![problem("name", "is required"), problem("", "must be a mapping")];
    let error = || FileProblems { path: "eu.yaml".into(), problems: problems.clone() };
    assert_eq!(error().to_string(), "eu.yaml has 2 problems:\n  name: is required\n  must be a mapping");
    let (code, text) = report(&error().into(), Format::Json, None);
    let expected = concat!(
        r#"{"error":{"code":"FAILED","message":"eu.yaml has 2 problems","details":["#,
        r#"{"kind":"field","subject":"name","description":"is required"},"#,
        r#"{"kind":"field","subject":"","description":"must be a mapping"}]}}"#,
        "\n"
    );
    assert_eq!((code, text.as_str()), (1, expected));
    let one = FileProblems {
        path: "eu.yaml".into(),
        problems: vec![problem("name", "is required").of("document 2")],
    };
    assert_eq!(one.to_string(), "eu.yaml: document 2: name: is required");
}
