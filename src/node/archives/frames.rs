//! Frames that share the helper's output.

use std::io::{self, Write};

use parking_lot::Mutex;

/// Bytes of one frame.
pub const FRAME_MAX: usize = 256 * 1024;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes of an archive, or of a log.
    Data,
    /// Bytes of the tree state.
    Tree,
    /// The name of the log whose bytes follow.
    Name,
    /// Nothing follows: the work is complete.
    End,
}

impl Kind {
    const ALL: [(Self, u8); 4] =
        [(Self::Data, b'd'), (Self::Tree, b't'), (Self::Name, b'n'), (Self::End, b'e')];

    fn byte(self) -> u8 {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, byte)| *byte)
    }
}

/// Reads the beginning of a frame: what it is, and how many bytes follow.
pub fn header(bytes: [u8; 5]) -> io::Result<(Kind, usize)> {
    let [kind, length @ ..] = bytes;
    let kind = Kind::ALL.iter().find(|(_, byte)| *byte == kind).map(|(kind, _)| *kind);
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    match kind {
        Some(kind) if length <= FRAME_MAX => Ok((kind, length)),
        _ => Err(io::Error::other("the helper's output is not made of frames")),
    }
}

/// The output, for several writers.
pub(super) struct Frames<'a> {
    output: Mutex<&'a mut (dyn Write + Send)>,
}

impl<'a> Frames<'a> {
    pub(super) fn new(output: &'a mut (dyn Write + Send)) -> Self {
        Self { output: Mutex::new(output) }
    }

    /// A writer of frames of one kind.
    pub(super) fn of<'f>(&'f self, kind: Kind) -> Framed<'f, 'a> {
        Framed { frames: self, kind, written: 0, progress: None }
    }

    pub(super) fn put(&self, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut output = self.output.lock();
        output.write_all(&[kind.byte()])?;
        output.write_all(&length.to_be_bytes())?;
        output.write_all(bytes)
    }
}

/// Writes frames of one kind.
pub(super) struct Framed<'f, 'a> {
    frames: &'f Frames<'a>,
    kind: Kind,
    written: u64,
    progress: Option<&'f mut (dyn FnMut(u64) + Send)>,
}

impl<'f> Framed<'f, '_> {
    /// Reports the bytes so far.
    pub(super) fn with(mut self, progress: &'f mut (dyn FnMut(u64) + Send)) -> Self {
        self.progress = Some(progress);
        self
    }
}

impl Write for Framed<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = bytes.get(..bytes.len().min(FRAME_MAX)).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(0);
        }
        self.frames.put(self.kind, bytes)?;
        self.written += bytes.len() as u64;
        if let Some(progress) = &mut self.progress {
            progress(self.written);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.frames.output.lock().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_several_writers_come_whole_and_say_their_length() {
        let mut output = Vec::new();
        {
            let frames = Frames::new(&mut output);
            frames.of(Kind::Data).write_all(&vec![1; FRAME_MAX + 3]).unwrap();
            frames.of(Kind::Tree).write_all(b"ab").unwrap();
            frames.put(Kind::End, b"").unwrap();
        }
        let (mut rest, mut found) = (&output[..], Vec::new());
        while let Some((first, after)) = rest.split_first_chunk::<5>() {
            let (kind, length) = header(*first).unwrap();
            found.push((kind, length));
            rest = &after[length..];
        }
        assert_eq!(found, [(Kind::Data, FRAME_MAX), (Kind::Data, 3), (Kind::Tree, 2), (Kind::End, 0)]);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert!(header(*b"x\0\0\0\0").is_err());
        assert!(header(*b"d\xff\xff\xff\xff").is_err());
    }
}
