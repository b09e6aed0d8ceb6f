//! The way of the bytes of an archive: frames of 1 to 4 MiB, compressed by threads, written in order.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::error::Error;
use super::frames::FRAME;

/// A frame is ended before an entry that does not fit once it has this much.
const SMALLEST: usize = 1 << 20;

/// A buffer of `FRAME` bytes and how many of them are used.
type Filled = (Vec<u8>, usize);

/// The end of the pipeline where bytes go in.
pub(super) struct Sink {
    buffer: Vec<u8>,
    used: usize,
    frame: u64,
    total: u64,
    full: Vec<SyncSender<Filled>>,
    free: Receiver<Vec<u8>>,
}

/// What came out.
pub(super) struct Written<W> {
    pub(super) out: W,
    pub(super) hasher: blake3::Hasher,
    pub(super) length: u64,
    /// Stored length and length of the content of each frame.
    pub(super) frames: Vec<(u32, u32)>,
}

/// The threads of the pipeline.
pub(super) struct Pipeline<'s, W> {
    writer: ScopedJoinHandle<'s, Result<Written<W>, Error>>,
}

/// Makes the encoder of every frame.
pub(super) fn compressor(level: i32) -> Result<Compressor<'static>, Error> {
    let mut compressor = Compressor::new(level).map_err(Error::writing)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true)).map_err(Error::writing)?;
    Ok(compressor)
}

/// Starts `threads` encoders and one writer.
pub(super) fn start<'s, W: Write + Send + 's>(
    scope: &'s Scope<'s, '_>,
    out: W,
    level: i32,
    threads: usize,
) -> Result<(Sink, Pipeline<'s, W>), Error> {
    let threads = threads.max(1);
    let (give_back, free) = sync_channel(threads + 2);
    for _ in 0..=threads {
        // One is in use, one fills, and each thread has one.
        give_back.send(vec![0; FRAME]).map_err(|_| Error::Stopped)?;
    }
    let (mut full, mut results) = (Vec::new(), Vec::new());
    for _ in 0..threads {
        let (sender, jobs) = sync_channel::<Filled>(1);
        let (done, result) = sync_channel(1);
        let (encoder, give_back) = (compressor(level)?, give_back.clone());
        scope.spawn(move || encode(encoder, &jobs, &give_back, &done));
        full.push(sender);
        results.push(result);
    }
    let writer = scope.spawn(move || write(out, &results));
    let sink = Sink { buffer: vec![0; FRAME], used: 0, frame: 0, total: 0, full, free };
    Ok((sink, Pipeline { writer }))
}

impl<W> Pipeline<'_, W> {
    /// The result of the writer; the sink must be gone.
    pub(super) fn join(self) -> Result<Written<W>, Error> {
        self.writer.join().unwrap_or(Err(Error::Stopped))
    }
}

type Encoded = Result<(Vec<u8>, u32), Error>;

fn encode(
    mut encoder: Compressor<'_>,
    jobs: &Receiver<Filled>,
    free: &SyncSender<Vec<u8>>,
    done: &SyncSender<Encoded>,
) {
    for (buffer, used) in jobs {
        let content = buffer.get(..used).unwrap_or_default();
        let encoded = encoder.compress(content).map_err(Error::writing);
        let encoded = encoded.map(|bytes| (bytes, u32::try_from(used).unwrap_or_default()));
        // Either end may be gone after an error, which that end reports.
        let _ = free.send(buffer);
        if done.send(encoded).is_err() {
            return;
        }
    }
}

fn write<W: Write>(out: W, results: &[Receiver<Encoded>]) -> Result<Written<W>, Error> {
    let mut written = Written { out, hasher: blake3::Hasher::new(), length: 0, frames: Vec::new() };
    for result in results.iter().cycle() {
        let Ok(encoded) = result.recv() else { break };
        let (bytes, size) = encoded?;
        written.put(&bytes)?;
        written.frames.push((u32::try_from(bytes.len()).unwrap_or(u32::MAX), size));
    }
    Ok(written)
}

impl<W: Write> Written<W> {
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(Error::writing)?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl Sink {
    /// Begins an entry of this length; returns its frame and its offset in that.
    pub(super) fn begin(&mut self, length: u64) -> Result<(u64, u64), Error> {
        let left = (FRAME - self.used) as u64;
        if self.used >= SMALLEST && length > left || left == 0 {
            self.cut()?;
        }
        Ok((self.frame, self.used as u64))
    }

    /// Space for the next bytes, never empty; [`Sink::advance`] says how many were put there.
    pub(super) fn space(&mut self) -> Result<&mut [u8], Error> {
        if self.used == FRAME {
            self.cut()?;
        }
        Ok(self.buffer.get_mut(self.used..).unwrap_or_default())
    }

    pub(super) fn advance(&mut self, count: usize) {
        self.used = (self.used + count).min(FRAME);
        self.total += count as u64;
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let space = self.space()?;
            let count = space.len().min(bytes.len());
            let (now, later) = bytes.split_at(count);
            space.get_mut(..count).unwrap_or_default().copy_from_slice(now);
            self.advance(count);
            bytes = later;
        }
        Ok(())
    }

    pub(super) fn zeros(&mut self, mut count: u64) -> Result<(), Error> {
        while count > 0 {
            let space = self.space()?;
            let now = usize::try_from(count).unwrap_or(usize::MAX).min(space.len());
            space.get_mut(..now).unwrap_or_default().fill(0);
            self.advance(now);
            count -= now as u64;
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<(), Error> {
        let next = self.free.recv().map_err(|_| Error::Stopped)?;
        let buffer = std::mem::replace(&mut self.buffer, next);
        let turn = usize::try_from(self.frame).unwrap_or_default() % self.full.len().max(1);
        let sender = self.full.get(turn).ok_or(Error::Stopped)?;
        sender.send((buffer, self.used)).map_err(|_| Error::Stopped)?;
        self.used = 0;
        self.frame += 1;
        Ok(())
    }

    /// Sends the last frame and returns the length of everything that was put in.
    pub(super) fn finish(mut self) -> Result<u64, Error> {
        if self.used > 0 {
            self.cut()?;
        }
        Ok(self.total)
    }
}
