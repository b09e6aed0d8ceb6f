//! One run of the git program.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use content::initializer::scrub::Scrubber;

use super::super::protocol::{Failure, Repository, one_line};
use super::super::settings::Settings;
use super::super::{credentials, root};
use super::blame::blame;
use super::progress::{Watcher, is_noise};

/// Bytes of output that are kept for a message: the last ones, and more than the longest secret.
const TAIL: usize = 64 * 1024;
/// Lines of output in a message.
const TAIL_LINES: usize = 12;
/// Bytes of output that is read as an answer.
const ANSWER_MAX: u64 = 4 * 1024 * 1024;
/// Settings for all runs, in the only file that git reads beside the repository's.
const GLOBAL: &str = "/tmp/gitconfig";
/// Home of git, empty.
const HOME: &str = "/tmp/home";
/// Where programs are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Protocols that reach a server. Not `file` and not `ext`, which runs programs; for submodules as well.
const SERVERS: &str = "http:https:ssh:git:ftp:ftps";
/// No protocol at all; a list must not be empty.
const NOTHING: &str = "none";
/// Settings that a repository cannot replace, because arguments come after its own.
const ALWAYS: [&str; 25] = [
    "core.bigFileThreshold=64m",
    "core.deltaBaseCacheLimit=32m",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.gitProxy=",
    "core.askPass=",
    "core.pager=cat",
    "core.editor=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "credential.helper=",
    "credential.useHttpPath=true",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "gpg.program=false",
    "http.followRedirects=initial",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "log.showSignature=false",
    "maintenance.auto=false",
    "pack.threads=2",
    "protocol.allow=user",
    "protocol.ext.allow=never",
    "protocol.file.allow=never",
    "submodule.recurse=false",
];

/// How git is run in a folder.
pub(super) struct Program<'a> {
    folder: PathBuf,
    environment: &'a [(String, String)],
    scrubber: Scrubber,
    has_logins: bool,
    protocols: &'static str,
}

/// Output that was read as an answer.
pub(super) struct Answer {
    pub(super) text: String,
}

impl<'a> Program<'a> {
    /// For a repository with its logins.
    pub(super) fn of(repository: &Repository, settings: &'a Settings) -> Result<Self, Failure> {
        let secrets = repository.secrets();
        let start = || -> io::Result<()> {
            prepare()?;
            if !repository.logins.is_empty() {
                credentials::serve(repository.logins.clone())?;
            }
            Ok(())
        };
        start().map_err(|error| Failure::platform(format!("git cannot be prepared: {error}")))?;
        Ok(Self {
            folder: Path::new(root::WORKSPACE).join(&repository.folder),
            environment: &settings.environment,
            scrubber: Scrubber::new(secrets.iter().map(String::as_str)),
            has_logins: !repository.logins.is_empty(),
            protocols: SERVERS,
        })
    }

    /// Without network and logins.
    pub(super) fn offline(folder: &str) -> Result<Self, Failure> {
        prepare().map_err(|error| Failure::platform(format!("git cannot be prepared: {error}")))?;
        Ok(Self {
            folder: Path::new(root::WORKSPACE).join(folder),
            environment: &[],
            scrubber: Scrubber::default(),
            has_logins: false,
            protocols: NOTHING,
        })
    }

    /// The folder of the working copy.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the folder is a working copy of its own.
    pub(super) fn is_working_copy(&self) -> bool {
        fs::symlink_metadata(self.folder.join(".git")).is_ok_and(|found| found.is_dir())
    }

    /// Removes secrets, and makes a line of it.
    pub(super) fn scrubbed(&self, text: &str) -> String {
        one_line(&self.scrubber.scrub(text))
    }

