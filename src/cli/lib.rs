//! The command line client. It uses the gRPC API like any other client; of the other crates it uses only the domain and
//! the wire types.
//!
//! Results go to standard output, progress and failures to standard error. Exit codes: 0 done, 1 rejected or failed, 2
//! wrong command line, 130 interrupted while waiting.

use std::process::ExitCode;

use anyhow::Context;

pub use args::{Cli, ClientCommand, Command, ServerArgs};

use flags::{Environment, Flags};
use terminal::{Format, Terminal};

mod address;
mod args;
mod cluster;
mod command;
mod completion;
mod config;
mod connect;
mod failure;
mod flags;
mod input;
mod interrupt;
mod password;
mod raw_mode;
mod status;
mod subscription;
mod table;
mod terminal;
#[cfg(test)]
mod tests;
mod value_parsers;
mod version;
mod view;
mod workspace;

/// Runs a verb on the standard streams of the process.
pub fn run(command: ClientCommand, flags: &Flags) -> ExitCode {
    on_terminal(flags.output.unwrap_or_default(), |terminal| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("failed to start the runtime")?;
        let outcome = runtime.block_on(dispatch(command, flags, &Environment::of_process(), terminal));
        // A DNS lookup cannot be cancelled and could outlast --timeout.
        runtime.shutdown_background();
        outcome
    })
}

/// Prints a text that needs no server.
pub fn print(text: anyhow::Result<String>) -> ExitCode {
    on_terminal(Format::Table, |terminal| terminal.line(text?.trim_end()))
}

/// The completion script of a shell.
pub fn completion(args: &completion::CompletionArgs) -> anyhow::Result<String> {
    completion::script(args, command::command())
}

fn on_terminal(format: Format, work: impl FnOnce(&mut Terminal<'_>) -> anyhow::Result<()>) -> ExitCode {
    let (out, err) = (&mut std::io::stdout(), &mut std::io::stderr());
    let (redraws, width) = (Terminal::stderr_redraws(), Terminal::stdout_width());
    let err_width = Terminal::stderr_width();
    let mut terminal = Terminal { out, err, redraws, width, err_width };
    let Err(error) = work(&mut terminal) else { return ExitCode::SUCCESS };
    let (code, text) = failure::report(&error, format, err_width);
    if code == interrupt::EXIT_CODE && terminal.redraws {
        // Ends the line that is being redrawn.
        terminal.progress("\n");
    }
    terminal.progress(&text);
    ExitCode::from(code)
}

async fn dispatch(
    command: ClientCommand,
    flags: &Flags,
    environment: &Environment,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<()> {
    // What works without a server needs no connection settings.
    match command {
        ClientCommand::Config(args) => return config::run(args, flags, environment, terminal),
        ClientCommand::Version(args) => return version::run(&args, flags, environment, terminal).await,
        _ => {}
    }
    let connection = flags.resolve(environment)?;
    // Boxed, because the futures of all verbs together are large.
    match command {
        ClientCommand::Cluster(args) => Box::pin(cluster::run(args, &connection, terminal)).await,
        ClientCommand::Config(_) | ClientCommand::Version(_) => Ok(()),
        ClientCommand::Status => status::run(&connection, terminal).await,
        ClientCommand::Workspace(args) => Box::pin(workspace::run(args, &connection, terminal)).await,
    }
}
