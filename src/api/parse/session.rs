//! Requests of shells and forwarded ports.

use tonic::Status;

use super::Problems;
use domain::names::WorkspaceId;
use federation::workspaces::sessions::{Copying, Run, Size, Terminal};
use proto::spaceport::v1;
use proto::spaceport::v1::exec_files::Operation;
use proto::spaceport::v1::exec_start::Run as Wanted;

/// Bytes of a piece of input.
pub const PIECE_MAX: usize = 64 * 1024;
/// Arguments of a command.
const ARGUMENTS_MAX: usize = 1024;
/// Bytes of all of them. They go into a URL, where a byte may take three.
const ARGUMENT_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a path, as Linux allows.
const PATH_MAX: usize = 4096;
/// Characters of the type of a terminal.
const KIND_MAX: usize = 64;

/// What an `Exec` begins with.
pub struct Exec {
    pub id: WorkspaceId,
    /// What the audit log calls it.
    pub kind: &'static str,
    pub run: Run,
    pub terminal: Option<Terminal>,
}

/// The first request of `Exec`.
pub fn exec(start: v1::ExecStart) -> Result<Exec, Status> {
    let mut problems = Problems::default();
    let id = problems.parse("start.id", &start.id);
    let run = match start.run {
        Some(Wanted::Shell(_)) => Some(("shell", Run::Shell)),
        Some(Wanted::Command(command)) => {
            check_arguments(&mut problems, &command.arguments);
            Some(("command", Run::Command(command.arguments)))
        }
        Some(Wanted::Files(files)) => copying(&mut problems, files).map(|run| ("copy", run)),
        None => {
            problems.add("start.run", "is required: shell, command or files");
            None
        }
    };
    let terminal = start.terminal.and_then(|wanted| terminal(&mut problems, wanted));
    problems.finish(id.zip(run).map(|(id, (kind, run))| Exec { id, kind, run, terminal }))
}

/// The first request of `Forward`.
pub fn forward(start: &v1::ForwardStart) -> Result<(WorkspaceId, u16), Status> {
    let mut problems = Problems::default();
    let id = problems.parse("start.id", &start.id);
    let port = u16::try_from(start.port).ok().filter(|port| *port > 0);
    if port.is_none() {
        problems.add("start.port", "must be 1 to 65535");
    }
    problems.finish(id.zip(port))
}

/// The size of a terminal; `None` if it is none.
pub fn size(size: v1::TerminalSize) -> Option<Size> {
    let of = |number: u32| u16::try_from(number).ok().filter(|number| *number > 0);
    Some(Size { columns: of(size.columns)?, rows: of(size.rows)? })
}

fn check_arguments(problems: &mut Problems, arguments: &[String]) {
    const FIELD: &str = "start.command.arguments";
    let bytes: usize = arguments.iter().map(String::len).sum();
    if arguments.first().is_none_or(String::is_empty) {
        problems.add(FIELD, "must begin with a program");
    } else if arguments.len() > ARGUMENTS_MAX {
        problems.add(FIELD, "must not be more than 1024");
    } else if bytes > ARGUMENT_BYTES_MAX {
        problems.add(FIELD, "must not be longer than 16 KiB in all; send more by the input");
    } else if arguments.iter().any(|argument| argument.contains('\0')) {
        problems.add(FIELD, "must not contain NUL");
    }
}

fn copying(problems: &mut Problems, files: v1::ExecFiles) -> Option<Run> {
    const PATH: &str = "start.files.path";
    if files.path.is_empty() {
        problems.add(PATH, "is required");
    } else if files.path.len() > PATH_MAX {
        problems.add(PATH, "must not be longer than 4096 bytes");
    } else if files.path.contains('\0') {
        problems.add(PATH, "must not contain NUL");
    }
    let copying = match files.operation() {
        Operation::Examine => Copying::Examine,
        Operation::Read => Copying::Read,
        Operation::Write => Copying::Write,
        Operation::ReadFile => Copying::ReadFile,
        Operation::WriteFile => Copying::WriteFile,
        Operation::Unspecified => {
            problems.add("start.files.operation", "is required");
            return None;
        }
    };
    Some(Run::Files(copying, files.path))
}

