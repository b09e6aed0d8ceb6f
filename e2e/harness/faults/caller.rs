//! Finds the process of this machine that a connection comes from, through `/proc`.
//!
//! So one proxy can disconnect a single replica without a change of any configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use parking_lot::Mutex;

/// The client side of a connection.
pub(super) struct Caller {
    /// Its socket inode, if `/proc` has it.
    socket: Option<String>,
    /// Processes checked so far, and whether they hold the socket.
    looked: Mutex<BTreeMap<u32, bool>>,
    /// Number of resets before the connection began.
    pub(super) resets: u64,
}

impl Caller {
    /// Of a connection from `client` to `server`; call it while the connection is open.
    pub(super) fn of(client: SocketAddr, server: SocketAddr) -> Self {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let socket = inode(&table, client, server).map(|inode| format!("socket:[{inode}]"));
        Self { socket, looked: Mutex::default(), resets: 0 }
    }

    /// The process among these that holds the socket.
    pub(super) fn among<'a>(&self, pids: impl Iterator<Item = &'a u32>) -> Option<u32> {
        let socket = self.socket.as_ref()?;
        let mut looked = self.looked.lock();
        pids.copied().find(|pid| *looked.entry(*pid).or_insert_with(|| holds(*pid, socket)))
    }
}

/// Whether a process has the file open.
fn holds(pid: u32, file: &str) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten()
        .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == file))
}

/// Inode of the socket in the table of connections.
fn inode(table: &str, client: SocketAddr, server: SocketAddr) -> Option<u64> {
    let (client, server) = (hex(client)?, hex(server)?);
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let ours = fields.next()? == client && fields.next()? == server;
        if ours { fields.nth(6)?.parse().ok() } else { None }
    })
}

/// An address in the format of that table, in the byte order of the machine.
fn hex(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
}
