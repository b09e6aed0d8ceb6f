//! `builder.ImageBuilder`: forwards every call to the image builder of a cluster and returns its response unchanged.
//!
//! A call that builds or resolves an image goes to the cluster that placement would choose for a workspace of the
//! caller; metadata can restrict the choice ([`hints`]). If that builder cannot be connected to, the next one gets the
//! call. `ListBuilds` asks all builders, `Logs` the one that lists the build. A stream buffers no more than HTTP/2 flow
//! control allows, and ends with the caller, its deadline, or this replica. An error keeps the builder's code and
//! details and names the cluster.

mod channels;
mod hints;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::future::join_all;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::metadata::{KeyAndValueRef, MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Extensions, Request, Response, Status, Streaming};

use self::channels::Channels;
use super::peers::{MESSAGE_MAX, deadline, due, is_connect, remaining};
use super::{caller, error};
use federation::Workspaces;
use federation::workspaces::builders::Builder;
use federation::workspaces::queries::Queries;
use proto::builder;
use proto::builder::image_builder_client::ImageBuilderClient;
use proto::builder::image_builder_server::ImageBuilder;
use runtime::tls::Transport;

/// Timeout of a unary call whose caller sets no deadline.
const UNARY: Duration = Duration::from_mins(2);
/// Timeout of one builder's list of builds, so that one that hangs does not delay the others' for long.
const LIST: Duration = Duration::from_secs(5);
/// Names the cluster whose builder responded; clients may send it back to reach the same one.
const CLUSTER: &str = hints::CLUSTER;
/// Clusters whose builders did not respond to a list.
const MISSING: &str = "x-spaceport-missing-clusters";

/// Implements the service.
pub struct Builders {
    queries: Arc<Queries>,
    registered: Arc<federation::workspaces::builders::Builders>,
    channels: Channels,
    shutdown: CancellationToken,
}

impl Builders {
    /// Passes calls on to the builders of all clusters. Streams end when `shutdown` is cancelled.
    pub fn new(of: &Workspaces, transport: Option<Transport>, shutdown: CancellationToken) -> Self {
        let (queries, registered) = (Arc::clone(&of.queries), Arc::clone(&of.builders));
        Self { queries, registered, channels: Channels::new(transport), shutdown }
    }

