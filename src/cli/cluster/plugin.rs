//! Runs a login plugin of a kubeconfig (`exec`) as kubectl does: without a shell, on this machine, once.

use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::future::{Either, select};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::kubeconfig::minimal::minimal;
use crate::table::clean;
use crate::terminal::Terminal;
use domain::kubeconfig::Chosen;
use domain::kubeconfig::exec::{Exec, INPUT, Interactive};

/// Timeout of a plugin that does not prompt.
const ALONE: Duration = Duration::from_mins(1);
/// Timeout of a plugin that may prompt a person.
const WITH_A_PERSON: Duration = Duration::from_mins(5);
/// How long to read output after the plugin exits: a child process may keep the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// An unterminated line, such as a prompt, is shown after this long without output.
const UNFINISHED: Duration = Duration::from_millis(200);
/// Bytes of an ExecCredential.
const LONGEST_OUTPUT: usize = 1 << 20;
/// Bytes of standard error that are shown.
const MOST_SHOWN: usize = 64 << 10;
/// Bytes of one line of standard error.
const LONGEST_LINE: usize = 4 << 10;

/// A plugin and its context.
pub struct Plugin {
    pub chosen: Chosen,
    pub exec: Exec,
    /// Folder of the kubeconfig; a relative path of the plugin starts there.
    pub base: PathBuf,
    /// Whether standard input is in use as a file.
    pub stdin_taken: bool,
}

impl Plugin {
    /// Runs the plugin; returns a kubeconfig with its credential.
    pub async fn run(self, terminal: &mut Terminal<'_>) -> Result<Vec<u8>> {
        let name = clean(&self.exec.command);
        let interactive = self.is_interactive()?;
        let limit = if interactive { WITH_A_PERSON } else { ALONE };
        terminal.progress(&format!("running the login plugin {name}\n"));
        let child = self.command(interactive)?.spawn();
        let mut child = child.with_context(|| format!("failed to run the login plugin {name}"))?;
        let ended = timeout(limit, talk(&mut child, &self.exec, terminal)).await;
        let (output, status) = match ended {
            Ok(ended) => ended.with_context(|| format!("the login plugin {name}"))?,
            Err(_) => bail!("the login plugin {name} did not end within {} s", limit.as_secs()),
        };
        ensure!(status.success(), "the login plugin {name} failed ({status}); its output is above");
        let credential = self.exec.credential(&output, Timestamp::now());
        let credential = credential.map_err(|rule| anyhow!("the login plugin {name} {rule}"))?;
        minimal(&self.chosen.with(credential)).with_context(|| format!("the login of the plugin {name}"))
    }

    fn is_interactive(&self) -> Result<bool> {
        let person = !self.stdin_taken && std::io::stdin().is_terminal();
        match self.exec.interactive {
            Interactive::Never => Ok(false),
            Interactive::IfAvailable => Ok(person),
            Interactive::Always => {
                let why = if self.stdin_taken { "is read as a file" } else { "is no terminal" };
                let name = clean(&self.exec.command);
                ensure!(person, "the login plugin {name} asks a person, and standard input {why}");
                Ok(true)
            }
        }
    }

    fn command(&self, interactive: bool) -> Result<Command> {
        let mut command = Command::new(self.program()?);
        let env = self.exec.env.iter().map(|(name, value)| (name, value.expose()));
        command
            .args(&self.exec.args)
            .envs(env)
            .env(INPUT, self.exec.input(&self.chosen.cluster, interactive)?)
            .stdin(if interactive { Stdio::inherit() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Ok(command)
    }

    /// Resolves the program: a path relative to the kubeconfig's folder, or a name on PATH; never the working
    /// directory.
    fn program(&self) -> Result<PathBuf> {
        let (command, name) = (&self.exec.command, clean(&self.exec.command));
        let found = if command.contains('/') {
            let path = std::path::absolute(self.base.join(command)).context("no present folder")?;
            Some(path).filter(|path| is_program(path))
        } else {
            let folders = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&folders)
                .filter(|folder| folder.is_absolute())
                .map(|folder| folder.join(command))
                .find(|path| is_program(path))
        };
        found.ok_or_else(|| {
            let place = if command.contains('/') { "is no program" } else { "is not on PATH" };
            let hint = self.exec.install_hint.as_ref().map(|hint| format!(": {}", clean(hint)));
            anyhow!("the login plugin {name} {place}{}", hint.unwrap_or_default())
        })
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Reads the output until the plugin ends, and shows its standard error.
async fn talk(child: &mut Child, exec: &Exec, terminal: &mut Terminal<'_>) -> Result<(Vec<u8>, ExitStatus)> {
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("has no output");
    };
    let answered = pin!(async {
        let output = collect(stdout).await?;
        Ok((output, child.wait().await.context("cannot be waited for")?))
    });
    match select(answered, pin!(show(stderr, exec, terminal))).await {
        Either::Left((answered, shown)) => {
            let _ = timeout(LAST_WORDS, shown).await;
            answered
        }
        Either::Right(((), answered)) => answered.await,
    }
}

async fn collect(stdout: impl AsyncRead + Unpin) -> Result<Vec<u8>> {
    let mut output = Vec::new();
    let limit = LONGEST_OUTPUT as u64 + 1;
    stdout.take(limit).read_to_end(&mut output).await.context("cannot be read")?;
    ensure!(output.len() <= LONGEST_OUTPUT, "writes more than {LONGEST_OUTPUT} bytes to standard output");
    Ok(output)
}

/// Shows standard error line by line, without secrets and unsafe characters.
async fn show(mut stderr: impl AsyncRead + Unpin, exec: &Exec, terminal: &mut Terminal<'_>) {
    let (mut line, mut shown) = (Vec::new(), 0);
    let mut piece = [0; 1024];
    loop {
        let read = match timeout(UNFINISHED, stderr.read(&mut piece)).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => 0,
            Err(_) if line.is_empty() => stderr.read(&mut piece).await.unwrap_or_default(),
            Err(_) => {
                tell(&mut line, &mut shown, exec, terminal);
                continue;
            }
        };
        for byte in &piece[..read] {
            if *byte == b'\n' || line.len() >= LONGEST_LINE {
                tell(&mut line, &mut shown, exec, terminal);
            }
            if *byte != b'\n' {
                line.push(*byte);
            }
        }
        if read == 0 {
            return tell(&mut line, &mut shown, exec, terminal);
        }
    }
}

fn tell(line: &mut Vec<u8>, shown: &mut usize, exec: &Exec, terminal: &mut Terminal<'_>) {
    let text = clean(&exec.redacted(&String::from_utf8_lossy(line)));
    line.clear();
    if text.is_empty() || *shown > MOST_SHOWN {
        return;
    }
    *shown += text.len() + 1;
    let more = if *shown > MOST_SHOWN { "\n(more is not shown)" } else { "" };
    terminal.progress(&format!("{text}{more}\n"));
}

#[cfg(test)]
mod tests;
