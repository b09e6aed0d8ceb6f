//! Uploads of streams: in parts with bounded memory, each part retried, resumed after a restart by the upload's id.
//!
//! A resumed upload reads its stream from the beginning. Parts that are the same as before are not sent again, parts that
//! differ replace those of before, so the object is always exactly the stream of the call that completed it.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{Stream, TryStreamExt as _};
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;

use super::digest::Digest;
use super::error::{At, Error};
use super::names::Key;
use super::open::{Bucket, Place, Store};
use super::retry::RetryPolicy;
use hash::Hashes;

pub(super) mod hash;
mod state;

pub use hash::Sums;
pub use state::{PartDone, UploadState, Whole};

/// The stores' maximum of parts.
const PARTS_MAX: u64 = 10_000;

/// Keeps the state of an upload. It is called before the state can be needed: when the store has given an id and before the
/// first part is sent, after each part, and before the object is made.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Keeps the state; the upload goes on when this returns.
    async fn save(&self, state: &UploadState) -> io::Result<()>;
}

/// Keeps nothing: an upload that is killed is not resumed, and its parts stay until the bucket's lifecycle rule removes them.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoJournal;

#[async_trait]
impl Journal for NoJournal {
    async fn save(&self, _: &UploadState) -> io::Result<()> {
        Ok(())
    }
}

/// Options of an upload.
pub struct UploadOptions<'a> {
    /// Keeps the state.
    pub journal: &'a dyn Journal,
    /// Cancels the upload, which is then aborted.
    pub cancel: CancellationToken,
    /// The upload to resume.
    pub resume: Option<UploadState>,
}

impl Default for UploadOptions<'_> {
    fn default() -> Self {
        Self { journal: &NoJournal, cancel: CancellationToken::new(), resume: None }
    }
}

/// An object that was sent. Nothing is proven yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// The object.
    pub key: Key,
    /// Its bytes.
    pub size: u64,
    /// Its BLAKE3 digest.
    pub digest: Digest,
    /// The ETag that the store answered when it made the object of what was sent.
    pub e_tag: Option<String>,
    /// Checksums of the parts.
    pub sums: Sums,
}

impl Store {
    /// Uploads a stream. At most `parallel` parts are in memory, and the stream is read only as fast as the store takes them. A
    /// stream that fits in one part is sent in one request. An upload that fails can be resumed with the last saved state.
    pub async fn upload(
        &self,
        key: &Key,
        source: impl AsyncRead + Send + Unpin,
        options: UploadOptions<'_>,
    ) -> Result<Uploaded, Error> {
        let upload = Upload { store: self, key, place: self.place(key)?, options };
        self.ensure_own_bucket(&upload.place.bucket, key.owner()).await?;
        let outcome = upload.send(source).await;
        match outcome {
            Err((Error::Cancelled { at, .. }, state)) => {
                let aborted = match &state {
                    Some(state) => self.abort_upload(key, state).await.is_ok(),
                    None => true,
                };
                Err(Error::Cancelled { at, aborted })
            }
            Err((error, _)) => Err(error),
            Ok(uploaded) => Ok(uploaded),
        }
    }

    /// As [`Store::upload`], for a stream of chunks.
    pub async fn upload_stream(
        &self,
        key: &Key,
        source: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
        options: UploadOptions<'_>,
    ) -> Result<Uploaded, Error> {
        self.upload(key, StreamReader::new(source.into_stream()), options).await
    }

    /// Ends an upload whose parts are all sent, after a restart between its last part and the answer of the store.
    pub async fn finish_upload(&self, key: &Key, state: UploadState) -> Result<Uploaded, Error> {
        let place = self.place(key)?;
        check(&place.at, key, &state)?;
        let Some(whole) = state.whole else { return Err(Error::UploadGone(place.at)) };
        let sums = Sums::of_parts(&state.parts);
        complete(self, &place, key, &state, whole, sums).await
    }

    /// Removes the parts of an upload from the store. An upload that is not there any more is aborted already.
    pub async fn abort_upload(&self, key: &Key, state: &UploadState) -> Result<(), Error> {
        let place = self.place(key)?;
        check(&place.at, key, state)?;
        let Place { bucket, path, at } = &place;
        match self.retry.run(at, 0, || bucket.parts.abort_multipart(path, &state.upload_id)).await {
            Err(Error::NotFound(_)) => Ok(()),
            other => other,
        }
    }
}

/// A state is of this object and of this version.
fn check(at: &At, key: &Key, state: &UploadState) -> Result<(), Error> {
    if state.key == key.path() && state.version == UploadState::VERSION && state.part_size > 0 {
        return Ok(());
    }
    Err(Error::UploadGone(at.clone()))
}

