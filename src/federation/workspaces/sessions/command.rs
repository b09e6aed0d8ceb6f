//! What runs in a container for a session.
//!
//! A shell of the image reports the process id first, and then runs the command. With the id, a second call can hang
//! up the command when its client has left: a cluster does not do that.

use member::sessions::Command;

/// What to run.
#[derive(Clone, PartialEq, Eq)]
pub enum Run {
    /// A login shell.
    Shell,
    /// A program with its arguments.
    Command(Vec<String>),
    /// A part of copying files.
    Files(Copying, String),
}

/// A part of copying files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copying {
    /// Ends with 0 at a folder, with 1 at something else, with 2 at nothing; with 10 more if there is no tar.
    Examine,
    /// Writes an archive of the path.
    Read,
    /// Extracts an archive into the folder.
    Write,
    /// Writes the content of a file.
    ReadFile,
    /// Overwrites a file.
    WriteFile,
}

/// A terminal of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// Its size.
    pub size: Size,
    /// Its type; empty for that of the node.
    pub kind: String,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// In a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

const SHELL: &str = "/bin/sh";
/// Before the process id of a command, on a line of its own.
const MARK: &[u8] = b"spaceport-session ";
/// Bytes of that line, at most: a number and its line end.
const LINE: usize = MARK.len() + 24;
/// Reports the process id, enters the folder of the repository, and sets the type of the terminal.
const BEGIN: &str = "echo \"spaceport-session $$\"; \
    CDPATH= cd \"${GITPOD_REPO_ROOT:-/workspace}\" 2>/dev/null || cd /workspace 2>/dev/null; \
    [ -z \"$1\" ] || export TERM=\"$1\"; shift; ";
const LOGIN: &str = "[ ! -x /bin/bash ] || exec /bin/bash -l; exec /bin/sh -l";
const PROGRAM: &str = "exec \"$@\"";
/// Without a terminal the shell waits for the command, and ends after it. containerd ends the input of a command whose
/// output is closed by all processes, as `cat >file` does; so the shell keeps it open.
const WAITED: &str = "trap : HUP; \"$@\"; exit $?";
const EXAMINE: &str = "n=0; command -v tar >/dev/null || n=10; \
    if [ -d \"$1\" ]; then exit $n; fi; \
    if [ -e \"$1\" ] || [ -L \"$1\" ]; then exit $((n + 1)); fi; exit $((n + 2))";
/// If the path is a link, what it leads to is copied.
const READ: &str = "CDPATH= cd \"$1\" || exit 1; if [ -d \"./$2\" ]; then exec tar -cf - \"./$2/\"; fi; \
    exec tar -chf - \"./$2\"";
const WRITE: &str = "CDPATH= cd \"$1\" && exec tar -xopf -";
const READ_FILE: &str = "exec cat <\"$1\"";
const WRITE_FILE: &str = "cat >\"$1\"; exit $?";
/// Hangs up the process group of a command; kills it if the command does not end.
const HANG_UP: &str = "kill -HUP -- \"-$1\" 2>/dev/null || kill -HUP \"-$1\" 2>/dev/null || kill -HUP \"$1\" 2>/dev/null; \
    n=0; while kill -0 \"$1\" 2>/dev/null && [ $n -lt 5 ]; do sleep 1; n=$((n + 1)); done; \
    kill -0 \"$1\" 2>/dev/null || exit 0; kill -KILL -- \"-$1\" 2>/dev/null || kill -KILL \"-$1\" 2>/dev/null; exit 0";

/// The command by way of a shell of the image. The shell's first line is a [`mark`].
pub(super) fn by_shell(run: &Run, terminal: Option<&Terminal>) -> Command {
    let (script, arguments) = match run {
        Run::Shell => (LOGIN, Vec::new()),
        Run::Command(arguments) => (if terminal.is_some() { PROGRAM } else { WAITED }, arguments.clone()),
        Run::Files(copying, path) => copies(*copying, path),
    };
    let kind = terminal.map_or("", |terminal| &terminal.kind);
    let fixed = [SHELL, "-c", &format!("{BEGIN}{script}"), "sh", kind].map(str::to_owned);
    Command {
        arguments: fixed.into_iter().chain(arguments).collect(),
        terminal: terminal.is_some(),
        input: !matches!(run, Run::Files(Copying::Examine | Copying::Read | Copying::ReadFile, _)),
    }
}

/// The command by itself, for images without a shell; `None` if it needs one.
pub(super) fn directly(run: &Run, terminal: Option<&Terminal>) -> Option<Command> {
    let Run::Command(arguments) = run else { return None };
    Some(Command { arguments: arguments.clone(), terminal: terminal.is_some(), input: true })
}