    /// Calls the builder of the best cluster that can be connected to.
    async fn call<Q: Clone, A, F>(
        &self,
        request: Request<Q>,
        seed: &str,
        call: impl Fn(ImageBuilderClient<Channel>, Request<Q>) -> F,
    ) -> Result<(Builder, Response<A>), Status>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let caller = caller::of(request.extensions());
        let wanted = hints::placement(&self.queries, &caller, request.metadata(), seed)?;
        let builders = self.registered.ranked_for(&wanted).map_err(|error| error::status(&error))?;
        let limit = due(request.metadata().as_ref());
        let mut last = Status::unavailable("there is no image builder");
        for builder in builders {
            match self.call_one(&builder, copy(&request, limit), &call).await {
                Ok(response) => return Ok((builder, response)),
                Err(status) if was_not_sent(&status) => {
                    tracing::warn!(cluster = %builder.cluster, %status, "failed to connect to the image builder");
                    last = named(&builder, &status);
                }
                Err(status) => return Err(named(&builder, &status)),
            }
        }
        Err(last)
    }

    async fn call_one<Q, A, F>(
        &self,
        builder: &Builder,
        request: Request<Q>,
        call: impl Fn(ImageBuilderClient<Channel>, Request<Q>) -> F,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let client = ImageBuilderClient::new(self.channels.get(&builder.target).await?)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        let answer = call(client, request).await;
        if let Err(status) = &answer
            && was_not_sent(status)
        {
            self.channels.forget(&builder.target);
        }
        answer
    }

    /// Lists the builds of every builder.
    async fn builds(
        &self,
        metadata: &MetadataMap,
    ) -> Vec<(Builder, Result<builder::ListBuildsResponse, Status>)> {
        let within = deadline(metadata.as_ref()).map_or(LIST, |deadline| deadline.min(LIST));
        let ask = async |builder: Builder| {
            let request = outgoing(metadata, builder::ListBuildsRequest {}, Some(within));
            let call = self
                .call_one(&builder, request, async |mut client, request| client.list_builds(request).await);
            let answer = match timeout(within, call).await {
                Ok(answer) => answer.map(Response::into_inner),
                Err(_) => Err(Status::deadline_exceeded(format!("no answer within {within:?}"))),
            };
            (builder, answer)
        };
        join_all(self.registered.all().into_iter().map(ask)).await
    }

    /// Finds the builder that has a build.
    async fn holder(&self, metadata: &MetadataMap, wanted: &builder::LogsRequest) -> Result<Builder, Status> {
        let (mut asked, mut silent) = (Vec::new(), Vec::new());
        for (builder, answer) in self.builds(metadata).await {
            match answer {
                Ok(answer) if answer.builds.iter().any(|build| is_wanted(build, wanted)) => {
                    return Ok(builder);
                }
                Ok(_) => asked.push(builder.cluster.to_string()),
                Err(_) => silent.push(builder.cluster.to_string()),
            }
        }
        let build = if wanted.build_id.is_empty() { &wanted.build_ref } else { &wanted.build_id };
        if !silent.is_empty() {
            let silent = silent.join(", ");
            return Err(Status::unavailable(format!(
                "build {build} may be at an image builder that does not answer: that of cluster {silent}"
            )));
        }
        let asked = if asked.is_empty() { "none is there".to_owned() } else { asked.join(", ") };
        Err(Status::not_found(format!("no image builder has build {build}; asked: {asked}")))
    }

    /// Forwards a builder's stream until it ends, the caller's deadline passes or this replica shuts down.
    fn pass<T: Send + 'static>(
        &self,
        builder: Builder,
        inner: Response<Streaming<T>>,
        limit: Option<Instant>,
    ) -> Response<Passed<T>> {
        let (metadata, inner, _) = inner.into_parts();
        let shutdown = self.shutdown.clone();
        let cluster = MetadataValue::try_from(builder.cluster.as_str());
        let stream = futures::stream::unfold(Some(inner), move |inner| {
            let (builder, shutdown) = (builder.clone(), shutdown.clone());
            async move {
                let mut inner = inner?;
                let expires = async {
                    match limit {
                        Some(limit) => sleep_until(limit).await,
                        None => std::future::pending().await,
                    }
                };
                let next = tokio::select! {
                    next = inner.message() => next.map_err(|status| named(&builder, &status)),
                    () = expires => Err(Status::deadline_exceeded("the caller's deadline has passed")),
                    () = shutdown.cancelled() => Err(Status::unavailable("this replica is shutting down")),
                };
                match next {
                    Ok(message) => message.map(|message| (Ok(message), Some(inner))),
                    Err(status) => Some((Err(status), None)),
                }
            }
        });
        let stream: Passed<T> = Box::pin(stream);
        let mut response = Response::from_parts(metadata, stream, Extensions::default());
        if let Ok(cluster) = cluster {
            response.metadata_mut().insert(CLUSTER, cluster);
        }
        response
    }
}

