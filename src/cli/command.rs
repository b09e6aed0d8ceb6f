//! The parsed command line: the verbs, each with the flags for connection and output that it uses. A verb neither lists
//! nor accepts other such flags.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, CommandFactory, FromArgMatches, ValueEnum};

use super::args::Cli;
use super::failure;
use super::flags::Flags;
use super::terminal::{Format, Terminal};

/// Maximum width of the help, and of all output without a terminal.
const HELP_WIDTH: usize = 80;
/// Value names of numbers: a minus sign in front of one is an invalid number, not a flag.
const NUMBERS: [&str; 6] = ["DURATION", "NUMBER", "N", "N/min", "LINES", "PORT"];

const ALL: &[&str] = &["endpoint", "ca", "cert", "key", "server-name", "context", "timeout", "output"];
/// Flags that `config set-context` stores in a context.
const OF_CONTEXT: &[&str] = &["endpoint", "ca", "cert", "key", "server-name", "timeout"];
/// Flags that any verb of `config` uses.
const OF_CONFIG: &[&str] = &["endpoint", "ca", "cert", "key", "server-name", "timeout", "output"];

/// The flags for connection and output that a verb uses.
fn used_by(path: &[&str]) -> &'static [&'static str] {
    match path {
        ["config"] => OF_CONFIG,
        ["config", "set-context"] => OF_CONTEXT,
        ["config", "get-contexts" | "view"] => &["output"],
        ["config" | "manager" | "node" | "crd" | "completion", ..] => &[],
        _ => ALL,
    }
}

/// The whole command line.
pub fn command() -> Command {
    let flags: Vec<Arg> = Flags::augment_args(Command::new("flags")).get_arguments().cloned().collect();
    let command = Cli::command().max_term_width(HELP_WIDTH).mut_args(with_minus);
    command.mut_subcommands(|verb| complete(verb, &[], &flags))
}

/// Adds the flags that a verb uses, recursively.
fn complete(verb: Command, above: &[&str], flags: &[Arg]) -> Command {
    let name = verb.get_name().to_owned();
    let path = [above, &[name.as_str()]].concat();
    // Verbs of `config` use different flags; each lists its own in its help.
    let hidden = path == ["config"];
    let used = flags.iter().filter(|flag| flag.get_long().is_some_and(|long| used_by(&path).contains(&long)));
    let verb = verb.args(used.map(|flag| flag.clone().hide(hidden)));
    verb.mut_args(with_minus).mut_subcommands(|below| complete(below, &path, flags))
}

/// Lets a number begin with a minus sign, so that the error is about its range and not about a flag.
fn with_minus(arg: Arg) -> Arg {
    let is_number =
        arg.get_value_names().is_some_and(|names| names.iter().any(|name| NUMBERS.contains(&name.as_str())));
    match (is_number, arg.is_positional()) {
        (false, _) => arg,
        (true, true) => arg.allow_negative_numbers(true),
        (true, false) => arg.allow_hyphen_values(true),
    }
}

/// Parses a command line whose first word is the program.
pub fn parse(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    cli.flags = Flags::gathered(&matches);
    match unused(&matches, &cli.flags) {
        Some(problem) => Err(command.error(ErrorKind::ArgumentConflict, problem)),
        None => Ok(cli),
    }
}

/// A given flag that the verb does not use: clap accepts every flag before the verb.
fn unused(matches: &ArgMatches, flags: &Flags) -> Option<String> {
    let mut path = Vec::new();
    let mut at = matches;
    while let Some((name, below)) = at.subcommand() {
        path.push(name);
        at = below;
    }
    let unused = flags.given().find(|flag| !used_by(&path).contains(flag))?;
    Some(format!("{} does not use --{unused}", path.join(" ")))
}

impl Cli {
    /// Parses the command line of the process. Exits with code 2 if it is wrong, with 0 after help.
    pub fn read() -> Self {
        let words: Vec<OsString> = std::env::args_os().collect();
        parse(&words).unwrap_or_else(|error| {
            let (format, width) = (asked_format(&words), Terminal::stderr_width());
            if error.use_stderr() && (width.is_some() || !format.is_table()) {
                // Standard error may be closed.
                let _ = std::io::Write::write_all(
                    &mut std::io::stderr(),
                    failure::of_parser(&error, format, width).as_bytes(),
                );
                std::process::exit(error.exit_code());
            }
            error.exit()
        })
    }
}

/// The output format that a command line asks for, even if it cannot be parsed.
fn asked_format(words: &[OsString]) -> Format {
    let words = words.iter().skip(1).map(|word| word.to_string_lossy()).take_while(|word| word != "--");
    let (mut asked, mut is_next) = (Format::default(), false);
    for word in words {
        let value = if std::mem::take(&mut is_next) {
            Some(&*word)
        } else {
            is_next = word == "-o" || word == "--output";
            let short = || word.strip_prefix("-o").map(|value| value.strip_prefix('=').unwrap_or(value));
            word.strip_prefix("--output=").or_else(short)
        };
        asked = value.and_then(|value| Format::from_str(value, false).ok()).unwrap_or(asked);
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_a_line_that_cannot_be_parsed_is_found() {
        let format = |line: &str| asked_format(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for json in ["x a -o json", "x -ojson a", "x -o=json", "x a --output json --b", "x --output=json"] {
            assert_eq!(format(json), Format::Json, "{json}");
        }
        for table in ["x a", "x -- -o json", "x -o", "x -o nonsense", "x --owner json", "x -o json -o table"]
        {
            assert_eq!(format(table), Format::Table, "{table}");
        }
    }
}
