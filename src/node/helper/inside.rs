//! What the helper does once it is inside.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::time::Duration;

use content::initializer::Fault;
use serde_json::Value;

use super::ground::{Paced, SUBCOMMAND, workspace};
use super::protocol::{Event, Failure, Operation, Outcome, emit, one_line, read_request};
use super::{credentials, download, enter, git, ready};

/// Work on archives, given by whoever builds the program, so that the helper knows no format.
pub trait Archives {
    /// Does what `request` says with the workspace and the streams.
    fn run(&self, request: &Value, io: Io<'_>) -> Result<Value, Unable>;
}

/// Why archive work failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unable {
    /// Who can mend it.
    pub fault: Fault,
    /// One sentence for people.
    pub message: String,
}

/// What archive work has.
pub struct Io<'a> {
    /// The folder of the workspace.
    pub workspace: BorrowedFd<'a>,
    /// Bytes from the agent.
    pub input: &'a mut (dyn Read + Send),
    /// Bytes to the agent.
    pub output: &'a mut (dyn Write + Send),
    /// Reports the step and the bytes so far; cheap enough for each buffer.
    pub progress: &'a mut (dyn FnMut(&str, u64) + Send),
}

/// Of a program without archive work.
#[derive(Debug, Clone, Copy)]
pub struct NoArchives;

impl Archives for NoArchives {
    fn run(&self, _request: &Value, _io: Io<'_>) -> Result<Value, Unable> {
        let message = "this program has no work on archives".to_owned();
        Err(Unable { fault: Fault::Platform, message })
    }
}

/// Runs as a helper if the arguments say so; `None` otherwise. Must be called before anything starts a thread: a process with
/// several threads cannot enter a user namespace.
pub fn main(archives: &dyn Archives) -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != SUBCOMMAND {
        return None;
    }
    let second = arguments.next().and_then(|text| text.into_string().ok()).unwrap_or_default();
    if second == credentials::SUBCOMMAND {
        let action = arguments.next().and_then(|text| text.into_string().ok()).unwrap_or_default();
        return Some(credentials::ask(&action));
    }
    let result = match second.parse() {
        Ok(agent) => run(agent, archives),
        Err(_) => Err(io::Error::other("the helper is started by the node agent only")),
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let message = format!("the content helper did not start: {}", one_line(&error.to_string()));
            let failure = Failure::platform(message);
            let _ = emit(&Event::Failed { failure });
            ExitCode::FAILURE
        }
    })
}

fn run(agent: u32, archives: &dyn Archives) -> io::Result<()> {
    enter::detach(agent)?;
    // A File, because the standard library's own is bound to one thread, and reads ahead.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let request = read_request(&mut input)?;
    enter::enter(&request, &mut input)?;
    end_at(Duration::from_millis(request.deadline_millis))?;
    let event = match work(&request.operation, &request.settings, &mut input, archives) {
        Ok(outcome) => Event::Done { outcome },
        Err(failure) => Event::Failed { failure },
    };
    emit(&event)
}

/// Ends the process, and with it its whole pid namespace, at the deadline: the agent may be slow to do so.
fn end_at(deadline: Duration) -> io::Result<()> {
    let wait = move || {
        std::thread::sleep(deadline);
        let _ = emit(&Event::Late);
        std::process::exit(1);
    };
    std::thread::Builder::new().name("deadline".to_owned()).spawn(wait)?;
    Ok(())
}

fn work(
    operation: &Operation,
    settings: &super::Settings,
    input: &mut (dyn Read + Send),
    archives: &dyn Archives,
) -> Result<Outcome, Failure> {
    match operation {
        Operation::Clone { git } => git::clone(git, settings),
        Operation::UpdatePrebuild { git } => git::update(git, settings),
        Operation::Download { files } => download::run(files, settings),
        Operation::GitStatus { folder } => git::status(folder, settings),
        Operation::Ready { source, metrics } => ready::write(*source, metrics),
        Operation::Archive { request } => archive(request, input, archives),
    }
}

fn archive(
    request: &Value,
    input: &mut (dyn Read + Send),
    archives: &dyn Archives,
) -> Result<Outcome, Failure> {
    let platform = |error: io::Error| Failure::platform(format!("archive work did not start: {error}"));
    let workspace = workspace().map_err(platform)?;
    // A File, because the standard library buffers lines.
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(platform)?);
    let mut paced = Paced::default();
    let mut progress = |step: &str, bytes: u64| paced.report(step, bytes);
    let io = Io { workspace: workspace.as_fd(), input, output: &mut output, progress: &mut progress };
    match archives.run(request, io) {
        Ok(result) => Ok(Outcome::Archive { result }),
        Err(Unable { fault, message }) => Err(Failure { fault, message: one_line(&message) }),
    }
}
