//! `spaceport workspace shell`

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::session::{self, Input, Output, PIECE, Piece};
use crate::connect::Client;
use crate::failure::{ExitedWith, FAILED};
use crate::raw_mode::RawMode;
use crate::terminal::WriteError;
use domain::names::WorkspaceId;
use proto::spaceport::v1::exec_request::Request as Message;
use proto::spaceport::v1::exec_start::Run;
use proto::spaceport::v1::{ExecCommand, ExecShell, ExecStart, Terminal as TerminalType, TerminalSize};

/// `spaceport workspace shell`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a command it is a login shell: /bin/bash if the image has it, else /bin/sh. It begins in the folder of the \
repository, or in /workspace, as the user of the workspace. If standard input and output are terminals, it runs in a \
terminal; otherwise standard input is passed on to its end. The exit code of the command is passed on.")]
pub struct ShellArgs {
    /// The workspace's instance id
    id: WorkspaceId,
    /// Use no terminal, even if there is one
    #[arg(long)]
    no_terminal: bool,
    /// The command, after `--`
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs a shell or a command.
pub async fn run(client: &Client, args: ShellArgs) -> Result<()> {
    let ShellArgs { id, no_terminal, command } = args;
    let with_terminal = !no_terminal && RawMode::is_possible();
    let run = if command.is_empty() {
        Run::Shell(ExecShell {})
    } else {
        Run::Command(ExecCommand { arguments: command })
    };
    let terminal = with_terminal.then(|| TerminalType {
        size: Some(size().unwrap_or(TerminalSize { columns: 80, rows: 24 })),
        r#type: terminal_type(),
    });
    let start = ExecStart { id: id.to_string(), run: Some(run), terminal };
    let opened = session::start(client, start).await;
    let (input, output) = opened.with_context(|| format!("failed to enter {id}"))?;
    // Until the end of this function: a failure is printed in the terminal's own mode.
    let raw = if with_terminal {
        Some(RawMode::enter().context("failed to set the terminal to raw mode")?)
    } else {
        None
    };
    let code = converse(input, output, with_terminal).await?;
    drop(raw);
    match u8::try_from(code) {
        Ok(0) => Ok(()),
        Ok(code) => Err(ExitedWith(code).into()),
        Err(_) => Err(ExitedWith(FAILED).into()),
    }
}

/// Passes bytes on in both directions until the command ends; returns its exit code.
async fn converse(input: Input, output: Output, with_terminal: bool) -> Result<i32> {
    let listen = |kind| signal(kind).context("failed to listen for signals");
    let resizes = if with_terminal { Some(listen(SignalKind::window_change())?) } else { None };
    let (mut terminate, mut hang_up) = (listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    let sending = async {
        send(input, resizes).await?;
        std::future::pending().await
    };
    tokio::select! {
        // The terminal is restored also where a signal ends the session.
        _ = terminate.recv() => Err(ExitedWith(128 + 15).into()),
        _ = hang_up.recv() => Err(ExitedWith(128 + 1).into()),
        code = receive(output) => code,
        failed = sending => failed,
    }
}

/// Sends standard input to its end, and the sizes of the terminal.
async fn send(input: Input, mut resizes: Option<Signal>) -> Result<()> {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; PIECE];
    loop {
        let resized = async {
            match &mut resizes {
                Some(resizes) => resizes.recv().await,
                None => std::future::pending().await,
            }
        };
        let message = tokio::select! {
            // Cancel safe: what was read and not taken stays in its buffer.
            read = stdin.read(&mut buffer) => match read.context("failed to read standard input")? {
                0 => return Ok(()),
                read => Message::Stdin(buffer.get(..read).unwrap_or_default().to_vec()),
            },
            Some(()) = resized => match size() {
                Some(size) => Message::Resize(size),
                None => continue,
            },
        };
        if !input.send(message).await {
            return Ok(());
        }
    }
}

/// Writes output until the command ends. Not through the usual writer: it would block the connection, too, whenever the
/// reader of the output takes its time.
async fn receive(mut output: Output) -> Result<i32> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        let written = match output.next().await? {
            Piece::Out(bytes) => write(&mut stdout, &bytes).await,
            Piece::Err(bytes) => write(&mut stderr, &bytes).await,
            Piece::Exit(code) => return Ok(code),
        };
        written.map_err(WriteError::from)?;
    }
}

async fn write(to: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Size of the terminal.
fn size() -> Option<TerminalSize> {
    let (width, height) = terminal_size::terminal_size()?;
    let size = TerminalSize { columns: width.0.into(), rows: height.0.into() };
    (size.columns > 0 && size.rows > 0).then_some(size)
}

/// The type of the terminal, if it is a name that a server takes.
fn terminal_type() -> String {
    let kind = std::env::var("TERM").unwrap_or_default();
    let is_name =
        kind.len() <= 64 && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._+".contains(&byte));
    if is_name { kind } else { String::new() }
}
