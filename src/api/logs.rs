//! `spaceport.v1.WorkspaceManager`: what users of workspaces can call beyond `wsman.WorkspaceManager`.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::sessions::{Connected, Entering, Outputs};
use super::{caller, convert, error, parse};
use federation::Workspaces;
use federation::workspaces::logs::{Piece, WorkspaceLog};
use federation::workspaces::queries::Queries;
use proto::spaceport::v1;
use proto::spaceport::v1::workspace_manager_server::WorkspaceManager;

/// Implements the service.
#[derive(Clone)]
pub struct Logs {
    queries: Arc<Queries>,
    containers: Arc<federation::workspaces::logs::Logs>,
    entering: Entering,
    shutdown: CancellationToken,
}

impl Logs {
    /// Streams end when `shutdown` is cancelled.
    pub fn new(of: &Workspaces, entering: Entering, shutdown: CancellationToken) -> Self {
        Self { queries: Arc::clone(&of.queries), containers: Arc::clone(&of.logs), entering, shutdown }
    }
}

type Pieces = Pin<Box<dyn Stream<Item = Result<v1::LogsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl WorkspaceManager for Logs {
    type LogsStream = Pieces;
    type ExecStream = Outputs;
    type ForwardStream = Connected;

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Result<Response<Pieces>, Status> {
        let caller = caller::of(request.extensions());
        let (id, options) = parse::logs(&request.into_inner())?;
        caller.check(&self.queries, &id)?;
        let log = self.containers.open(&id, &options).await.map_err(|error| error::status(&error))?;
        Ok(Response::new(Box::pin(pieces(log, self.shutdown.clone()))))
    }

    async fn describe_ended(
        &self,
        request: Request<v1::DescribeEndedRequest>,
    ) -> Result<Response<v1::DescribeEndedResponse>, Status> {
        let caller = caller::of(request.extensions());
        let id = parse::id(&request.into_inner().id)?;
        caller.check(&self.queries, &id)?;
        let ended = self.queries.describe_ended(&id).map_err(|error| error::status(&error))?;
        Ok(Response::new(v1::DescribeEndedResponse { workspace: Some(convert::ended(ended)) }))
    }

    async fn describe_content(
        &self,
        request: Request<v1::DescribeContentRequest>,
    ) -> Result<Response<v1::DescribeContentResponse>, Status> {
        let caller = caller::of(request.extensions());
        let id = parse::id(&request.into_inner().id)?;
        caller.check(&self.queries, &id)?;
        let seen = self.queries.describe(&id).map_err(|error| error::status(&error))?;
        Ok(Response::new(convert::content(&seen.view)))
    }

    async fn version(&self, _: Request<v1::VersionRequest>) -> Result<Response<v1::VersionResponse>, Status> {
        Ok(Response::new(v1::VersionResponse { version: env!("CARGO_PKG_VERSION").to_owned() }))
    }

    async fn exec(&self, request: Request<Streaming<v1::ExecRequest>>) -> Result<Response<Outputs>, Status> {
        self.entering.exec(request).await
    }

    async fn forward(
        &self,
        request: Request<Streaming<v1::ForwardRequest>>,
    ) -> Result<Response<Connected>, Status> {
        self.entering.forward(request).await
    }
}

/// Streams the log until it ends, the client leaves or the server shuts down.
fn pieces(
    log: WorkspaceLog,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<v1::LogsResponse, Status>> + Send {
    futures::stream::unfold(Some(log), move |log| {
        let shutdown = shutdown.clone();
        async move {
            let mut log = log?;
            let next = tokio::select! {
                next = log.next() => next?.map_err(|error| error::status(&error)),
                () = shutdown.cancelled() => Err(Status::unavailable("this replica is shutting down")),
            };
            let goes_on = next.is_ok().then_some(log);
            Some((next.map(wire), goes_on))
        }
    })
}

fn wire(piece: Piece) -> v1::LogsResponse {
    let resume_token = piece.end.map(|end| end.to_string()).unwrap_or_default();
    v1::LogsResponse { content: piece.content.into(), resume_token }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;

    #[tokio::test]
    async fn a_stream_gives_what_comes_and_ends_with_the_log() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut pieces =
            Box::pin(pieces(UnboundedReceiverStream::new(receiver).boxed(), CancellationToken::new()));
        sender.send(Ok(Piece { content: Bytes::from_static(b"one\n"), end: None })).unwrap();
        assert_eq!(pieces.next().await.unwrap().unwrap().content, b"one\n");
        drop(sender);
        assert!(pieces.next().await.is_none());
    }

    #[tokio::test]
    async fn the_shutdown_ends_a_silent_stream_and_releases_the_log() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let mut pieces = Box::pin(pieces(UnboundedReceiverStream::new(receiver).boxed(), shutdown.clone()));
        shutdown.cancel();
        assert_eq!(pieces.next().await.unwrap().unwrap_err().code(), tonic::Code::Unavailable);
        assert!(pieces.next().await.is_none());
        sender.closed().await;
        drop(sender.send(Ok(Piece { content: Bytes::new(), end: None })));
    }
}
