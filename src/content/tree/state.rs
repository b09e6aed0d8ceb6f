//! The state file of unchanged content: the metadata of every entry when its content was last proven to be stored.
//!
//! Format: blocks of `length u32 LE, payload, BLAKE3 of (number of the block u64 LE, payload)`; the length 0 ends the
//! file. Block 0 is `SPSTATE` and the version, the time of the file (seconds i64, nanoseconds u32, LE), and the
//! digest of the excludes. Every other block holds whole entries: a path as the length that it shares with the path
//! before it and the rest, inode, size, mtime, ctime, mode with the kind, uid, gid. Numbers are LEB128. A block is
//! used only after its checksum was compared.

use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::{Duration, SystemTime};

use super::coding::{Cursor, put, put_bytes, put_signed};
use super::error::Error;
use super::excludes::Excludes;
use super::stat::{Kind, Stat, Time};
use super::walk::Walk;

const MAGIC: [u8; 8] = *b"SPSTATE\x01";
/// A block is written once it has this many bytes.
const BLOCK: usize = 64 << 10;
/// Longest block that is read: a full one, and one more entry with the longest path.
const LONGEST_BLOCK: usize = 2 << 20;
/// Two ticks of a kernel clock of 100 Hz. A file whose times are this close to those of the state file may change
/// again without a new time.
const RACY: Duration = Duration::from_millis(20);

/// An entry of a state file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last modification of the content.
    pub mtime: Time,
    /// Last change of content or metadata.
    pub ctime: Time,
    /// Kind.
    pub kind: Kind,
    /// Permission bits, setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl From<&Stat> for Record {
    fn from(stat: &Stat) -> Self {
        let Stat { inode, size, mtime, ctime, kind, mode, uid, gid, .. } = *stat;
        Record { inode, size, mtime, ctime, kind, mode, uid, gid }
    }
}

/// Writes a state file. Entries come in the order of a [`Walk`].
pub struct StateWriter<W> {
    out: W,
    block: Vec<u8>,
    number: u64,
    last: Vec<u8>,
    entries: u64,
}

impl<W: Write> StateWriter<W> {
    /// Begins a file. Blocks for 25 ms first, so that what was written just before is not too close to its time.
    pub fn begin(out: W, excludes: &Excludes) -> Result<Self, Error> {
        thread::sleep(RACY + Duration::from_millis(5));
        Self::begin_at(out, excludes, now())
    }

    pub(crate) fn begin_at(out: W, excludes: &Excludes, time: Time) -> Result<Self, Error> {
        let mut writer = StateWriter { out, block: Vec::new(), number: 0, last: Vec::new(), entries: 0 };
        writer.block.extend_from_slice(&MAGIC);
        writer.block.extend_from_slice(&time.seconds.to_le_bytes());
        writer.block.extend_from_slice(&time.nanos.to_le_bytes());
        writer.block.extend_from_slice(&excludes.digest());
        writer.flush()?;
        Ok(writer)
    }

    /// Adds an entry, with metadata from before its content was read.
    pub fn add(&mut self, path: &[u8], record: &Record) -> Result<(), Error> {
        let shared = path.iter().zip(&self.last).take_while(|(one, other)| one == other).count();
        let block = &mut self.block;
        put(block, shared as u64);
        put_bytes(block, path.get(shared..).unwrap_or_default());
        put(block, record.inode);
        put(block, record.size);
        for time in [record.mtime, record.ctime] {
            put_signed(block, time.seconds);
            put(block, u64::from(time.nanos));
        }
        put(block, u64::from(record.mode << 3 | kind_code(record.kind)));
        put(block, u64::from(record.uid));
        put(block, u64::from(record.gid));
        self.last.clear();
        self.last.extend_from_slice(path);
        self.entries += 1;
        if self.block.len() >= BLOCK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.block.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(self.block.len()).map_err(|_| Error::State("a block is too long"))?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&self.block)?;
        self.out.write_all(&checksum(self.number, &self.block))?;
        self.number += 1;
        self.block.clear();
        self.last.clear();
        Ok(())
    }

    /// Ends the file and returns the count of its entries. Only after that it can be read.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.flush()?;
        self.out.write_all(&0_u32.to_le_bytes())?;
        self.out.write_all(&checksum(self.number, &[]))?;
        self.out.flush()?;
        Ok(self.entries)
    }
}

/// Reads a state file entry by entry.
#[derive(Debug)]
pub struct StateReader<R> {
    source: R,
    block: Vec<u8>,
    at: usize,
    number: u64,
    path: Vec<u8>,
    time: Time,
    excludes: [u8; 32],
}

