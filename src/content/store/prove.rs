//! The proof that an object is what was sent. Only [`Store::prove`] makes a [`Proven`], and a head can be written only with one.
//!
//! 1. The size, by HEAD.
//! 2. The index of an archive is read back by a range and its digest compared with what the archive's writer reported.
//! 3. The rest by checksums of the store: the ETag that S3 computes of the parts, or the ETags that it answered for each part. A
//!    store without them (SSE-KMS, a folder) has the whole object read back and hashed.

use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStoreExt as _};

use super::digest::Digest;
use super::download::DownloadOptions;
use super::error::{Error, NotProven};
use super::head::{Head, Tail};
use super::names::Key;
use super::open::{Place, Store};
use super::upload::Uploaded;
use super::upload::hash::{Sums, unquoted};

/// Maximum bytes of an end that is read back at once: the index of a million files.
const TAIL_MAX: u64 = 1024 * 1024 * 1024;

/// What the writer of an archive reports. It is compared with what was uploaded, so bytes that were lost between the writer and
/// the upload are found, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the archive.
    pub size: u64,
    /// Digest of the archive.
    pub digest: Digest,
    /// Its index.
    pub tail: Tail,
}

/// What the object must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    size: u64,
    digest: Digest,
    tail: Tail,
    evidence: Evidence,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Evidence {
    /// It was sent in this upload.
    Sent { same: bool, e_tag: Option<String>, sums: Sums },
    /// It was proven before, and had this ETag then.
    Before { e_tag: Option<String> },
}

impl Expectation {
    /// What the writer of an archive wrote, and an upload sent.
    pub fn sent(written: &Written, uploaded: &Uploaded) -> Self {
        let Written { size, digest, tail } = *written;
        let same = uploaded.size == size && uploaded.digest == digest;
        let evidence = Evidence::Sent { same, e_tag: uploaded.e_tag.clone(), sums: uploaded.sums.clone() };
        Self { size, digest, tail, evidence }
    }

    /// What an upload sent, where no writer reports anything: a stream without an index.
    pub fn uploaded(uploaded: &Uploaded) -> Self {
        let written = Written { size: uploaded.size, digest: uploaded.digest, tail: Tail::none() };
        Self::sent(&written, uploaded)
    }

    /// What a head says about its archive, which was proven when the head was written.
    pub fn of_head(head: &Head) -> Self {
        let evidence = Evidence::Before { e_tag: head.e_tag.clone() };
        Self { size: head.size, digest: head.digest, tail: head.index, evidence }
    }
}

/// How the content was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By checksums that the store computed.
    Checksums,
    /// The object was proven before and was not replaced since.
    Before,
    /// The whole object was read back.
    ReadBack,
}

/// An object that is what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    key: Key,
    size: u64,
    digest: Digest,
    tail: Tail,
    e_tag: Option<String>,
    proof: Proof,
}

impl Proven {
    /// The object.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its end.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// Its ETag.
    pub fn e_tag(&self) -> Option<&str> {
        self.e_tag.as_deref()
    }

    /// How it was proven.
    pub fn proof(&self) -> Proof {
        self.proof
    }
}

impl Store {
    /// Proves that an object is what is expected.
    pub async fn prove(&self, key: &Key, expected: &Expectation) -> Result<Proven, NotProven> {
        let place = self.place(key)?;
        let at = &place.at;
        if matches!(expected.evidence, Evidence::Sent { same: false, .. }) {
            return Err(NotProven::Stream(at.clone()));
        }
        let meta = self.retry.run(at, 0, || place.bucket.objects.head(&place.path)).await?;
        if meta.size != expected.size {
            return Err(NotProven::Size { at: at.clone(), expected: expected.size, found: meta.size });
        }
        self.prove_tail(&place, expected, &meta).await?;
        let e_tag = meta.e_tag.as_deref();
        let proof = match &expected.evidence {
            Evidence::Before { e_tag: before } if e_tag.is_some() && before.as_deref() == e_tag => {
                Proof::Before
            }
            Evidence::Sent { e_tag: answered, sums, .. }
                if is_confirmed(e_tag, answered.as_deref(), sums) =>
            {
                Proof::Checksums
            }
            _ => self.prove_all(key, expected, &meta).await?,
        };
        let Expectation { size, digest, tail, .. } = *expected;
        Ok(Proven { key: key.clone(), size, digest, tail, e_tag: meta.e_tag, proof })
    }

    async fn prove_tail(
        &self,
        place: &Place,
        expected: &Expectation,
        meta: &ObjectMeta,
    ) -> Result<(), NotProven> {
        let Tail { size, behind, digest } = expected.tail;
        let corrupted = || NotProven::Content { at: place.at.clone(), index: true };
        let end = expected.size.checked_sub(behind).filter(|_| size <= TAIL_MAX);
        let begin = end.and_then(|end| end.checked_sub(size));
        let (Some(mut from), Some(end)) = (begin, end) else { return Err(corrupted()) };
        let mut hasher = blake3::Hasher::new();
        while from < end {
            let to = (from + super::download::CHUNK).min(end);
            let chunk = self.chunk(place, meta.e_tag.as_deref(), from..to).await?;
            hasher.update(&chunk);
            from = to;
        }
        if Digest::from(hasher.finalize()) == digest { Ok(()) } else { Err(corrupted()) }
    }

    async fn prove_all(
        &self,
        key: &Key,
        expected: &Expectation,
        meta: &ObjectMeta,
    ) -> Result<Proof, NotProven> {
        let (e_tag, digest) = (meta.e_tag.clone(), Some(expected.digest));
        let options = DownloadOptions { from: 0, e_tag, digest };
        match self.download(key, options).await?.drain().await {
            Ok(()) => Ok(Proof::ReadBack),
            Err(Error::Corrupted { at, .. }) => Err(NotProven::Content { at, index: false }),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a range of the object that has this ETag.
    pub(super) async fn chunk(
        &self,
        place: &Place,
        e_tag: Option<&str>,
        range: std::ops::Range<u64>,
    ) -> Result<bytes::Bytes, Error> {
        let Place { bucket, path, at } = place;
        let size = range.end - range.start;
        let options = || GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: e_tag.map(str::to_owned),
            ..GetOptions::default()
        };
        let get = || async { bucket.objects.get_opts(path, options()).await?.bytes().await };
        let chunk = self.retry.run(at, size, get).await?;
        if chunk.len() as u64 == size {
            return Ok(chunk);
        }
        Err(Error::Corrupted {
            at: at.clone(),
            problem: format!("{} bytes were read instead of {size}", chunk.len()),
        })
    }
}

/// Whether the store's checksums say that it has what was sent.
fn is_confirmed(now: Option<&str>, answered: Option<&str>, sums: &Sums) -> bool {
    let computed = now.is_some_and(|now| unquoted(now) == sums.e_tag);
    let same = now.is_some() && now.map(unquoted) == answered.map(unquoted);
    computed || (sums.confirmed && same)
}
