//! A terminal for the command line under test.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use crate::story::SOON;

/// Both ends of a pseudo-terminal.
pub struct Pty {
    master: File,
    /// The end of the program; open as long as this, so that its modes can be read at the end.
    slave: OwnedFd,
    seen: Arc<Mutex<String>>,
    more: Arc<Notify>,
}

impl Pty {
    pub fn open(columns: u16, rows: u16) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        let pty = Self { master: master.into(), slave, seen: Arc::default(), more: Arc::default() };
        pty.resize(columns, rows)?;
        let (mut reader, seen, more) =
            (pty.master.try_clone()?, Arc::clone(&pty.seen), Arc::clone(&pty.more));
        // Ends with the terminal.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                seen.lock().push_str(&String::from_utf8_lossy(&buffer[..read]));
                more.notify_one();
            }
        });
        Ok(pty)
    }

    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&self.master, size)?)
    }

    /// Starts a program on the terminal.
    pub fn spawn(&self, mut command: Command) -> Result<Child> {
        let end = || Ok::<_, std::io::Error>(std::process::Stdio::from(self.slave.try_clone()?));
        Ok(command.stdin(end()?).stdout(end()?).stderr(end()?).spawn()?)
    }

    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        Ok((&self.master).write_all(bytes)?)
    }

    /// Waits until the program has written all of these, and forgets what was written until then.
    pub async fn reads(&self, parts: &[&str]) -> Result<()> {
        let reading = async {
            loop {
                if parts.iter().all(|part| self.seen.lock().contains(part)) {
                    self.seen.lock().clear();
                    return;
                }
                self.more.notified().await;
            }
        };
        let read = tokio::time::timeout(SOON, reading).await;
        read.with_context(|| format!("{parts:?} is not in {:?}", self.seen.lock()))
    }

    /// Whether the terminal echoes and sends signals, as it did before a program.
    pub fn is_cooked(&self) -> Result<bool> {
        let modes = tcgetattr(&self.slave)?.local_modes;
        Ok(modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG))
    }
}
