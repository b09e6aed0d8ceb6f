//! Decoding an archive while it streams in: one thread finds the frames, others decode them in turns.

use std::io::{BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use bytes::Bytes;
use zstd::bulk::Decompressor;

use super::error::Error;
use super::frames::{self, Frame};

/// A skippable frame: its magic number, and its bytes with the header.
pub(super) type Trailing = (u32, Vec<u8>);

/// The ends of the pipeline where decoded frames come out.
pub(super) struct Decoding<'s> {
    /// The decoders, which take turns.
    pub(super) pieces: Vec<Receiver<Result<Bytes, Error>>>,
    /// The frames after the data.
    pub(super) trailing: Receiver<Trailing>,
    pub(super) scanner: ScopedJoinHandle<'s, Result<(), Error>>,
}

/// Starts the threads.
pub(super) fn start<'s, R: Read + Send + 's>(
    scope: &'s Scope<'s, '_>,
    source: R,
    threads: usize,
) -> Result<Decoding<'s>, Error> {
    let (mut senders, mut pieces) = (Vec::new(), Vec::new());
    for _ in 0..threads.max(1) {
        let (sender, jobs) = sync_channel(1);
        let (done, piece) = sync_channel(1);
        let decoder = Decompressor::new().map_err(Error::reading)?;
        scope.spawn(move || decode(decoder, &jobs, &done));
        senders.push(sender);
        pieces.push(piece);
    }
    let (trail, trailing) = sync_channel(1);
    let scanner = scope.spawn(move || scan(source, senders, &trail));
    Ok(Decoding { pieces, trailing, scanner })
}

fn scan(
    source: impl Read,
    senders: Vec<SyncSender<(Vec<u8>, usize)>>,
    trail: &SyncSender<Trailing>,
) -> Result<(), Error> {
    let mut source = BufReader::with_capacity(256 << 10, source);
    let mut senders = Some(senders);
    let mut turn = 0;
    while let Some(frame) = frames::next(&mut source)? {
        let taken = match frame {
            Frame::Data { bytes, size } => {
                let senders = senders.as_ref().ok_or(Error::Damaged("it has data after its index"))?;
                let sender = senders.get(turn % senders.len().max(1)).ok_or(Error::Stopped)?;
                turn += 1;
                sender.send((bytes, size)).is_ok()
            }
            Frame::Skippable { magic, bytes } => {
                senders = None;
                trail.send((magic, bytes)).is_ok()
            }
        };
        if !taken {
            // The reader failed, and says why.
            return Ok(());
        }
    }
    Ok(())
}

fn decode(
    mut decoder: Decompressor<'_>,
    jobs: &Receiver<(Vec<u8>, usize)>,
    done: &SyncSender<Result<Bytes, Error>>,
) {
    for (bytes, size) in jobs {
        let decoded = frames::decode(&mut decoder, &bytes, size).map(Bytes::from);
        let failed = decoded.is_err();
        if done.send(decoded).is_err() || failed {
            return;
        }
    }
}
