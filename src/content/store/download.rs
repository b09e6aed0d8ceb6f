//! Downloads: in ranges, each retried, all of one version of the object, with a few ranges ahead.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use object_store::ObjectStoreExt as _;

use super::digest::Digest;
use super::error::{At, Error};
use super::names::Key;
use super::open::Store;

/// Bytes of one range.
pub(super) const CHUNK: u64 = 8 * 1024 * 1024;
/// Ranges that are read ahead, and so the memory of a download: 32 MiB.
const AHEAD: usize = 4;

/// Options of a download.
#[derive(Debug, Clone, Default)]
pub struct DownloadOptions {
    /// The first byte: where a download that broke off goes on.
    pub from: u64,
    /// Fails unless the object still has this ETag.
    pub e_tag: Option<String>,
    /// Compared with the digest of what was read, at the end of the stream; only for a download from the first byte.
    pub digest: Option<Digest>,
}

/// An object that is being read. As a stream it yields its bytes, and an error if it cannot be read to its end.
pub struct Download {
    size: u64,
    e_tag: Option<String>,
    at: At,
    chunks: BoxStream<'static, Result<Bytes, Error>>,
    check: Option<(blake3::Hasher, Digest)>,
    ended: bool,
}

impl Download {
    /// Bytes of the whole object.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its ETag, with which a download goes on after it broke off.
    pub fn e_tag(&self) -> Option<&str> {
        self.e_tag.as_deref()
    }

    /// Reads to the end, and drops what is read.
    pub async fn drain(mut self) -> Result<(), Error> {
        while let Some(chunk) = self.next().await {
            chunk?;
        }
        Ok(())
    }

    /// The whole content, which must have at most `most` bytes.
    pub async fn bytes(mut self, most: u64) -> Result<Vec<u8>, Error> {
        if self.size > most {
            let problem = format!("{} bytes instead of at most {most}", self.size);
            return Err(Error::Corrupted { at: self.at, problem });
        }
        let mut content = Vec::new();
        while let Some(chunk) = self.next().await {
            content.extend_from_slice(&chunk?);
        }
        Ok(content)
    }

    fn verdict(&mut self) -> Option<Error> {
        let (hasher, expected) = self.check.take()?;
        let found = Digest::from(hasher.finalize());
        let problem = format!("its digest is {found} instead of {expected}");
        (found != expected).then(|| Error::Corrupted { at: self.at.clone(), problem })
    }
}

impl Stream for Download {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.chunks.poll_next_unpin(context));
        match &next {
            Some(Ok(chunk)) => {
                if let Some((hasher, _)) = &mut self.check {
                    hasher.update(chunk);
                }
            }
            Some(Err(_)) => self.ended = true,
            None => {
                self.ended = true;
                return Poll::Ready(self.verdict().map(Err));
            }
        }
        Poll::Ready(next)
    }
}

impl Store {
    /// Begins to read an object. A missing object is [`Error::NotFound`].
    pub async fn download(&self, key: &Key, options: DownloadOptions) -> Result<Download, Error> {
        let place = Arc::new(self.place(key)?);
        let at = place.at.clone();
        let meta = self.read(&at, 0, || place.bucket.objects.head(&place.path)).await?;
        if options.e_tag.is_some() && options.e_tag != meta.e_tag {
            return Err(Error::Replaced(at));
        }
        let DownloadOptions { from, digest, .. } = options;
        let (store, e_tag) = (self.clone(), meta.e_tag.clone());
        let chunks = futures::stream::iter(ranges(from, meta.size)).map(move |range| {
            let (store, place, e_tag) = (store.clone(), Arc::clone(&place), e_tag.clone());
            async move { store.chunk(&place, e_tag.as_deref(), range).await }
        });
        let check = digest.filter(|_| from == 0).map(|digest| (blake3::Hasher::new(), digest));
        let chunks = chunks.buffered(AHEAD).boxed();
        Ok(Download { size: meta.size, e_tag: meta.e_tag, at, chunks, check, ended: false })
    }
}

fn ranges(from: u64, size: u64) -> impl Iterator<Item = Range<u64>> + Send {
    let begin = move |from: u64| Some(from).filter(|from| *from < size);
    let next = move |from: &u64| from.checked_add(CHUNK).and_then(begin);
    std::iter::successors(begin(from), next).map(move |from| from..size.min(from.saturating_add(CHUNK)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_an_object_without_gaps() {
        let all = |from, size| ranges(from, size).collect::<Vec<_>>();
        assert_eq!(all(0, 0), []);
        assert_eq!(all(5, 5), []);
        assert_eq!(all(0, CHUNK), std::iter::once(0..CHUNK).collect::<Vec<_>>());
        assert_eq!(all(3, CHUNK + 4), [3..CHUNK + 3, CHUNK + 3..CHUNK + 4]);
    }
}
