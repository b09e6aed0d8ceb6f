//! A store in memory that fails on request.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

/// What happens to the next call of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fail {
    /// It fails before it has an effect.
    Before,
    /// It has its effect, and its answer is lost.
    After,
    /// The store denies it.
    Denied,
    /// The object is not the one that was asked for any more.
    Replaced,
    /// It never answers.
    Hang,
    /// Its content is changed on the way, without an error.
    Corrupt,
    /// It is not conditional any more.
    Unconditional,
}

#[derive(Debug, Default)]
pub(super) struct Double {
    pub(super) inner: InMemory,
    faults: Mutex<Vec<(&'static str, Fail)>>,
    calls: Mutex<Vec<String>>,
    in_flight: AtomicUsize,
    pub(super) most_in_flight: AtomicUsize,
}

impl fmt::Display for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("double")
    }
}

fn broken() -> Error {
    Error::Generic { store: "double", source: "injected".into() }
}

fn corrupted(payload: PutPayload) -> PutPayload {
    let mut bytes = Bytes::from(payload).to_vec();
    if let Some(byte) = bytes.first_mut() {
        *byte ^= 1;
    }
    bytes.into()
}

impl Double {
    /// The next `times` calls of a name fail so.
    pub(super) fn fail(&self, call: &'static str, fail: Fail, times: usize) {
        self.faults.lock().extend(std::iter::repeat_n((call, fail), times));
    }

    /// No more calls fail.
    pub(super) fn forget(&self) {
        self.faults.lock().clear();
    }

    /// Number of calls of a name.
    pub(super) fn calls(&self, call: &str) -> usize {
        self.calls.lock().iter().filter(|known| *known == call).count()
    }

    async fn begin(&self, call: &'static str) -> Result<Option<Fail>> {
        self.calls.lock().push(call.to_owned());
        let fault = {
            let mut faults = self.faults.lock();
            let at = faults.iter().position(|(name, _)| *name == call);
            at.map(|at| faults.remove(at).1)
        };
        match fault {
            Some(Fail::Before) => Err(broken()),
            Some(Fail::Denied) => {
                Err(Error::PermissionDenied { path: String::new(), source: "injected".into() })
            }
            Some(Fail::Replaced) => {
                Err(Error::Precondition { path: String::new(), source: "injected".into() })
            }
            Some(Fail::Hang) => std::future::pending().await,
            other => Ok(other),
        }
    }

    fn end<T>(fault: Option<Fail>, answer: Result<T>) -> Result<T> {
        if fault == Some(Fail::After) { Err(broken()) } else { answer }
    }
}

#[async_trait]
impl ObjectStore for Double {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        let name = if options.mode == PutMode::Create { "create" } else { "put" };
        let fault = self.begin(name).await?;
        if fault == Some(Fail::Unconditional) {
            options.mode = PutMode::Overwrite;
        }
        let payload = if fault == Some(Fail::Corrupt) { corrupted(payload) } else { payload };
        Self::end(fault, self.inner.put_opts(location, payload, options).await)
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let name = if options.head { "head" } else { "get" };
        let fault = self.begin(name).await?;
        Self::end(fault, self.inner.get_opts(location, options).await)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.calls.lock().push("delete".to_owned());
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.calls.lock().push("list".to_owned());
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Double {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        let fault = self.begin("begin").await?;
        Self::end(fault, self.inner.create_multipart(path).await)
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let fault = self.begin("part").await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        let fault = fault?;
        let data = if fault == Some(Fail::Corrupt) { corrupted(data) } else { data };
        Self::end(fault, self.inner.put_part(path, id, part, data).await)
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let fault = self.begin("complete").await?;
        let done = self.inner.complete_multipart(path, id, parts).await;
        // As the real stores answer for an upload that they do not know.
        let done = done.map_err(|error| Error::NotFound { path: path.to_string(), source: error.into() });
        Self::end(fault, done)
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let fault = self.begin("abort").await?;
        Self::end(fault, self.inner.abort_multipart(path, id).await)
    }
}