    /// Runs git. Failing is a failure of the operation.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<(), Failure> {
        self.answer(arguments).map(drop)
    }

    /// Whether git succeeds.
    pub(super) fn succeeds(&self, arguments: &[&str]) -> Result<bool, Failure> {
        let (status, _, _) = self.finish(self.command(arguments), arguments)?;
        Ok(status.success())
    }

    /// Runs git, and reads what it prints.
    pub(super) fn answer(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        let (status, answer, tail) = self.finish(self.command(arguments), arguments)?;
        if status.success() {
            Ok(Answer { text: answer })
        } else {
            Err(self.failed(arguments, status, &tail))
        }
    }

    /// The first line of what git prints; nothing if it fails.
    pub(super) fn line(&self, arguments: &[&str]) -> Result<Option<String>, Failure> {
        let (status, answer, _) = self.finish(self.command(arguments), arguments)?;
        let line = answer.lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned);
        Ok(line.filter(|_| status.success()))
    }

    /// Runs git and hands each record of its output to `each`, however many there are.
    pub(super) fn each(
        &self,
        mut command: Command,
        arguments: &[&str],
        end: u8,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let (mut child, errors) = self.spawn(&mut command, arguments)?;
        let mut output =
            BufReader::new(child.stdout.take().ok_or_else(|| self.not_run(arguments, "no output"))?);
        let mut record = Vec::new();
        loop {
            record.clear();
            let read = (&mut output).take(ANSWER_MAX).read_until(end, &mut record);
            match read {
                Ok(0) => break,
                Ok(_) => each(record.strip_suffix(&[end]).unwrap_or(&record)),
                Err(error) => return Err(self.not_run(arguments, &error.to_string())),
            }
        }
        let (status, tail) = self.wait(child, errors, arguments)?;
        if status.success() { Ok(()) } else { Err(self.failed(arguments, status, &tail)) }
    }

    /// The command with all that every run has.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.env_clear().current_dir(&self.folder).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let above = self.folder.parent().unwrap_or(Path::new("/"));
        command.envs([
            ("PATH", PATH),
            ("HOME", HOME),
            // Without an address, git makes one of the host's name for its reflogs, and waits for name servers: where none
            // answers, 10 s for each fetch. The user's own address comes before this one.
            ("EMAIL", "workspace@localhost"),
            ("LC_ALL", "C.UTF-8"),
            ("GIT_ALLOW_PROTOCOL", self.protocols),
            ("GIT_ASKPASS", "/bin/false"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", GLOBAL),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            (
                "GIT_SSH_COMMAND",
                "ssh -F none -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=20",
            ),
            ("GIT_SSH_VARIANT", "ssh"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("SSH_ASKPASS", "/bin/false"),
        ]);
        // No working copy above counts.
        command.env("GIT_CEILING_DIRECTORIES", above);
        for setting in ALWAYS {
            command.args(["-c", setting]);
        }
        if self.has_logins {
            command.arg("-c").arg(format!("credential.helper={}", credentials::setting()));
        }
        command.args(arguments);
        command
    }

    fn finish(
        &self,
        mut command: Command,
        arguments: &[&str],
    ) -> Result<(ExitStatus, String, Tail), Failure> {
        let (mut child, errors) = self.spawn(&mut command, arguments)?;
        let mut answer = Vec::new();
        if let Some(mut output) = child.stdout.take() {
            let read = (&mut output).take(ANSWER_MAX).read_to_end(&mut answer);
            read.and_then(|_| io::copy(&mut output, &mut io::sink()))
                .map_err(|error| self.not_run(arguments, &error.to_string()))?;
        }
        let (status, tail) = self.wait(child, errors, arguments)?;
        Ok((status, String::from_utf8_lossy(&answer).into_owned(), tail))
    }

    fn spawn(
        &self,
        command: &mut Command,
        arguments: &[&str],
    ) -> Result<(Child, Option<JoinHandle<Tail>>), Failure> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            let what = if error.kind() == io::ErrorKind::NotFound {
                "the git program or the folder is missing in the helper's root".to_owned()
            } else {
                error.to_string()
            };
            Failure::configuration(format!("git {} did not start: {what}", name(arguments)))
        })?;
        let errors = child.stderr.take().map(|stream| {
            let read = move || Tail::read(stream);
            std::thread::Builder::new().name("git-errors".to_owned()).spawn(read)
        });
        let errors = errors.transpose().map_err(|error| self.not_run(arguments, &error.to_string()))?;
        Ok((child, errors))
    }

    fn wait(
        &self,
        mut child: Child,
        errors: Option<JoinHandle<Tail>>,
        arguments: &[&str],
    ) -> Result<(ExitStatus, Tail), Failure> {
        let tail = errors.and_then(|errors| errors.join().ok()).unwrap_or_default();
        let status = child.wait().map_err(|error| self.not_run(arguments, &error.to_string()))?;
        Ok((status, tail))
    }

    fn not_run(&self, arguments: &[&str], why: &str) -> Failure {
        Failure::platform(format!("git {} did not run: {}", name(arguments), self.scrubbed(why)))
    }

    fn failed(&self, arguments: &[&str], status: ExitStatus, tail: &Tail) -> Failure {
        let name = name(arguments);
        if let Some(signal) = status.signal() {
            return Failure::platform(format!("git {name} was ended by signal {signal}"));
        }
        let code = status.code().unwrap_or_default();
        let text = tail.text(&self.scrubber);
        let (fault, why) = blame(&text);
        let message = format!("{why}git {name} failed with exit code {code}: {}", one_line(&text));
        Failure { fault, message }
    }
}

