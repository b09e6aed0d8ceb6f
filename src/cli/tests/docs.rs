//! docs/cli.md describes every verb and every flag of its own.

use clap::Command;

use super::command;

fn check(command: &Command, path: &str, text: &str, missing: &mut Vec<String>) {
    if command.has_subcommands() {
        for verb in command.get_subcommands() {
            check(verb, &format!("{path} {}", verb.get_name()), text, missing);
        }
        return;
    }
    let heading = format!("### `{path}`\n");
    let Some(start) = text.find(&heading) else {
        missing.push(heading.trim_end().to_owned());
        return;
    };
    let section = &text[start + heading.len()..];
    let section = &section[..section.find("\n#").unwrap_or(section.len())];
    let example = format!("```sh\n{path}");
    if !section.contains(&example) {
        missing.push(format!("an example of {path}"));
    }
    let own = command
        .get_arguments()
        .filter(|argument| argument.get_help_heading() != Some("Connection and output"));
    for flag in own.filter_map(|argument| argument.get_long()).filter(|flag| *flag != "help") {
        if !section.contains(&format!("`--{flag}")) {
            missing.push(format!("--{flag} of {path}"));
        }
    }
}

#[test]
fn every_verb_and_flag_is_in_the_docs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut missing = Vec::new();
    check(&command(), "spaceport", &text, &mut missing);
    for flag in ["endpoint", "ca", "cert", "key", "server-name", "context", "timeout", "output"] {
        if !text.contains(&format!("`--{flag}")) {
            missing.push(format!("--{flag}"));
        }
    }
    assert!(missing.is_empty(), "docs/cli.md lacks {missing:#?}");
}

#[test]
fn the_table_of_exit_codes_has_every_code() {
    use super::failure::{FAILED, SUCCESS, USAGE};

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| Exit code |")).skip(2);
    let rows = rows.map_while(|line| line.strip_prefix("| ")?.split(' ').next());
    let documented: Vec<u8> = rows.map(|code| code.parse().unwrap()).collect();
    let manager = runtime::config::EXIT_CODE;
    assert_eq!(documented, [SUCCESS, FAILED, USAGE, manager, crate::interrupt::EXIT_CODE]);
}
