//! The verbs against a fake server over loopback.

use clap::{CommandFactory, Parser};

use super::terminal::Terminal;
use super::{Cli, Command, dispatch, failure};
use fake::Fake;

mod clusters;
mod docs;
mod fake;
mod workspaces;

/// What a verb left behind.
struct Ran {
    code: u8,
    out: String,
    err: String,
}

/// Runs a verb against the server at `endpoint`.
async fn spaceport(endpoint: &str, line: &str) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let line = format!("spaceport {line} --endpoint {endpoint} --timeout 5s");
    let Command::Client(command) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
        panic!("{line} is no verb");
    };
    let mut terminal = Terminal { out: &mut out, err: &mut err, redraws: false };
    let result = dispatch(command, &mut terminal).await;
    let (code, text) = result.map_or_else(|error| failure::report(&error), |()| (0, String::new()));
    let err = String::from_utf8(err).unwrap() + &text;
    Ran { code, out: String::from_utf8(out).unwrap(), err }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_managers_flags_take_a_value_or_none() {
    let json_log = |flags: &str| {
        let line = format!("spaceport manager --config a.json {flags}");
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Manager(args) => args.json_log,
            _ => panic!("not the manager"),
        }
    };
    assert_eq!([json_log(""), json_log("--json-log"), json_log("--json-log=false")], [true, true, false]);
}

#[tokio::test]
async fn the_first_address_that_answers_is_taken() {
    let server = Fake::default();
    let dead = "http://127.0.0.1:1";
    let ran = spaceport(&format!("{dead},{}", server.serve().await), "cluster leader -o json").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&ran.out).unwrap()["replica"], "a");

    let ran = spaceport(dead, "cluster leader").await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("spaceport: no server can be reached: http://127.0.0.1:1/ ("), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1);
}

#[tokio::test]
async fn tls_without_an_authority_is_a_wrong_command_line() {
    let ran = spaceport("https://127.0.0.1:1", "cluster list").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("https needs --ca"), "{}", ran.err);
}