/// A failed upload, with its state if it has one.
type Failed = (Error, Option<UploadState>);

struct Upload<'a> {
    store: &'a Store,
    key: &'a Key,
    place: Place,
    options: UploadOptions<'a>,
}

/// A part on its way.
struct Sending {
    bucket: Bucket,
    path: Path,
    at: At,
    retry: RetryPolicy,
    upload_id: String,
    _place: OwnedSemaphorePermit,
}

impl Upload<'_> {
    async fn send(mut self, mut source: impl AsyncRead + Send + Unpin) -> Result<Uploaded, Failed> {
        let resumed = self.options.resume.take();
        if let Some(state) = &resumed {
            check(&self.place.at, self.key, state).map_err(|error| (error, None))?;
        }
        let part_size = resumed.as_ref().map_or(self.store.limits.part_size(), |state| state.part_size);
        let first = self.fill(&mut source, part_size).await.map_err(|error| (error, resumed.clone()))?;
        let ends = usize::try_from(part_size).is_ok_and(|size| first.len() < size);
        match resumed {
            None if ends => self.send_at_once(first).await.map_err(|error| (error, None)),
            None => {
                let state = self.begin(part_size).await?;
                self.send_parts(source, first, state).await
            }
            Some(state) => self.send_parts(source, first, UploadState { whole: None, ..state }).await,
        }
    }

    /// Reads until a part is full or the stream ends.
    async fn fill(&self, source: &mut (impl AsyncRead + Send + Unpin), size: u64) -> Result<Bytes, Error> {
        let at = &self.place.at;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let mut part = BytesMut::with_capacity(size);
        while part.len() < size {
            let mut rest = (&mut *source).take((size - part.len()) as u64);
            let read = tokio::select! {
                read = rest.read_buf(&mut part) => read,
                () = self.options.cancel.cancelled() => return Err(Error::Cancelled { at: at.clone(), aborted: true }),
            };
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(Error::Source { at: at.clone(), error }),
            }
        }
        Ok(part.freeze())
    }

    async fn send_at_once(&self, content: Bytes) -> Result<Uploaded, Error> {
        let Place { bucket, path, at } = &self.place;
        let mut hashes = Hashes::default();
        let part = hashes.add(&content);
        let bytes = content.len() as u64;
        let put =
            self.store.retry.run(at, bytes, || bucket.objects.put(path, PutPayload::from(content.clone())));
        let put = tokio::select! {
            put = put => put?,
            () = self.options.cancel.cancelled() => return Err(Error::Cancelled { at: at.clone(), aborted: true }),
        };
        let whole = hashes.finish();
        let sums = Sums::of_one(&part.md5, put.e_tag.as_deref());
        let (key, e_tag) = (self.key.clone(), put.e_tag);
        Ok(Uploaded { key, size: whole.size, digest: whole.digest, e_tag, sums })
    }

    async fn begin(&self, part_size: u64) -> Result<UploadState, Failed> {
        let Place { bucket, path, at } = &self.place;
        let begun = self.store.retry.run(at, 0, || bucket.parts.create_multipart(path)).await;
        let state = UploadState {
            version: UploadState::VERSION,
            key: self.key.path().to_owned(),
            upload_id: begun.map_err(|error| (error, None))?,
            part_size,
            parts: Vec::new(),
            whole: None,
        };
        self.save(&state).await.map_err(|error| (error, Some(state.clone())))?;
        Ok(state)
    }

    async fn save(&self, state: &UploadState) -> Result<(), Error> {
        let saved = self.options.journal.save(state).await;
        saved.map_err(|error| Error::Journal { at: self.place.at.clone(), error })
    }

    async fn send_parts(
        &self,
        source: impl AsyncRead + Send + Unpin,
        first: Bytes,
        mut state: UploadState,
    ) -> Result<Uploaded, Failed> {
        match self.parts(source, first, &mut state).await {
            Ok((whole, sums)) => {
                let completed = complete(self.store, &self.place, self.key, &state, whole, sums).await;
                completed.map_err(|error| (error, Some(state)))
            }
            Err(error) => Err((error, Some(state))),
        }
    }

    /// Sends all parts. Returns size, digest and checksums once the store has them all.
    async fn parts(
        &self,
        mut source: impl AsyncRead + Send + Unpin,
        first: Bytes,
        state: &mut UploadState,
    ) -> Result<(Whole, Sums), Error> {
        let parallel = usize::try_from(self.store.limits.parallel()).unwrap_or(1);
        let places = Arc::new(Semaphore::new(parallel));
        let mut sending = JoinSet::new();
        let mut hashes = Hashes::default();
        let (mut content, mut index) = (first, 0);
        loop {
            // The part that is being filled has a place, too: memory holds `parallel` parts and no more.
            let place = self.free_place(&places, &mut sending, state).await?;
            if index > 0 {
                content = self.fill(&mut source, state.part_size).await?;
                if content.is_empty() {
                    break;
                }
            }
            if index >= PARTS_MAX {
                let limit = state.part_size.saturating_mul(PARTS_MAX);
                return Err(Error::TooLarge { at: self.place.at.clone(), limit });
            }
            let part = hashes.add_apart(&content, index).await;
            let part = part.map_err(|error| Error::Source { at: self.place.at.clone(), error })?;
            let known =
                state.part(index).filter(|known| known.size == part.size && known.digest == part.digest);
            if known.is_none() {
                sending.spawn(self.part(state, place).send(part, std::mem::take(&mut content)));
            }
            index += 1;
        }
        while let Some(sent) = self.next_sent(&mut sending).await {
            state.record(sent?);
            self.save(state).await?;
        }
        // Of a stream that became shorter, the rest of before is not part of the object.
        state.parts.retain(|part| part.index < index);
        let whole = hashes.finish();
        state.whole = Some(whole);
        self.save(state).await?;
        Ok((whole, Sums::of_parts(&state.parts)))
    }

    fn part(&self, state: &UploadState, place: OwnedSemaphorePermit) -> Sending {
        Sending {
            bucket: self.place.bucket.clone(),
            path: self.place.path.clone(),
            at: self.place.at.clone(),
            retry: self.store.retry,
            upload_id: state.upload_id.clone(),
            _place: place,
        }
    }

    /// Waits until another part may be in memory, and records those that were sent meanwhile.
    async fn free_place(
        &self,
        places: &Arc<Semaphore>,
        sending: &mut JoinSet<Result<PartDone, Error>>,
        state: &mut UploadState,
    ) -> Result<OwnedSemaphorePermit, Error> {
        loop {
            let sent = match Arc::clone(places).try_acquire_owned() {
                Ok(place) => match sending.try_join_next() {
                    None => return Ok(place),
                    Some(sent) => Some(sent.unwrap_or_else(|_| Err(self.ended()))),
                },
                Err(_) => self.next_sent(sending).await,
            };
            if let Some(sent) = sent {
                state.record(sent?);
                self.save(state).await?;
            }
        }
    }

    /// The next part that was sent; `None` if none is on its way.
    async fn next_sent(
        &self,
        sending: &mut JoinSet<Result<PartDone, Error>>,
    ) -> Option<Result<PartDone, Error>> {
        let at = &self.place.at;
        tokio::select! {
            sent = sending.join_next() => Some(sent?.unwrap_or_else(|_| Err(self.ended()))),
            () = self.options.cancel.cancelled() => Some(Err(Error::Cancelled { at: at.clone(), aborted: true })),
        }
    }

    fn ended(&self) -> Error {
        Error::Unavailable { at: self.place.at.clone(), why: "the task that sends a part ended".to_owned() }
    }
}