impl<R: Read> StateReader<R> {
    /// Reads the first block.
    pub fn open(source: R) -> Result<Self, Error> {
        let mut reader = StateReader {
            source,
            block: Vec::new(),
            at: 0,
            number: 0,
            path: Vec::new(),
            time: Time::default(),
            excludes: [0; 32],
        };
        let begun = reader.fill()? && reader.header().is_some();
        begun.then_some(reader).ok_or(Error::State("it does not begin as one, or is of another version"))
    }

    fn header(&mut self) -> Option<()> {
        let mut cursor = Cursor::new(&self.block);
        let magic = cursor.array::<8>()?;
        self.time.seconds = i64::from_le_bytes(cursor.array()?);
        self.time.nanos = u32::from_le_bytes(cursor.array()?);
        self.excludes = cursor.array()?;
        self.at = self.block.len();
        (magic == MAGIC && cursor.is_empty()).then_some(())
    }

    /// Digest of the excludes with which it was made.
    pub fn excludes(&self) -> [u8; 32] {
        self.excludes
    }

    /// Whether an entry with this time may have changed again without a new time.
    pub(crate) fn is_racy(&self, time: Time) -> bool {
        let nanos = |time: Time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        nanos(time) + i128::try_from(RACY.as_nanos()).unwrap_or(i128::MAX) >= nanos(self.time)
    }

    /// The next entry; `None` at the proven end of the file.
    #[allow(clippy::should_implement_trait, reason = "an entry borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<(&[u8], Record)>, Error> {
        if self.at >= self.block.len() && !self.fill()? {
            return Ok(None);
        }
        let record = self.entry().ok_or(Error::State("an entry is malformed"))?;
        Ok(Some((&self.path, record)))
    }

    fn entry(&mut self) -> Option<Record> {
        let rest = self.block.get(self.at..)?;
        let mut cursor = Cursor::new(rest);
        let shared = cursor.length()?;
        let added = cursor.bytes()?;
        if shared > self.path.len() {
            return None;
        }
        self.path.truncate(shared);
        self.path.extend_from_slice(added);
        let (inode, size) = (cursor.number()?, cursor.number()?);
        let mut times = [Time::default(); 2];
        for time in &mut times {
            *time = Time { seconds: cursor.signed()?, nanos: cursor.number32()? };
        }
        let [mtime, ctime] = times;
        let mode = cursor.number32()?;
        let kind = kind_of(mode & 7)?;
        let (uid, gid) = (cursor.number32()?, cursor.number32()?);
        self.at = self.block.len() - cursor.rest().len();
        Some(Record { inode, size, mtime, ctime, kind, mode: mode >> 3, uid, gid })
    }

    /// Reads and proves the next block; false at the end of the file.
    fn fill(&mut self) -> Result<bool, Error> {
        let mut length = [0; 4];
        self.source.read_exact(&mut length).map_err(early)?;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > LONGEST_BLOCK {
            return Err(Error::State("a block is too long"));
        }
        self.block.resize(length, 0);
        self.source.read_exact(&mut self.block).map_err(early)?;
        let mut digest = [0; 32];
        self.source.read_exact(&mut digest).map_err(early)?;
        if digest != checksum(self.number, &self.block) {
            return Err(Error::State("the checksum of a block is wrong"));
        }
        (self.at, self.number) = (0, self.number + 1);
        self.path.clear();
        Ok(length > 0)
    }
}

/// Writes the state of a tree that was just restored, or whose backup was proven at rest. Returns its count of entries.
pub fn record(root: BorrowedFd<'_>, excludes: &Excludes, out: impl Write) -> Result<u64, Error> {
    let mut state = StateWriter::begin(out, excludes)?;
    let mut walk = Walk::new(root, excludes);
    while let Some(entry) = walk.next()? {
        if let Some(failure) = entry.failure {
            return Err(Error::io("open", entry.path)(failure));
        }
        state.add(entry.path, &Record::from(&entry.stat))?;
    }
    state.finish()
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
}

fn checksum(number: u64, payload: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(payload);
    *hasher.finalize().as_bytes()
}

fn early(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return Error::State("it ends early");
    }
    error.into()
}

const KINDS: [Kind; 6] = [Kind::File, Kind::Directory, Kind::Symlink, Kind::Fifo, Kind::Socket, Kind::Device];

fn kind_code(kind: Kind) -> u32 {
    KINDS.iter().zip(0..).find(|(one, _)| **one == kind).map_or(7, |(_, code)| code)
}

fn kind_of(code: u32) -> Option<Kind> {
    KINDS.iter().zip(0..).find(|(_, one)| *one == code).map(|(kind, _)| *kind)
}