/// Hangs up the command with a process id.
pub(super) fn hang_up(process: u32) -> Command {
    let arguments = [SHELL, "-c", HANG_UP, "sh", &process.to_string()].map(str::to_owned).into();
    Command { arguments, terminal: false, input: false }
}

fn copies(copying: Copying, path: &str) -> (&'static str, Vec<String>) {
    // Otherwise it may look like an option.
    let path = if path.starts_with('-') { format!("./{path}") } else { path.to_owned() };
    match copying {
        Copying::Examine => (EXAMINE, vec![path]),
        Copying::Write => (WRITE, vec![path]),
        Copying::ReadFile => (READ_FILE, vec![path]),
        Copying::WriteFile => (WRITE_FILE, vec![path]),
        Copying::Read => {
            let (folder, name) = split(&path);
            (READ, vec![folder.to_owned(), name.to_owned()])
        }
    }
}

/// The folder of a path, and its name there. A path that ends in no name is a folder, whose content is at `.`.
fn split(path: &str) -> (&str, &str) {
    let trimmed = path.trim_end_matches('/');
    let (folder, name) = match trimmed.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
        None => (".", trimmed),
    };
    match name {
        "" if path.starts_with('/') => ("/", "."),
        "" | "." | ".." => (path, "."),
        name => (folder, name),
    }
}

/// The process id of a command by the beginning of its output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// More of the output is needed.
    Partial,
    /// The process id, and how many bytes tell it.
    Process(u32, usize),
    /// The output begins with something else.
    None,
}

pub(super) fn mark(output: &[u8]) -> Mark {
    let known = output.len().min(MARK.len());
    if output.get(..known) != MARK.get(..known) {
        return Mark::None;
    }
    let Some(end) = output.iter().position(|byte| *byte == b'\n') else {
        return if output.len() < LINE { Mark::Partial } else { Mark::None };
    };
    let number = output.get(MARK.len()..end).and_then(|line| std::str::from_utf8(line).ok());
    // A terminal ends lines with a carriage return, too.
    match number.and_then(|number| number.trim_end_matches('\r').parse().ok()) {
        // Process 1 is the container's.
        Some(process) if process > 1 => Mark::Process(process, end + 1),
        _ => Mark::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_id_is_read_however_the_output_is_cut_and_nothing_else_is_taken_for_one() {
        let line = b"spaceport-session 4711\r\n$ ";
        for cut in 0..=23 {
            assert_eq!(mark(&line[..cut]), Mark::Partial, "{cut}");
        }
        assert_eq!(mark(line), Mark::Process(4711, 24));
        assert_eq!(mark(b"spaceport-session 7\nx"), Mark::Process(7, 20));
        for other in [
            "hello",
            "spaceport-session 1\n",
            "spaceport-session 0\n",
            "spaceport-session -5\n",
            "spaceport-session x\n",
        ] {
            assert_eq!(mark(other.as_bytes()), Mark::None, "{other}");
        }
        assert_eq!(mark(format!("spaceport-session {}", "1".repeat(40)).as_bytes()), Mark::None);
    }

    #[test]
    fn a_path_is_split_into_folder_and_name_and_a_path_without_a_name_is_its_content() {
        for (path, folder, name) in [
            ("/workspace/app", "/workspace", "app"),
            ("/workspace/app//", "/workspace", "app"),
            ("/app", "/", "app"),
            ("app", ".", "app"),
            ("a/b", "a", "b"),
            ("/", "/", "."),
            ("//", "/", "."),
            (".", ".", "."),
            ("a/..", "a/..", "."),
        ] {
            assert_eq!(split(path), (folder, name), "{path}");
        }
    }

    #[test]
    fn arguments_and_paths_are_never_a_part_of_a_script() {
        let evil = "$(touch /tmp/x); -rf '\"";
        let runs = [
            Run::Command(vec![evil.to_owned()]),
            Run::Files(Copying::Examine, evil.to_owned()),
            Run::Files(Copying::Read, evil.to_owned()),
            Run::Files(Copying::Write, evil.to_owned()),
        ];
        for run in runs {
            let command = by_shell(&run, None);
            assert_eq!(command.arguments[..2], ["/bin/sh", "-c"]);
            assert!(!command.arguments[2].contains("touch"));
        }
        let dashed = by_shell(&Run::Files(Copying::Write, "-C".to_owned()), None);
        assert_eq!(dashed.arguments.last().unwrap(), "./-C");
    }
}