impl Sending {
    async fn send(self, part: PartDone, content: Bytes) -> Result<PartDone, Error> {
        let Self { bucket, path, at, retry, upload_id, _place } = self;
        let index = usize::try_from(part.index).unwrap_or(usize::MAX);
        let put = || bucket.parts.put_part(&path, &upload_id, index, PutPayload::from(content.clone()));
        match retry.run(&at, part.size, put).await {
            Ok(PartId { content_id }) => Ok(PartDone { id: content_id, ..part }),
            Err(Error::NotFound(at)) => Err(Error::UploadGone(at)),
            Err(error) => Err(error),
        }
    }
}

/// Makes the object of its parts. If the store does not know the upload any more, an earlier call may have done so.
async fn complete(
    store: &Store,
    place: &Place,
    key: &Key,
    state: &UploadState,
    whole: Whole,
    sums: Sums,
) -> Result<Uploaded, Error> {
    let Place { bucket, path, at } = place;
    let parts = || state.parts.iter().map(|part| PartId { content_id: part.id.clone() }).collect();
    let made =
        store.retry.run(at, 0, || bucket.parts.complete_multipart(path, &state.upload_id, parts())).await;
    let e_tag = match made {
        Ok(put) => put.e_tag,
        Err(Error::NotFound(_)) => match store.retry.run(at, 0, || bucket.objects.head(path)).await {
            // Whether it is ours is for the proof to say: the ETag is no answer to what was sent.
            Ok(meta) if meta.size == whole.size => None,
            Ok(_) | Err(Error::NotFound(_)) => return Err(Error::UploadGone(at.clone())),
            Err(error) => return Err(error),
        },
        Err(error) => return Err(error),
    };
    Ok(Uploaded { key: key.clone(), size: whole.size, digest: whole.digest, e_tag, sums })
}
