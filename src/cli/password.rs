//! Asks a person for a password on the terminal of the process, without showing it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, Result};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::failure::Usage;
use super::interrupt::Interrupted;

/// Bytes of a password.
const LONGEST: usize = 8192;

/// Asks on the terminal that the process belongs to, whatever its standard streams are.
pub fn ask(prompt: &str) -> Result<String> {
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/tty");
    let terminal = opened.map_err(|_| {
        Usage("there is no terminal to ask for a password: give a file with it instead".to_owned())
    })?;
    ask_on(&terminal, prompt)
}

fn ask_on(mut terminal: &File, prompt: &str) -> Result<String> {
    let failed = "failed to ask on the terminal";
    terminal.write_all(prompt.as_bytes()).context(failed)?;
    let line = {
        let _hidden = Hidden::new(terminal).context(failed)?;
        read_line(terminal).context(failed)?
    };
    terminal.write_all(b"\n").context(failed)?;
    match line {
        Line::Entered(bytes) => {
            Ok(String::from_utf8(bytes).map_err(|_| Usage("the password is not a text".to_owned()))?)
        }
        Line::Cancelled => Err(Interrupted("nothing was sent".to_owned()).into()),
        Line::TooLong => Err(Usage(format!("the password is longer than {LONGEST} bytes")).into()),
    }
}

/// A terminal that shows nothing of what is typed, until it is dropped. Keys that end a process are read as others are, because
/// the terminal would stay so.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn new(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        // What was typed before the question was not meant as the answer.
        tcsetattr(terminal, OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Entered(Vec<u8>),
    /// By Ctrl-C, or by the end of the input with nothing before it.
    Cancelled,
    TooLong,
}

fn read_line(mut terminal: impl io::Read) -> io::Result<Line> {
    let mut typed = Typed::default();
    let mut key = [0];
    loop {
        match terminal.read(&mut key) {
            Ok(0) => return Ok(typed.end()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if let Some(line) = typed.key(key[0]) {
            return Ok(line);
        }
    }
}

/// What was typed of a line.
#[derive(Default)]
struct Typed(Vec<u8>);

impl Typed {
    /// The line, once a key ends it.
    fn key(&mut self, key: u8) -> Option<Line> {
        const CTRL_C: u8 = 3;
        const CTRL_D: u8 = 4;
        const BACKSPACE: u8 = 8;
        const CTRL_U: u8 = 21;
        const CTRL_BACKSLASH: u8 = 28;
        const DELETE: u8 = 127;
        match key {
            b'\r' | b'\n' => return Some(Line::Entered(std::mem::take(&mut self.0))),
            CTRL_C | CTRL_BACKSLASH => return Some(Line::Cancelled),
            CTRL_D => return Some(self.end()),
            CTRL_U => self.0.clear(),
            // A whole character.
            BACKSPACE | DELETE => while self.0.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            _ if self.0.len() >= LONGEST => return Some(Line::TooLong),
            other => self.0.push(other),
        }
        None
    }

    fn end(&mut self) -> Line {
        if self.0.is_empty() { Line::Cancelled } else { Line::Entered(std::mem::take(&mut self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    #[test]
    fn keys_edit_the_line_and_end_it() {
        let line = |keys: &[u8]| read_line(keys).unwrap();
        let entered = |text: &str| Line::Entered(text.as_bytes().to_vec());
        assert_eq!(line(b"hunter2\nrest"), entered("hunter2"));
        assert_eq!(line(b"hunter2\r"), entered("hunter2"));
        assert_eq!(line("pä\u{7f}ass\u{8}\u{8}x\n".as_bytes()), entered("pax"));
        assert_eq!(line(b"\x7fwrong\x15right\n"), entered("right"));
        assert_eq!(line(b"no line break\x04"), entered("no line break"));
        assert_eq!(line(b"no line break"), entered("no line break"));
        for cancelled in [&b"hunter2\x03"[..], b"\x04", b"", b"a\x1c"] {
            assert_eq!(line(cancelled), Line::Cancelled);
        }
        assert_eq!(line(&[b'x'; LONGEST + 1]), Line::TooLong);
        assert_eq!(line(&[&[b'x'; LONGEST][..], b"\n"].concat()), Line::Entered(vec![b'x'; LONGEST]));
    }

    #[test]
    fn a_terminal_shows_the_question_and_never_the_answer_and_is_as_before_after_it() {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(name).unwrap();
        let before = tcgetattr(&theirs).unwrap();
        let modes = before.local_modes;
        assert!(modes.contains(LocalModes::ECHO | LocalModes::ISIG));
        for (keys, expected) in [(&b"hunter2\r"[..], Some("hunter2")), (b"hunter2\x03", None)] {
            let (mut person, mut seen) = (File::from(ours.try_clone().unwrap()), Vec::new());
            let asked = std::thread::spawn({
                let theirs = theirs.try_clone().unwrap();
                move || ask_on(&theirs, "Password: ")
            });
            let mut byte = [0];
            while !seen.ends_with(b"Password: ") {
                person.read_exact(&mut byte).unwrap();
                seen.push(byte[0]);
            }
            // The question is written before the terminal hides what is typed, and what is typed before that is dropped.
            while tcgetattr(&theirs).unwrap().local_modes.contains(LocalModes::ECHO) {
                std::thread::yield_now();
            }
            person.write_all(keys).unwrap();
            let answer = asked.join().unwrap();
            while !seen.ends_with(b"\n") {
                person.read_exact(&mut byte).unwrap();
                seen.push(byte[0]);
            }
            assert_eq!(answer.ok().as_deref(), expected);
            assert_eq!(String::from_utf8(seen).unwrap(), "Password: \r\n");
            assert_eq!(tcgetattr(&theirs).unwrap().local_modes, modes);
        }
    }
}
