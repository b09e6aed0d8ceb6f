//! The logs of a prebuild's tasks, as objects of the instance. A log that cannot be stored costs no prebuild.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use content::store::UploadOptions;
use futures::stream;
use tokio::sync::mpsc;

use crate::archives::{Kind, Request};
use crate::operations::context::Context;
use crate::operations::exchange::{Frames, Worker};
use crate::operations::subject::Subject;

/// Stores all logs.
pub(super) async fn store(context: &Context, subject: &Subject, worker: &Worker<'_>) {
    worker.step("storing the logs of the prebuild");
    let (sender, receiver) = mpsc::channel(4);
    let read = async {
        let mut frames = Sender(sender);
        worker.exchange(&Request::Logs, stream::empty(), &mut frames).await
    };
    let (read, ()) = tokio::join!(read, send_all(context, subject, receiver));
    if let Err(failure) = read {
        tracing::warn!(instance = %subject.origin.instance, reason = %failure, "logs of the prebuild cannot be read");
    }
}

struct Sender(mpsc::Sender<(Kind, Bytes)>);

#[async_trait]
impl Frames for Sender {
    async fn take(&mut self, kind: Kind, bytes: Bytes) -> io::Result<()> {
        self.0.send((kind, bytes)).await.map_err(io::Error::other)
    }
}

/// Sends one log after the other: a name, then its bytes until the next name.
async fn send_all(context: &Context, subject: &Subject, mut receiver: mpsc::Receiver<(Kind, Bytes)>) {
    let instance = &subject.origin.instance;
    let mut next = receiver.recv().await;
    while let Some((kind, name)) = next.take() {
        if kind != Kind::Name {
            next = receiver.recv().await;
            continue;
        }
        let name = format!("logs/{}", String::from_utf8_lossy(&name));
        let key = match subject.keys().instance_object(instance, &name) {
            Ok(key) => key,
            Err(error) => {
                tracing::warn!(%instance, %error, "a log of the prebuild is not stored");
                next = receiver.recv().await;
                continue;
            }
        };
        let bytes = stream::unfold((&mut receiver, &mut next), |(receiver, next)| async move {
            match receiver.recv().await {
                Some((Kind::Data, bytes)) => Some((Ok::<_, io::Error>(bytes), (receiver, next))),
                other => {
                    *next = other;
                    None
                }
            }
        });
        let sent = context.store.upload_stream(&key, Box::pin(bytes), UploadOptions::default()).await;
        if let Err(error) = sent {
            tracing::warn!(%instance, %error, "a log of the prebuild is not stored");
            next = skip(&mut receiver, next).await;
        }
    }
}

/// The next name.
async fn skip(
    receiver: &mut mpsc::Receiver<(Kind, Bytes)>,
    next: Option<(Kind, Bytes)>,
) -> Option<(Kind, Bytes)> {
    match next {
        Some(next) => Some(next),
        None => receiver.recv().await,
    }
}
