//! Builds the index while the archive is written, in bounded memory.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt as _;

use zstd::bulk::Compressor;

use super::error::Error;
use super::footer::Footer;
use super::index::{self, Indexed};
use super::sink::{Written, compressor};

/// A part is compressed once its records have this many bytes.
const PART: usize = 1 << 20;

/// Compressed parts stay in memory until they have this many bytes.
const IN_MEMORY: usize = 4 << 20;

/// Compressed parts, about 60 bytes an entry: the first ones in a file, if there is one and it has space, the others in memory.
struct Spill {
    file: Option<File>,
    in_file: u64,
    memory: Vec<u8>,
    is_full: bool,
}

impl Spill {
    fn put(&mut self, part: &[u8]) {
        self.memory.extend_from_slice(part);
        let file = self.file.as_ref().filter(|_| self.memory.len() >= IN_MEMORY && !self.is_full);
        match file.map(|file| file.write_all_at(&self.memory, self.in_file)) {
            Some(Ok(())) => {
                self.in_file += self.memory.len() as u64;
                self.memory.clear();
            }
            // A full disk must not cost the backup.
            Some(Err(_)) => self.is_full = true,
            None => {}
        }
    }

    fn copy<W: Write>(&self, written: &mut Written<W>) -> Result<(), Error> {
        let mut buffer = vec![0; 256 << 10];
        let mut at = 0;
        while let Some(file) = self.file.as_ref().filter(|_| at < self.in_file) {
            let left = usize::try_from(self.in_file - at).unwrap_or(usize::MAX).min(buffer.len());
            let piece = buffer.get_mut(..left).unwrap_or_default();
            file.read_exact_at(piece, at).map_err(Error::writing)?;
            written.put(piece)?;
            at += left as u64;
        }
        written.put(&self.memory)
    }
}

pub(super) struct Builder {
    records: Vec<u8>,
    payload: Vec<u8>,
    compressor: Compressor<'static>,
    spill: Spill,
    length: u64,
    digest: blake3::Hasher,
    content: blake3::Hasher,
    entries: u64,
}

impl Builder {
    pub(super) fn new(level: i32, spill: Option<File>, excludes: &[String]) -> Result<Self, Error> {
        let mut records = Vec::new();
        for pattern in excludes {
            index::put_exclude(&mut records, pattern);
        }
        Ok(Builder {
            records,
            payload: Vec::new(),
            compressor: compressor(level)?,
            spill: Spill { file: spill, in_file: 0, memory: Vec::new(), is_full: false },
            length: 0,
            digest: blake3::Hasher::new(),
            content: blake3::Hasher::new(),
            entries: 0,
        })
    }

    pub(super) fn add(&mut self, entry: &Indexed) -> Result<(), Error> {
        let record = index::put_entry(&mut self.records, &mut self.payload, entry);
        self.content.update(record);
        self.entries += 1;
        self.flush_if_full()
    }

    fn flush_if_full(&mut self) -> Result<(), Error> {
        if self.records.len() >= PART { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let compressed = self.compressor.compress(&self.records).map_err(Error::writing)?;
        let part = index::wrap(&compressed)?;
        self.digest.update(&part);
        self.length += part.len() as u64;
        self.records.clear();
        self.spill.put(&part);
        Ok(())
    }

    /// Writes index and footer after the frames.
    pub(super) fn finish<W: Write>(
        mut self,
        written: &mut Written<W>,
        tar_length: u64,
    ) -> Result<Footer, Error> {
        let frames = std::mem::take(&mut written.frames);
        for (stored, size) in &frames {
            index::put_frame(&mut self.records, u64::from(*stored), u64::from(*size));
            self.flush_if_full()?;
        }
        self.flush()?;
        let footer = Footer {
            entries: self.entries,
            frames: frames.len() as u64,
            data_length: written.length,
            tar_length,
            index_length: self.length,
            index_digest: *self.digest.finalize().as_bytes(),
            content_digest: *self.content.finalize().as_bytes(),
        };
        self.spill.copy(written)?;
        written.put(&footer.encode())?;
        written.out.flush().map_err(Error::writing)?;
        Ok(footer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(file: Option<File>) -> (Vec<u8>, u64, bool) {
        let mut spill = Spill { file, in_file: 0, memory: Vec::new(), is_full: false };
        for number in 0..5 {
            spill.put(&vec![number; 3 << 20]);
        }
        let mut written =
            Written { out: Vec::new(), hasher: blake3::Hasher::new(), length: 0, frames: Vec::new() };
        spill.copy(&mut written).unwrap();
        (written.out, spill.in_file, spill.is_full)
    }

    #[test]
    fn a_large_index_is_in_the_file_and_stays_in_memory_once_that_has_no_space() {
        let (expected, in_file, _) = copied(None);
        assert_eq!((expected.len(), in_file), (15 << 20, 0));
        let file = tempfile::tempfile().unwrap();
        assert!(copied(Some(file)) == (expected.clone(), 12 << 20, false));
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        assert!(copied(Some(full)) == (expected, 0, true));
    }
}