fn terminal(problems: &mut Problems, wanted: v1::Terminal) -> Option<Terminal> {
    let size = wanted.size.and_then(size);
    if size.is_none() {
        problems.add("start.terminal.size", "must have 1 to 65535 columns and rows");
    }
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+".contains(&byte);
    if wanted.r#type.len() > KIND_MAX || !wanted.r#type.bytes().all(is_part) {
        problems.add("start.terminal.type", "must be at most 64 letters, digits, '-', '.', '_' or '+'");
    }
    Some(Terminal { size: size?, kind: wanted.r#type })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(arguments: &[&str]) -> v1::ExecStart {
        let arguments = arguments.iter().map(|one| (*one).to_owned()).collect();
        let run = Some(Wanted::Command(v1::ExecCommand { arguments }));
        v1::ExecStart { id: "ws".to_owned(), run, terminal: None }
    }

    fn rejected(start: v1::ExecStart) -> String {
        exec(start).map(|_| ()).unwrap_err().message().to_owned()
    }

    #[test]
    fn a_command_has_a_program_and_bounded_arguments() {
        let ok = exec(command(&["ls", "", "a b\n"])).unwrap();
        assert!(
            ok.kind == "command" && ok.run == Run::Command(vec!["ls".into(), String::new(), "a b\n".into()])
        );
        let long = "x".repeat(ARGUMENT_BYTES_MAX);
        for (arguments, rule) in [
            (vec![], "must begin with a program"),
            (vec![""], "must begin with a program"),
            (vec!["ls", long.as_str()], "16 KiB"),
            (vec!["a"; ARGUMENTS_MAX + 1], "1024"),
            (vec!["ls", "a\0b"], "NUL"),
        ] {
            let message = rejected(command(&arguments));
            assert!(message.starts_with("start.command.arguments") && message.contains(rule), "{message}");
        }
        assert!(rejected(v1::ExecStart { run: None, ..command(&[]) }).starts_with("start.run"));
        assert!(rejected(v1::ExecStart { id: "a b".to_owned(), ..command(&["ls"]) }).starts_with("start.id"));
    }

    #[test]
    fn a_terminal_has_a_size_and_a_type_that_is_a_name() {
        let of = |columns, rows, kind: &str| {
            let terminal =
                v1::Terminal { size: Some(v1::TerminalSize { columns, rows }), r#type: kind.to_owned() };
            exec(v1::ExecStart { terminal: Some(terminal), ..command(&["ls"]) }).map(|exec| exec.terminal)
        };
        let size = Size { columns: 80, rows: 24 };
        let kind = "xterm-256color".to_owned();
        assert_eq!(of(80, 24, &kind).unwrap(), Some(Terminal { size, kind }));
        for (columns, rows, kind) in [(0, 24, ""), (80, 65_536, ""), (80, 24, "x;y"), (80, 24, "$(x)")] {
            assert!(of(columns, rows, kind).is_err(), "{columns} {rows} {kind}");
        }
    }

    #[test]
    fn a_port_and_a_path_are_checked() {
        let port = |port| forward(&v1::ForwardStart { id: "ws".to_owned(), port });
        assert_eq!(port(8080).unwrap().1, 8080);
        assert!(port(0).is_err() && port(65_536).is_err());
        let copy = |operation: Operation, path: &str| {
            let files = v1::ExecFiles { operation: operation.into(), path: path.to_owned() };
            exec(v1::ExecStart { run: Some(Wanted::Files(files)), ..command(&[]) })
        };
        assert_eq!(copy(Operation::Read, "/a").unwrap().kind, "copy");
        let long = "x".repeat(PATH_MAX + 1);
        for (operation, path) in [
            (Operation::Read, ""),
            (Operation::Read, long.as_str()),
            (Operation::Read, "a\0"),
            (Operation::Unspecified, "a"),
        ] {
            assert!(copy(operation, path).is_err(), "{path}");
        }
    }
}
