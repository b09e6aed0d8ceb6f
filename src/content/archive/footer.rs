//! The footer: where the index is and what it must be, in the last bytes of an archive.

use super::error::Error;

/// Version of the format.
pub const VERSION: u32 = 1;
/// Length of the footer in bytes, with the header of its skippable frame.
pub const FOOTER_LENGTH: usize = 8 + PAYLOAD;
/// Magic number of the skippable frame of a part of the index.
pub(super) const INDEX_MAGIC: u32 = 0x184D_2A59;
/// Magic number of the skippable frame of the footer.
pub(super) const FOOTER_MAGIC: u32 = 0x184D_2A5A;

const PAYLOAD: usize = 128;
const MAGIC: [u8; 8] = *b"SPARCHIV";

/// Fields of the footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Count of entries.
    pub entries: u64,
    /// Count of the frames with data.
    pub frames: u64,
    /// Length of the frames with data: there the index begins.
    pub data_length: u64,
    /// Length of the tar stream in the frames.
    pub tar_length: u64,
    /// Length of the index with the headers of its frames.
    pub index_length: u64,
    /// BLAKE3 of the index as it is stored.
    pub index_digest: [u8; 32],
    /// BLAKE3 of the records of all entries: equal for equal content.
    pub content_digest: [u8; 32],
}

impl Footer {
    /// Length of the whole archive.
    pub fn length(&self) -> Option<u64> {
        self.data_length.checked_add(self.index_length)?.checked_add(FOOTER_LENGTH as u64)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = FOOTER_MAGIC.to_le_bytes().to_vec();
        bytes.extend_from_slice(&128_u32.to_le_bytes());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        let numbers = [self.entries, self.frames, self.data_length, self.tar_length, self.index_length];
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.index_digest);
        bytes.extend_from_slice(&self.content_digest);
        bytes.extend_from_slice(&check(&bytes));
        bytes.extend_from_slice(&MAGIC);
        bytes
    }

    /// Reads a footer from exactly its bytes.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        const NONE: Error = Error::Damaged("it does not end with a footer");
        let mut rest = bytes;
        if bytes.len() != FOOTER_LENGTH || !bytes.ends_with(&MAGIC) {
            return Err(NONE);
        }
        let checked = bytes.split_at_checked(FOOTER_LENGTH - 16).ok_or(NONE)?;
        if !checked.1.starts_with(&check(checked.0)) {
            return Err(Error::Damaged("the checksum of its footer is wrong"));
        }
        let magic = take(&mut rest).map(u32::from_le_bytes).ok_or(NONE)?;
        let length = take(&mut rest).map(u32::from_le_bytes).ok_or(NONE)?;
        if (magic, length) != (FOOTER_MAGIC, 128) {
            return Err(NONE);
        }
        let version = take(&mut rest).map(u32::from_le_bytes).ok_or(NONE)?;
        if version != VERSION {
            return Err(Error::Version { found: version, known: VERSION });
        }
        let _reserved: [u8; 4] = take(&mut rest).ok_or(NONE)?;
        let mut number = || take(&mut rest).map(u64::from_le_bytes).ok_or(NONE);
        Ok(Footer {
            entries: number()?,
            frames: number()?,
            data_length: number()?,
            tar_length: number()?,
            index_length: number()?,
            index_digest: take(&mut rest).ok_or(NONE)?,
            content_digest: take(&mut rest).ok_or(NONE)?,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

fn check(bytes: &[u8]) -> [u8; 8] {
    let digest = blake3::hash(bytes);
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}
