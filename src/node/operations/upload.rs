//! From the files of a workspace to a proven object: the helper's archive streams into an upload that resumes.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use content::initializer::Fault;
use content::store::{
    self, Expectation, Journal, Key, Proven, UploadOptions, UploadState, Uploaded, Written,
};
use domain::names::WorkspaceId;
use futures::stream;
use tokio::sync::mpsc;

use super::context::Context;
use super::error::Failure;
use super::exchange::{Frames, TreeFile, Worker};
use crate::archives::{Answer, Kind, Request};
use crate::state::Disk;

/// Frames of 256 KiB between the helper and the upload.
const AHEAD: usize = 8;
/// Uploads of one call: one that the store has forgotten begins again.
const TRIES: u32 = 2;

/// An archive to make and send.
pub(super) struct Sending<'a> {
    pub(super) instance: &'a WorkspaceId,
    pub(super) key: &'a Key,
    /// Patterns of the class.
    pub(super) excludes: Vec<String>,
    /// As existing agents write it.
    pub(super) plain: bool,
    /// Where the tree state goes, of content at rest.
    pub(super) tree: Option<PathBuf>,
    /// Where the state of the upload is kept.
    pub(super) journal: PathBuf,
}

impl Sending<'_> {
    /// Makes and sends it. Nothing is proven yet.
    pub(super) async fn send(
        &self,
        context: &Context,
        worker: &Worker<'_>,
    ) -> Result<(Written, Uploaded), Failure> {
        let mut tries = 1;
        loop {
            let resume = context.disk.load::<UploadState>(self.instance, self.journal.clone()).await;
            // A journal that cannot be read costs an upload, not a backup.
            let resume = resume.ok().flatten().filter(|state| state.key == self.key.path());
            match self.try_once(context, worker, resume).await {
                Err(Sent::Gone) if tries < TRIES => {
                    tries += 1;
                    context.disk.remove(self.instance, self.journal.clone()).await?;
                }
                Err(Sent::Gone) => {
                    return Err(Failure::platform("the store forgets uploads that have not ended"));
                }
                Err(Sent::Failed(failure)) => return Err(failure),
                Ok(done) => return Ok(done),
            }
        }
    }

    async fn try_once(
        &self,
        context: &Context,
        worker: &Worker<'_>,
        resume: Option<UploadState>,
    ) -> Result<(Written, Uploaded), Sent> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let journal = Kept { disk: &context.disk, instance: self.instance, path: &self.journal };
        let options = UploadOptions { journal: &journal, resume, ..UploadOptions::default() };
        let upload = context.store.upload_stream(self.key, Box::pin(pieces(receiver)), options);
        let (written, uploaded) = tokio::join!(self.write(worker, sender), upload);
        match (written, uploaded) {
            (Ok(written), Ok(uploaded)) => Ok((written, uploaded)),
            // The helper ended the stream, or the upload ended the helper: the cause is what is reported.
            (Err(failure), Ok(_) | Err(store::Error::Source { .. })) => Err(Sent::Failed(failure)),
            (_, Err(store::Error::UploadGone(_))) => Err(Sent::Gone),
            (_, Err(error)) => Err(Sent::Failed(error.into())),
        }
    }

    async fn write(&self, worker: &Worker<'_>, sender: mpsc::Sender<Piece>) -> Result<Written, Failure> {
        let failed =
            |error: io::Error| Failure::platform(format!("the tree state cannot be written: {error}"));
        let tree = match &self.tree {
            Some(path) => Some(TreeFile::create(path.clone()).await.map_err(failed)?),
            None => None,
        };
        let request =
            Request::Write { excludes: self.excludes.clone(), plain: self.plain, tree: self.tree.is_some() };
        let mut archive = Archive { instance: self.instance, sender, tree };
        let answer = worker.exchange(&request, stream::empty(), &mut archive).await?;
        let Answer::Written { size, digest, tail, notes, .. } = answer else {
            return Err(Failure::platform("the helper's answer is not about an archive"));
        };
        for note in &notes {
            tracing::info!(instance = %self.instance, %note, "content is archived with a note");
        }
        let Archive { sender, tree, .. } = archive;
        match (tree, &self.tree) {
            (Some(tree), _) => tree.finish().await.map_err(failed)?,
            // Without it the next backup is a whole one. Its space is needed for the state file.
            (None, Some(path)) => tokio::fs::remove_file(path).await.map_err(failed)?,
            (None, None) => {}
        }
        // Only now the upload may take the stream for complete.
        let _ = sender.send(Piece::End).await;
        Ok(Written { size, digest, tail })
    }

    /// Proves what was sent. What is not proven is sent again, from the beginning.
    pub(super) async fn prove(
        &self,
        context: &Context,
        written: Written,
        uploaded: &Uploaded,
    ) -> Result<Proven, Failure> {
        let expected = Expectation::sent(&written, uploaded);
        let proven = context.store.prove(self.key, &expected).await;
        let is_over = proven.as_ref().map_or_else(|not| !not.is_retryable(), |_| true);
        if is_over {
            context.disk.remove(self.instance, self.journal.clone()).await?;
        }
        Ok(proven?)
    }
}

