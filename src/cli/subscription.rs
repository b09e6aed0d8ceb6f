//! A stream of workspace statuses that survives lost connections.

use anyhow::{Context, Result};
use futures::Stream;
use tonic::{Code, Status, Streaming};

use super::connect::{Client, ClientArgs, again};
use super::failure::describe;
use proto::wsman::{MetadataFilter, SubscribeRequest, SubscribeResponse, WorkspaceStatus};

/// Event of a subscription.
#[derive(Debug)]
pub enum Event {
    /// A status; the first ones describe the moment of subscribing.
    Status(Box<WorkspaceStatus>),
    /// The stream broke and is being resumed.
    Lost(String),
}

/// A subscription with replay. If it breaks, it resumes from the last token at whichever address responds.
pub struct Subscription {
    args: ClientArgs,
    filter: MetadataFilter,
    stream: Option<Streaming<SubscribeResponse>>,
    token: String,
}

impl Subscription {
    /// Subscribes; fails if the server rejects it.
    pub async fn open(args: &ClientArgs, client: &Client, filter: MetadataFilter) -> Result<Self> {
        let mut subscription = Self { args: args.clone(), filter, stream: None, token: String::new() };
        subscription.stream = Some(subscription.subscribe(client).await.context("failed to subscribe")?);
        Ok(subscription)
    }

    /// The events. Ends only with a failure, or when dropped.
    pub fn into_events(self) -> impl Stream<Item = Result<Event>> {
        futures::stream::unfold(self, |mut subscription| async {
            let event = subscription.next().await;
            Some((event, subscription))
        })
    }

    async fn next(&mut self) -> Result<Event> {
        let Some(stream) = &mut self.stream else {
            self.resume().await?;
            return Box::pin(self.next()).await;
        };
        match stream.message().await {
            Ok(Some(SubscribeResponse { status, resume_token, .. })) => {
                if !resume_token.is_empty() {
                    self.token = resume_token;
                }
                match status {
                    Some(status) => Ok(Event::Status(Box::new(status))),
                    None => Box::pin(self.next()).await,
                }
            }
            Ok(None) => Ok(self.lost("the server ended the stream".to_owned())),
            Err(status) if is_final(&status) => Err(status).context("the subscription ended"),
            Err(status) => Ok(self.lost(describe(&status))),
        }
    }

    fn lost(&mut self, reason: String) -> Event {
        self.stream = None;
        Event::Lost(reason)
    }

    async fn resume(&mut self) -> Result<()> {
        let args = self.args.clone();
        let resumed = again(&args, is_final, async |client| match self.subscribe(client).await {
            // The token is too old, or from another replica: replay the current state.
            Err(status) if status.code() == Code::OutOfRange && !self.token.is_empty() => {
                self.token.clear();
                self.subscribe(client).await
            }
            outcome => outcome,
        });
        self.stream = Some(resumed.await.context("failed to resume the subscription")?);
        Ok(())
    }

    async fn subscribe(&self, client: &Client) -> Result<Streaming<SubscribeResponse>, Status> {
        let request = SubscribeRequest {
            must_match: Some(self.filter.clone()),
            replay: self.token.is_empty(),
            resume_token: self.token.clone(),
        };
        let mut api = client.workspaces();
        client.open(request, async |request| api.subscribe(request).await).await
    }
}

/// Whether a retry would be rejected too.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented
    )
}
