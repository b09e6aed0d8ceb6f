//! The verbs against a fake server over loopback.

use super::command::{command, parse};
use super::flags::Environment;
use super::terminal::Terminal;
use super::{Command, dispatch, failure, table};

mod clusters;
mod connections;
mod contexts;
mod docs;
mod fake;
mod tables;
mod workspaces;

/// Outcome of a verb.
struct Ran {
    code: u8,
    out: String,
    err: String,
}

/// Runs a verb against the server at `endpoint`.
async fn spaceport(endpoint: &str, line: &str) -> Ran {
    run(&format!("{line} --endpoint {endpoint} --timeout 5s"), &Environment::default()).await
}

/// Runs a verb with variables.
async fn run(line: &str, environment: &Environment) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let line = format!("spaceport {line}");
    let cli = parse(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}"));
    let Command::Client(command) = cli.command else { panic!("{line} is no verb") };
    let (format, width) = (cli.flags.output.unwrap_or_default(), table::WIDTH);
    let mut terminal = Terminal { out: &mut out, err: &mut err, redraws: false, width, err_width: None };
    let result = dispatch(command, &cli.flags, environment, &mut terminal).await;
    let (code, text) = match &result {
        Ok(()) => (0, String::new()),
        Err(error) => failure::report(error, format, None),
    };
    let err = String::from_utf8(err).unwrap() + &text;
    Ran { code, out: String::from_utf8(out).unwrap(), err }
}

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn the_managers_flags_take_a_value_or_none() {
    let json_log = |flags: &str| {
        let line = format!("spaceport manager --config a.json {flags}");
        match parse(line.split_whitespace()).unwrap().command {
            Command::Manager(args) => args.json_log,
            _ => panic!("not the manager"),
        }
    };
    assert_eq!([json_log(""), json_log("--json-log"), json_log("--json-log=false")], [true, true, false]);
}

/// The error for a wrong command line.
fn refused(line: &str) -> clap::Error {
    match parse(line.split_whitespace()) {
        Err(error) => error,
        Ok(cli) => panic!("{line} is taken: {cli:?}"),
    }
}

#[test]
fn flags_that_a_verb_does_not_use_are_refused_and_not_offered() {
    for (line, expected) in [
        ("spaceport --endpoint https://a manager --config a.json", "manager does not use --endpoint"),
        ("spaceport manager --config a.json --endpoint https://a", "unexpected argument '--endpoint'"),
        ("spaceport -o json crd", "crd does not use --output"),
        ("spaceport crd -o json", "unexpected argument '-o'"),
        ("spaceport --timeout 3s completion bash", "completion does not use --timeout"),
        ("spaceport --ca ca.crt config use-context a", "config use-context does not use --ca"),
        ("spaceport config --ca ca.crt use-context a", "config use-context does not use --ca"),
        ("spaceport config use-context a --ca ca.crt", "unexpected argument '--ca'"),
        ("spaceport --context b config set-context a", "config set-context does not use --context"),
    ] {
        let error = refused(line);
        assert!(error.to_string().contains(expected), "{line}: {error}");
        assert_eq!(error.exit_code(), i32::from(failure::USAGE), "{line}");
    }
    for line in [
        "spaceport config set-context a --endpoint https://a",
        "spaceport config --endpoint https://a set-context a",
        "spaceport --endpoint https://a config set-context a",
        "spaceport config get-contexts -o json",
        "spaceport version -o json",
    ] {
        assert!(parse(line.split_whitespace()).is_ok(), "{line}");
    }
    let offers = |path: &str| {
        let mut command = command();
        let verb = path.split(' ').fold(&mut command, |at, name| at.find_subcommand_mut(name).unwrap());
        let help = verb.render_long_help().to_string();
        ["--endpoint", "--context", "--output"].map(|flag| help.contains(flag))
    };
    for (path, expected) in [
        ("crd", [false; 3]),
        ("completion", [false; 3]),
        ("manager", [false; 3]),
        ("node", [false; 3]),
        ("config", [false; 3]),
        ("config use-context", [false; 3]),
        ("config set-context", [true, false, false]),
        ("config view", [false, false, true]),
        ("cluster", [true; 3]),
        ("cluster drain start", [true; 3]),
    ] {
        assert_eq!(offers(path), expected, "{path}");
    }
}

