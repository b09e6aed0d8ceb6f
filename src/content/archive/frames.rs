//! Zstandard frames: finding their ends in a stream, and decoding one.

use std::io::Read;

use zstd::bulk::Decompressor;

use super::error::Error;

/// Largest content of a frame.
pub(super) const FRAME: usize = 4 << 20;
/// Largest frame as it is stored: incompressible content, headers of its blocks, and slack.
const LONGEST: usize = FRAME + (64 << 10);
const FRAME_MAGIC: u32 = 0xFD2F_B528;
const SKIPPABLE_MAGIC: u32 = 0x184D_2A50;
const LONGEST_BLOCK: usize = 128 << 10;

/// A frame as it is stored.
#[derive(Debug)]
pub(super) enum Frame {
    /// A frame with content of this size.
    Data { bytes: Vec<u8>, size: usize },
    /// A skippable frame; `bytes` begin with its header of 8 bytes.
    Skippable { magic: u32, bytes: Vec<u8> },
}

/// Reads the next frame; `None` at the end of the stream.
pub(super) fn next(source: &mut impl Read) -> Result<Option<Frame>, Error> {
    let mut frame = Growing { source, bytes: Vec::new() };
    let Some(magic) = frame.magic()? else { return Ok(None) };
    if magic & 0xFFFF_FFF0 == SKIPPABLE_MAGIC {
        let length = u32::from_le_bytes(frame.array()?);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(Error::Damaged("a skippable frame is too long"));
        }
        frame.grow(length)?;
        return Ok(Some(Frame::Skippable { magic, bytes: frame.bytes }));
    }
    if magic != FRAME_MAGIC {
        return Err(Error::Damaged("a frame has a wrong magic number"));
    }
    let size = frame.header()?;
    frame.blocks()?;
    Ok(Some(Frame::Data { bytes: frame.bytes, size }))
}

struct Growing<'s, R> {
    source: &'s mut R,
    bytes: Vec<u8>,
}

impl<R: Read> Growing<'_, R> {
    fn grow(&mut self, count: usize) -> Result<&[u8], Error> {
        let start = self.bytes.len();
        if start + count > LONGEST {
            return Err(Error::Damaged("a frame is too long"));
        }
        self.bytes.resize(start + count, 0);
        let added = self.bytes.get_mut(start..).unwrap_or_default();
        self.source.read_exact(added).map_err(Error::reading)?;
        Ok(added)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let added = self.grow(N)?;
        added.try_into().map_err(|_| Error::Stopped)
    }

    /// The magic number; `None` at the end of the stream.
    fn magic(&mut self) -> Result<Option<u32>, Error> {
        let mut first = [0];
        loop {
            match self.source.read(&mut first) {
                Ok(0) => return Ok(None),
                Ok(_) => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::reading(error)),
            }
        }
        self.bytes.extend_from_slice(&first);
        let [two, three, four] = self.array()?;
        let [one] = first;
        Ok(Some(u32::from_le_bytes([one, two, three, four])))
    }

    /// The header after the magic number; returns the size of the content.
    fn header(&mut self) -> Result<usize, Error> {
        let [descriptor] = self.array()?;
        let single = descriptor & 0x20 != 0;
        if descriptor & 0x0b != 0 {
            return Err(Error::Damaged("a frame needs a dictionary or a later version of zstd"));
        }
        if descriptor & 0x04 == 0 {
            return Err(Error::Damaged("a frame has no checksum"));
        }
        if !single {
            self.grow(1)?;
        }
        let size = match (descriptor >> 6, single) {
            (0, true) => u64::from(u8::from_le_bytes(self.array()?)),
            (0, false) => return Err(Error::Damaged("a frame does not say the size of its content")),
            (1, _) => u64::from(u16::from_le_bytes(self.array()?)) + 256,
            (2, _) => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        };
        match usize::try_from(size) {
            Ok(size) if size <= FRAME => Ok(size),
            _ => Err(Error::Damaged("a frame has more than 4 MiB of content")),
        }
    }

    /// The blocks and the checksum.
    fn blocks(&mut self) -> Result<(), Error> {
        loop {
            let [one, two, three] = self.array()?;
            let header = usize::try_from(u32::from_le_bytes([one, two, three, 0])).unwrap_or(usize::MAX);
            let length = match (header >> 1) & 3 {
                1 => 1,
                3 => return Err(Error::Damaged("a block of a frame has an unknown type")),
                _ => header >> 3,
            };
            if length > LONGEST_BLOCK {
                return Err(Error::Damaged("a block of a frame is too long"));
            }
            self.grow(length)?;
            if header & 1 == 1 {
                self.grow(4)?;
                return Ok(());
            }
        }
    }
}

/// Decodes a frame and compares its checksum and size.
pub(super) fn decode(decoder: &mut Decompressor<'_>, bytes: &[u8], size: usize) -> Result<Vec<u8>, Error> {
    match decoder.decompress(bytes, size) {
        Ok(content) if content.len() == size => Ok(content),
        _ => Err(Error::Damaged("the checksum or the size of a frame is wrong")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zstd::bulk::Compressor;
    use zstd::zstd_safe::CParameter;

    fn encoded(content: &[u8]) -> Vec<u8> {
        let mut compressor = Compressor::new(3).unwrap();
        compressor.set_parameter(CParameter::ChecksumFlag(true)).unwrap();
        compressor.compress(content).unwrap()
    }

    proptest! {
        #[test]
        fn frames_end_where_zstd_ends_them(
            contents in prop::collection::vec((any::<u8>(), 0..300_000usize, any::<bool>()), 0..4)
        ) {
            let contents: Vec<Vec<u8>> = contents
                .into_iter()
                .map(|(byte, length, random)| {
                    let mut random_bytes = fastrand::Rng::with_seed(u64::from(byte));
                    (0..length).map(|_| if random { random_bytes.u8(..) } else { byte }).collect()
                })
                .collect();
            let stream: Vec<u8> = contents.iter().flat_map(|content| encoded(content)).collect();
            let mut rest = &stream[..];
            let mut decoder = Decompressor::new().unwrap();
            for content in &contents {
                let Some(Frame::Data { bytes, size }) = next(&mut rest).unwrap() else { panic!() };
                prop_assert_eq!(&decode(&mut decoder, &bytes, size).unwrap(), content);
            }
            prop_assert!(next(&mut rest).unwrap().is_none());
        }
    }

    #[test]
    fn any_cut_of_a_frame_is_an_error() {
        let frame = encoded(&[7; 10_000]);
        for length in 1..frame.len() {
            assert!(next(&mut &frame[..length]).is_err(), "{length}");
        }
    }
}
