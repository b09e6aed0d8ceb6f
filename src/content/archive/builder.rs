//! Builds the index while the archive is written, in bounded memory.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write};

use zstd::bulk::Compressor;

use super::error::Error;
use super::footer::Footer;
use super::index::{self, Indexed};
use super::sink::{Written, compressor};

/// A part is compressed once its records have this many bytes.
const PART: usize = 1 << 20;

/// Compressed parts: about 60 bytes an entry.
enum Spill {
    Memory(Vec<u8>),
    File(File),
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
            spill: spill.map_or(Spill::Memory(Vec::new()), Spill::File),
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
        match &mut self.spill {
            Spill::Memory(parts) => parts.extend_from_slice(&part),
            Spill::File(file) => file.write_all(&part).map_err(Error::writing)?,
        }
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
        match self.spill {
            Spill::Memory(parts) => written.put(&parts)?,
            Spill::File(file) => copy(file, written)?,
        }
        written.put(&footer.encode())?;
        written.out.flush().map_err(Error::writing)?;
        Ok(footer)
    }
}

fn copy<W: Write>(mut file: File, written: &mut Written<W>) -> Result<(), Error> {
    file.seek(SeekFrom::Start(0)).map_err(Error::writing)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut buffer).map_err(Error::writing)?;
        if count == 0 {
            return Ok(());
        }
        written.put(buffer.get(..count).unwrap_or_default())?;
    }
}