/// The command of git among its arguments.
fn name<'a>(arguments: &[&'a str]) -> &'a str {
    arguments.iter().find(|argument| !argument.starts_with('-')).copied().unwrap_or_default()
}

/// What all runs find in place.
fn prepare() -> io::Result<()> {
    fs::create_dir_all(HOME)?;
    // In a file, because git reads it only from there or from arguments: the owner of a folder is no defence in here.
    fs::write(
        GLOBAL,
        "[safe]\n\tdirectory = *\n[advice]\n\tdetachedHead = false\n[init]\n\tdefaultBranch = main\n",
    )
}

/// Replaces the settings that are in force beside those of the repository.
pub(super) fn set_global(text: &str) -> io::Result<()> {
    prepare()?;
    let all = fs::read_to_string(GLOBAL)? + text;
    fs::write(GLOBAL, all)
}

/// The end of a program's output.
#[derive(Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Tail {
    fn read(mut stream: impl Read) -> Self {
        let mut tail = Self::default();
        let mut buffer = [0; 8192];
        let mut watcher = Watcher::default();
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            let read = buffer.get(..read).unwrap_or_default();
            watcher.take(read);
            tail.bytes.extend_from_slice(read);
            if tail.bytes.len() > 2 * TAIL {
                tail.bytes.drain(..tail.bytes.len() - TAIL);
                tail.is_cut = true;
            }
        }
        tail
    }

    /// The last lines, without secrets.
    fn text(&self, scrubber: &Scrubber) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        // The beginning may be the end of a secret.
        let hidden = if self.is_cut { scrubber.longest().min(text.len()) } else { 0 };
        let whole: String = text.chars().skip(hidden).collect();
        let scrubbed = scrubber.scrub(&whole);
        // Progress overwrites its line.
        let lines = scrubbed.lines().filter_map(|line| line.trim_end().rsplit('\r').next());
        let lines: Vec<&str> = lines.filter(|line| !is_noise(line)).collect();
        lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_an_output_is_bounded_and_has_no_part_of_a_secret() {
        let secret = "0123456789abcdef";
        let scrubber = Scrubber::new([secret]);
        // Cut at every place within a secret.
        for shift in 0..secret.len() {
            let mut output = "x".repeat(shift);
            while output.len() < 3 * TAIL {
                output.push_str(secret);
            }
            let tail = Tail::read(output.as_bytes());
            assert!(tail.is_cut && tail.bytes.len() <= 2 * TAIL);
            let text = tail.text(&scrubber).replace("[redacted]", "");
            assert!(text.len() < secret.len(), "{text}");
        }
        let lines: Vec<String> = (0..100).map(|line| format!("line {line}\n")).collect();
        let text = Tail::read(lines.concat().as_bytes()).text(&scrubber);
        assert_eq!(text.lines().count(), TAIL_LINES);
        assert!(text.ends_with("line 99"));
    }

    #[test]
    fn the_command_of_git_is_found_behind_options() {
        assert_eq!(name(&["--no-optional-locks", "status", "-z"]), "status");
    }
}
