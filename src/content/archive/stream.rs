//! The tar stream as it comes: pieces of memory that are shared rather than copied.

use std::io::Read;
use std::sync::mpsc::Receiver;

use bytes::Bytes;

use super::error::Error;

/// Size of a piece that is read from a plain stream.
const PIECE: usize = 256 << 10;

/// Where the pieces come from.
pub(super) enum Pieces<'s> {
    /// An uncompressed stream.
    Plain(Box<dyn Read + 's>),
    /// Decoders of frames, which take turns.
    Decoders(Vec<Receiver<Result<Bytes, Error>>>),
}

/// A stream of bytes.
pub(super) struct Stream<'s> {
    pieces: Pieces<'s>,
    current: Bytes,
    turn: usize,
}

const EARLY: Error = Error::Early("the tar in it has no end");

impl<'s> Stream<'s> {
    pub(super) fn new(pieces: Pieces<'s>) -> Self {
        Stream { pieces, current: Bytes::new(), turn: 0 }
    }

    /// False at the end.
    fn fill(&mut self) -> Result<bool, Error> {
        while self.current.is_empty() {
            match &mut self.pieces {
                Pieces::Plain(source) => {
                    let mut piece = vec![0; PIECE];
                    let count = match source.read(&mut piece) {
                        Ok(0) => return Ok(false),
                        Ok(count) => count,
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                        Err(error) => return Err(Error::reading(error)),
                    };
                    piece.truncate(count);
                    self.current = piece.into();
                }
                Pieces::Decoders(decoders) => {
                    let Some(decoder) = decoders.get(self.turn % decoders.len().max(1)) else {
                        return Ok(false);
                    };
                    let Ok(piece) = decoder.recv() else { return Ok(false) };
                    self.current = piece?;
                    self.turn += 1;
                }
            }
        }
        Ok(true)
    }

    pub(super) fn is_at_end(&mut self) -> Result<bool, Error> {
        self.fill().map(|more| !more)
    }

    /// The next bytes, at least one and at most `most`.
    pub(super) fn some(&mut self, most: u64) -> Result<Bytes, Error> {
        if !self.fill()? {
            return Err(EARLY);
        }
        let count = usize::try_from(most).unwrap_or(usize::MAX).min(self.current.len());
        Ok(self.current.split_to(count))
    }

    /// Exactly the next `count` bytes, copied only where they are in two pieces.
    pub(super) fn exact(&mut self, count: usize) -> Result<Bytes, Error> {
        if count == 0 {
            return Ok(Bytes::new());
        }
        let first = self.some(count as u64)?;
        if first.len() == count {
            return Ok(first);
        }
        let mut whole = Vec::with_capacity(count);
        whole.extend_from_slice(&first);
        while whole.len() < count {
            let left = count - whole.len();
            whole.extend_from_slice(&self.some(left as u64)?);
        }
        Ok(whole.into())
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<(), Error> {
        let mut left = count;
        while left > 0 {
            left -= self.some(left as u64)?.len();
        }
        Ok(())
    }
}
