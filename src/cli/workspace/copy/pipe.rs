//! Joins archives, which are read and written by blocking threads, with sessions.

use std::io::{self, Read, Write};

use tokio::sync::mpsc;

use crate::workspace::session::PIECE;

/// Pieces between the two.
const PIECES: usize = 4;

pub type Pieces = mpsc::Receiver<Vec<u8>>;
pub type Sender = mpsc::Sender<Vec<u8>>;

/// A pipe.
pub fn pipe() -> (Sender, Pieces) {
    mpsc::channel(PIECES)
}

/// The blocking end that is written.
pub struct Writer {
    sender: Sender,
    piece: Vec<u8>,
}

impl Writer {
    pub fn new(sender: Sender) -> Self {
        Self { sender, piece: Vec::with_capacity(PIECE) }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.get(..bytes.len().min(PIECE - self.piece.len())).unwrap_or_default();
        self.piece.extend_from_slice(taken);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.sender.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// The blocking end that is read.
pub struct Reader {
    pieces: Pieces,
    piece: io::Cursor<Vec<u8>>,
}

impl Reader {
    pub fn new(pieces: Pieces) -> Self {
        Self { pieces, piece: io::Cursor::default() }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.piece.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = io::Cursor::new(piece),
                None => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_as_they_are_and_their_end_too() {
        let (sender, pieces) = pipe();
        let sent: Vec<u8> = (0..PIECE * 7 + 5).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let copy = sent.clone();
        let writing = std::thread::spawn(move || {
            let mut writer = Writer::new(sender);
            writer.write_all(&copy).unwrap();
            writer.flush().unwrap();
        });
        let mut received = Vec::new();
        Reader::new(pieces).read_to_end(&mut received).unwrap();
        writing.join().unwrap();
        assert!(received == sent);
    }

    #[test]
    fn a_writer_without_a_reader_fails() {
        let (sender, pieces) = pipe();
        drop(pieces);
        assert!(Writer::new(sender).write_all(&vec![0; PIECE]).is_err());
    }
}