enum Sent {
    /// The store does not know the resumed upload.
    Gone,
    Failed(Failure),
}

enum Piece {
    Bytes(Bytes),
    End,
}

/// The stream of an upload. It ends only after [`Piece::End`].
fn pieces(receiver: mpsc::Receiver<Piece>) -> impl futures::Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Piece::Bytes(bytes)) => Some((Ok(bytes), Some(receiver))),
            Some(Piece::End) => None,
            None => Some((Err(io::Error::other("the archive was not written to its end")), None)),
        }
    })
}

struct Archive<'a> {
    instance: &'a WorkspaceId,
    sender: mpsc::Sender<Piece>,
    tree: Option<TreeFile>,
}

#[async_trait]
impl Frames for Archive<'_> {
    async fn take(&mut self, kind: Kind, bytes: Bytes) -> io::Result<()> {
        match (kind, &mut self.tree) {
            (Kind::Data, _) => {
                let sent = self.sender.send(Piece::Bytes(bytes)).await;
                sent.map_err(|_| io::Error::other("the upload ended"))
            }
            (Kind::Tree, Some(tree)) => {
                if let Err(error) = tree.take(kind, bytes).await {
                    // A full disk must not cost the backup.
                    tracing::warn!(instance = %self.instance, %error, "the tree state cannot be written");
                    self.tree = None;
                }
                Ok(())
            }
            // The rest of one that could not be written.
            (Kind::Tree, None) => Ok(()),
            _ => Err(io::Error::other(format!("the helper wrote {kind:?}, which was not asked for"))),
        }
    }
}

struct Kept<'a> {
    disk: &'a Disk,
    instance: &'a WorkspaceId,
    path: &'a PathBuf,
}

#[async_trait]
impl Journal for Kept<'_> {
    async fn save(&self, state: &UploadState) -> io::Result<()> {
        self.disk.save(self.instance, self.path.clone(), state).await.map_err(io::Error::other)
    }
}

/// Bytes that the store has of an upload that has not ended.
pub(super) async fn sent(context: &Context, instance: &WorkspaceId, journal: PathBuf) -> u64 {
    let state = context.disk.load::<UploadState>(instance, journal).await.ok().flatten();
    state.map_or(0, |state| state.bytes())
}

/// Ends an upload that nobody will resume. Returns whether there was one.
pub(super) async fn abort(
    context: &Context,
    instance: &WorkspaceId,
    owner: &domain::names::OwnerId,
    journal: PathBuf,
) -> Result<bool, Failure> {
    let Some(state) = context.disk.load::<UploadState>(instance, journal.clone()).await? else {
        return Ok(false);
    };
    let key = Key::parse(owner, &state.key)
        .map_err(|error| Failure::lasting(Fault::Platform, error.to_string()))?;
    context.store.abort_upload(&key, &state).await?;
    context.disk.remove(instance, journal).await?;
    Ok(true)
}