type Passed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ImageBuilder for Builders {
    type BuildStream = Passed<builder::BuildResponse>;
    type LogsStream = Passed<builder::LogsResponse>;

    async fn resolve_base_image(
        &self,
        request: Request<builder::ResolveBaseImageRequest>,
    ) -> Result<Response<builder::ResolveBaseImageResponse>, Status> {
        let seed = request.get_ref().r#ref.clone();
        let request = limited(request);
        let answer = self.call(request, &seed, async |mut client: ImageBuilderClient<Channel>, request| {
            client.resolve_base_image(request).await
        });
        answer.await.map(|(builder, response)| of_cluster(&builder, response))
    }

    async fn resolve_workspace_image(
        &self,
        request: Request<builder::ResolveWorkspaceImageRequest>,
    ) -> Result<Response<builder::ResolveWorkspaceImageResponse>, Status> {
        let seed = hints::seed(request.get_ref().source.as_ref());
        let request = limited(request);
        let answer = self.call(request, &seed, async |mut client: ImageBuilderClient<Channel>, request| {
            client.resolve_workspace_image(request).await
        });
        answer.await.map(|(builder, response)| of_cluster(&builder, response))
    }

    async fn build(
        &self,
        request: Request<builder::BuildRequest>,
    ) -> Result<Response<Self::BuildStream>, Status> {
        let seed = hints::seed(request.get_ref().source.as_ref());
        let limit = due(request.metadata().as_ref());
        let answer = self.call(request, &seed, async |mut client: ImageBuilderClient<Channel>, request| {
            client.build(request).await
        });
        answer.await.map(|(builder, response)| self.pass(builder, response, limit))
    }

    async fn logs(
        &self,
        request: Request<builder::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        caller::of(request.extensions()).check_unscoped("image builds")?;
        let limit = due(request.metadata().as_ref());
        let holder = self.holder(request.metadata(), request.get_ref()).await?;
        let request = copy(&request, limit);
        let answer = self.call_one(&holder, request, async |mut client, request| client.logs(request).await);
        let answer = answer.await.map_err(|status| named(&holder, &status))?;
        Ok(self.pass(holder, answer, limit))
    }

    /// Lists the builds of every builder that responds; the metadata names clusters whose builders do not.
    async fn list_builds(
        &self,
        request: Request<builder::ListBuildsRequest>,
    ) -> Result<Response<builder::ListBuildsResponse>, Status> {
        caller::of(request.extensions()).check_unscoped("image builds")?;
        let (mut builds, mut missing, mut last) = (Vec::new(), Vec::new(), None);
        let answers = self.builds(request.metadata()).await;
        let asked = answers.len();
        for (builder, answer) in answers {
            match answer {
                Ok(answer) => builds.extend(answer.builds),
                Err(status) => {
                    missing.push(builder.cluster.to_string());
                    last = Some(named(&builder, &status));
                }
            }
        }
        if let Some(status) = last
            && missing.len() == asked
        {
            return Err(status);
        }
        let mut response = Response::new(builder::ListBuildsResponse { builds });
        if !missing.is_empty()
            && let Ok(missing) = MetadataValue::try_from(missing.join(","))
        {
            response.metadata_mut().insert(MISSING, missing);
        }
        Ok(response)
    }
}

fn is_wanted(build: &builder::BuildInfo, wanted: &builder::LogsRequest) -> bool {
    if wanted.build_id.is_empty() {
        build.r#ref == wanted.build_ref
    } else {
        build.build_id == wanted.build_id
    }
}

/// Whether the request certainly did not reach the builder.
fn was_not_sent(status: &Status) -> bool {
    std::error::Error::source(status).is_some_and(is_connect)
}

/// The builder's status, with the cluster in the message.
fn named(builder: &Builder, status: &Status) -> Status {
    let message = format!("the image builder of cluster {}: {}", builder.cluster, status.message());
    Status::with_details_and_metadata(
        if status.code() == Code::Ok { Code::Unknown } else { status.code() },
        message,
        bytes::Bytes::copy_from_slice(status.details()),
        status.metadata().clone(),
    )
}

fn of_cluster<T>(builder: &Builder, mut response: Response<T>) -> Response<T> {
    if let Ok(cluster) = MetadataValue::try_from(builder.cluster.as_str()) {
        response.metadata_mut().insert(CLUSTER, cluster);
    }
    response
}

/// Sets a default deadline.
fn limited<Q>(mut request: Request<Q>) -> Request<Q> {
    if deadline(request.metadata().as_ref()).is_none() {
        request.set_timeout(UNARY);
    }
    request
}

/// The request for a builder: the caller's message and metadata, and the time that remains of `limit`.
fn copy<Q: Clone>(request: &Request<Q>, limit: Option<Instant>) -> Request<Q> {
    outgoing(request.metadata(), request.get_ref().clone(), limit.map(remaining))
}

fn outgoing<Q>(metadata: &MetadataMap, message: Q, limit: Option<Duration>) -> Request<Q> {
    let mut request = Request::new(message);
    for entry in metadata.iter() {
        match entry {
            KeyAndValueRef::Ascii(key, value) if hints::passes(key.as_str()) => {
                request.metadata_mut().append(key.clone(), value.clone());
            }
            KeyAndValueRef::Binary(key, value) if hints::passes(key.as_str()) => {
                request.metadata_mut().append_bin(key.clone(), value.clone());
            }
            _ => {}
        }
    }
    if let Some(limit) = limit {
        request.set_timeout(limit);
    }
    request
}
