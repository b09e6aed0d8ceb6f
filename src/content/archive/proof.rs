//! Comparing the index and the footer with what was restored.

use std::hash::Hasher as _;

use zstd::bulk::Decompressor;

use super::error::{Error, Rule};
use super::footer::{FOOTER_MAGIC, Footer, INDEX_MAGIC};
use super::index::{self, IndexRecord, Indexed};

pub(super) struct Proof<'h> {
    /// Hashes of the entries that were restored, in order.
    hashes: &'h [u64],
    sums: Sums,
    decoder: Decompressor<'static>,
    footer: Option<Footer>,
}

/// What the footer must say about the index.
struct Sums {
    entries: u64,
    frames: u64,
    data_length: u64,
    tar_length: u64,
    index_length: u64,
    index: blake3::Hasher,
    content: blake3::Hasher,
}

impl<'h> Proof<'h> {
    pub(super) fn new(hashes: &'h [u64]) -> Result<Self, Error> {
        let sums = Sums {
            entries: 0,
            frames: 0,
            data_length: 0,
            tar_length: 0,
            index_length: 0,
            index: blake3::Hasher::new(),
            content: blake3::Hasher::new(),
        };
        let decoder = Decompressor::new().map_err(Error::reading)?;
        Ok(Proof { hashes, sums, decoder, footer: None })
    }

    /// Takes the next skippable frame.
    pub(super) fn take(&mut self, magic: u32, frame: &[u8]) -> Result<(), Error> {
        if self.footer.is_some() {
            return Err(Error::Damaged("it has a frame after its footer"));
        }
        match magic {
            FOOTER_MAGIC => {
                self.footer = Some(Footer::decode(frame)?);
                Ok(())
            }
            INDEX_MAGIC => {
                let (hashes, sums) = (self.hashes, &mut self.sums);
                sums.index.update(frame);
                sums.index_length += frame.len() as u64;
                index::each_record(&mut self.decoder, frame, |record, bytes| sums.add(hashes, record, bytes))
            }
            _ => Err(Error::Damaged("it has a skippable frame of an unknown kind")),
        }
    }

    pub(super) fn finish(self) -> Result<Footer, Error> {
        let footer = self.footer.ok_or(Error::Early("its footer is missing"))?;
        let sums = self.sums;
        let expected = Footer {
            entries: self.hashes.len() as u64,
            frames: sums.frames,
            data_length: sums.data_length,
            tar_length: sums.tar_length,
            index_length: sums.index_length,
            index_digest: *sums.index.finalize().as_bytes(),
            content_digest: *sums.content.finalize().as_bytes(),
        };
        if footer != expected || sums.entries != footer.entries {
            return Err(Error::Damaged("its footer disagrees with its index or its entries"));
        }
        Ok(footer)
    }
}

impl Sums {
    fn add(&mut self, hashes: &[u64], record: IndexRecord, bytes: &[u8]) -> Result<(), Error> {
        match record {
            IndexRecord::Exclude(_) => {}
            IndexRecord::Frame { stored, size } => {
                self.frames += 1;
                self.data_length = self.data_length.saturating_add(stored);
                self.tar_length = self.tar_length.saturating_add(size);
            }
            IndexRecord::Entry(entry) => {
                let expected = usize::try_from(self.entries).ok().and_then(|number| hashes.get(number));
                if expected != Some(&hash(&entry)) {
                    return Err(Error::refused(&entry.member.path, Rule::Index));
                }
                self.content.update(bytes);
                self.entries += 1;
            }
        }
        Ok(())
    }
}

/// The same as the hash of a restored entry.
fn hash(entry: &Indexed) -> u64 {
    let mut hasher = entry.member.hasher();
    if let Some(digest) = &entry.digest {
        hasher.write(digest);
    }
    hasher.finish()
}