/// Every verb and group of verbs, with its path.
fn verbs(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
    found.push((path.to_owned(), command.clone()));
    for verb in command.get_subcommands() {
        verbs(verb, &format!("{path} {}", verb.get_name()), found);
    }
}

#[test]
fn the_help_of_every_verb_fits_80_columns() {
    let mut all = Vec::new();
    let mut root = command();
    root.build();
    verbs(&root, "spaceport", &mut all);
    assert!(all.len() > 40, "{}", all.len());
    let mut wide = Vec::new();
    for (path, mut verb) in all {
        for text in [verb.render_help(), verb.render_long_help(), verb.render_usage()] {
            let text = text.to_string();
            let lines = text.lines().filter(|line| line.chars().count() > table::WIDTH);
            wide.extend(lines.map(|line| format!("{path}: {line}")));
        }
    }
    assert!(wide.is_empty(), "{wide:#?}");
}

#[test]
fn numbers_below_zero_are_refused_by_their_range() {
    for (line, expected) in [
        (
            "cluster update eu --weight -1",
            "'-1' for '--weight <NUMBER>': must be a whole number from 0 to 1000",
        ),
        ("cluster update eu --max-weight 0", "must be a whole number from 1 to 1000"),
        ("cluster update eu --version -3", "must be a whole number from 1 up"),
        ("cluster drain eu --concurrent -1", "must be a whole number from 1 to 200"),
        ("cluster drain eu --rate -5/min", "must be from 1/min to 600/min"),
        ("cluster drain eu --idle -5m", "must not be negative"),
        ("cluster maintenance on eu --for -2h", "must not be negative"),
        ("cluster maintenance on eu --until tomorrow", "must be a time such as"),
        ("cluster explain --count -1", "must be a whole number from 1 to 10000"),
        ("cluster explain --with-weight eu=-1", "the weight must be a whole number from 0 to 1000"),
        ("workspace logs a --tail -1", "must be a whole number from 0 up"),
        ("workspace logs a --since -1m", "must not be negative"),
        ("workspace timeout a --after -1h", "must not be negative"),
        ("workspace snapshot a --wait-timeout 0s", "must be above zero"),
        ("workspace port expose a -1", "must be a port from 1 to 65535"),
        ("workspace port unexpose a 0", "must be a port from 1 to 65535"),
        ("status --timeout -1s", "must not be negative"),
        ("status --timeout 30", "lacks a unit"),
    ] {
        let error = refused(&format!("spaceport {line}")).to_string();
        assert!(error.contains(expected) && !error.contains("tip:"), "{line}: {error}");
    }
}

#[test]
fn a_line_that_cannot_be_parsed_is_reported_in_the_format_that_it_asks_for() {
    let json = |line: &str| {
        let text =
            failure::of_parser(&refused(&format!("spaceport {line}")), super::terminal::Format::Json, None);
        assert_eq!(text.lines().count(), 1, "{text}");
        let view: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&view["error"]["code"], &view["error"]["details"]),
            (&"USAGE".into(), &serde_json::json!([]))
        );
        view["error"]["message"].as_str().unwrap().to_owned()
    };
    let missing = "the following required arguments were not provided: --owner <OWNER> --image <IMAGE>";
    assert_eq!(json("workspace start -o json"), missing);
    let wrong = "invalid value '-1' for '--weight <NUMBER>': must be a whole number from 0 to 1000";
    assert_eq!(json("cluster update eu --weight -1"), wrong);
    assert!(json("cluster lst").contains("unrecognized subcommand 'lst'; tip: "), "{}", json("cluster lst"));
    assert_eq!(json("cluster"), "a verb is missing; --help lists them");
    assert_eq!(json("--ca a crd"), "crd does not use --ca");
    let error = refused("spaceport workspace port expose a 8080 --visibility nobody");
    let wrapped = failure::of_parser(&error, super::terminal::Format::Table, Some(40));
    assert!(wrapped.lines().all(|line| line.chars().count() <= 40), "{wrapped}");
    assert_eq!(failure::of_parser(&error, super::terminal::Format::Table, None), error.to_string());
}
