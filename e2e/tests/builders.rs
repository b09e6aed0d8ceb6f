//! Image builds: which cluster's builder gets a call, and what comes back. The builders are servers of this test.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{Stream, StreamExt as _};
use proto::builder::image_builder_client::ImageBuilderClient;
use proto::builder::image_builder_server::{ImageBuilder, ImageBuilderServer};
use proto::builder::*;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Channel, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};

use crate::story::{SOON, Story, refused, story, until};
use e2e::harness::spaceport::Installation;

/// Bytes of a message of a large build.
const LARGE: usize = 64 * 1024;
/// Messages of a large build: far more than a connection should buffer.
const MANY: usize = 4096;

/// A builder of one cluster.
#[derive(Clone)]
struct Builder {
    cluster: &'static str,
    sent: Arc<AtomicUsize>,
    /// Number of its streams that were dropped.
    dropped: watch::Sender<usize>,
}

struct Dropped(watch::Sender<usize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send_modify(|dropped| *dropped += 1);
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Builder {
    /// Serves with TLS, for callers with a certificate; returns its address.
    async fn serve(cluster: &'static str, installation: &Installation) -> Result<(Self, String)> {
        let identity = installation.authority().server("image-builder-mk3")?;
        let ca = Certificate::from_pem(installation.authority().ca_pem());
        let identity = Identity::from_pem(&identity.cert_pem, &identity.key_pem);
        let tls = ServerTlsConfig::new().identity(identity).client_ca_root(ca);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let builder = Self { cluster, sent: Arc::default(), dropped: watch::channel(0).0 };
        let server = Server::builder().tls_config(tls)?.add_service(ImageBuilderServer::new(builder.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok((builder, address))
    }

    /// Waits until this many streams were dropped.
    async fn let_go(&self, streams: usize) -> Result<()> {
        let mut dropped = self.dropped.subscribe();
        timeout(SOON, dropped.wait_for(|dropped| *dropped >= streams)).await.context("a stream stays")??;
        Ok(())
    }
}

#[tonic::async_trait]
impl ImageBuilder for Builder {
    type BuildStream = Messages<BuildResponse>;
    type LogsStream = Messages<LogsResponse>;

    async fn resolve_base_image(
        &self,
        request: Request<ResolveBaseImageRequest>,
    ) -> Answer<ResolveBaseImageResponse> {
        let text = |key: &str| {
            let value = request.metadata().get(key).and_then(|value| value.to_str().ok());
            value.unwrap_or("-").to_owned()
        };
        let caller = (text("x-request-id"), text("x-spaceport-cluster"), text("grpc-timeout") != "-");
        if request.get_ref().r#ref == "verbose" {
            return Err(Status::with_details(Code::NotFound, "no ".repeat(10_000), vec![7; 60_000].into()));
        }
        if request.get_ref().r#ref == "bad" {
            return Err(Status::with_details(Code::NotFound, "no such image", b"why".as_slice().into()));
        }
        Ok(Response::new(ResolveBaseImageResponse { r#ref: format!("{} {caller:?}", self.cluster) }))
    }

    async fn resolve_workspace_image(
        &self,
        _: Request<ResolveWorkspaceImageRequest>,
    ) -> Answer<ResolveWorkspaceImageResponse> {
        Ok(Response::new(ResolveWorkspaceImageResponse {
            r#ref: self.cluster.to_owned(),
            status: BuildStatus::DoneSuccess.into(),
            ..ResolveWorkspaceImageResponse::default()
        }))
    }

    async fn build(&self, request: Request<BuildRequest>) -> Answer<Self::BuildStream> {
        let kind = request.into_inner().triggered_by;
        let held = Dropped(self.dropped.clone());
        let (sent, cluster) = (Arc::clone(&self.sent), self.cluster);
        let message = move |message: String| {
            let _held = &held;
            sent.fetch_add(1, Ordering::SeqCst);
            Ok(BuildResponse { r#ref: cluster.to_owned(), message, ..BuildResponse::default() })
        };
        let messages: Messages<BuildResponse> = match kind.as_str() {
            "large" => Box::pin(futures::stream::iter(0..MANY).map(move |_| message("x".repeat(LARGE)))),
            "endless" => {
                let first = futures::stream::once(async move { message("begun".to_owned()) });
                Box::pin(first.chain(futures::stream::pending()))
            }
            "failing" => {
                let last = Err(Status::resource_exhausted("the disk is full"));
                Box::pin(futures::stream::iter([message("begun".to_owned()), last]))
            }
            _ => Box::pin(futures::stream::iter(["one", "two"].map(str::to_owned).map(message))),
        };
        Ok(Response::new(messages))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Answer<Self::LogsStream> {
        let content = format!("{} {}", self.cluster, request.get_ref().build_id).into_bytes();
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(LogsResponse { content })]))))
    }

    async fn list_builds(&self, _: Request<ListBuildsRequest>) -> Answer<ListBuildsResponse> {
        let build_id = format!("build-{}", self.cluster);
        let build = BuildInfo { r#ref: format!("ref-{}", self.cluster), build_id, ..BuildInfo::default() };
        Ok(Response::new(ListBuildsResponse { builds: vec![build] }))
    }
}

type Client = ImageBuilderClient<Channel>;

/// Builders of eu-1 and us-1, registered with them, and a client of the first manager.
async fn with_builders(story: &mut Story) -> Result<([Builder; 2], Client)> {
    let own = story.installation.authority().client("spaceport", &[])?;
    let tls = json!({ "ca": story.installation.authority().ca(), "crt": own.cert, "key": own.key });
    story.installation.overrides = json!({ "imageBuilderProxy": { "tls": tls } });
    story.replicas.push(story.installation.start("manager-0").await?);
    let (eu, at) = Builder::serve("eu-1", &story.installation).await?;
    register(story, "eu-1", &at).await?;
    let (us, at) = Builder::serve("us-1", &story.installation).await?;
    register(story, "us-1", &at).await?;
    let client = client(story).await?;
    Ok(([eu, us], client))
}

async fn client(story: &Story) -> Result<Client> {
    let user = story.installation.authority().client("user", &[])?;
    let endpoint = &story.replicas.first().context("no manager")?.endpoint;
    Ok(ImageBuilderClient::new(story.installation.channel(endpoint, Some(&user)).await?))
}

async fn register(story: &Story, name: &str, builder: &str) -> Result<()> {
    let region = if name == "eu-1" { "europe" } else { "north-america" };
    let path = story.installation.cluster_file(name, region, &story.kubeconfigs[name])?;
    let mut file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    file["namespaces"][0]["imageBuilder"] = json!({ "targetAddr": builder });
    std::fs::write(&path, file.to_string())?;
    let output = story.cli(&["cluster", "register", "-f", &path.to_string_lossy()]).await?;
    ensure!(output.code == 0, "{}", output.stderr);
    story.available(name).await
}

fn base(image: &str, hints: &[(&'static str, &str)]) -> Result<Request<ResolveBaseImageRequest>> {
    let mut request = Request::new(ResolveBaseImageRequest { r#ref: image.into(), ..Default::default() });
    for (key, value) in hints {
        request.metadata_mut().insert(*key, value.parse()?);
    }
    Ok(request)
}

fn build(kind: &str, cluster: &str) -> Result<Request<BuildRequest>> {
    let mut request = Request::new(BuildRequest { triggered_by: kind.into(), ..Default::default() });
    request.metadata_mut().insert("x-spaceport-cluster", cluster.parse()?);
    Ok(request)
}

#[test]
fn a_call_reaches_the_builder_of_the_cluster_that_takes_it_and_errors_name_the_cluster() -> Result<()> {
    story("builders", 0, &[], async |story| {
        let (_, mut client) = with_builders(story).await?;
        for (hint, value, cluster) in [
            ("x-spaceport-regions", "europe", "eu-1"),
            ("x-spaceport-regions", "asia, north-america", "us-1"),
            ("x-spaceport-cluster", "us-1", "us-1"),
        ] {
            let request = base("image", &[(hint, value), ("x-request-id", "7")])?;
            let answer = client.resolve_base_image(request).await?;
            let named = answer.metadata().get("x-spaceport-cluster").context("the cluster is not named")?;
            ensure!(named == cluster, "{named:?}");
            let seen = answer.into_inner().r#ref;
            ensure!(seen == format!(r#"{cluster} ("7", "-", true)"#), "the builder saw {seen}");
        }
        let status = refused(
            client.resolve_base_image(base("bad", &[("x-spaceport-cluster", "eu-1")])?).await,
            Code::NotFound,
        )?;
        ensure!(status.message() == "the image builder of cluster eu-1: no such image", "{status}");
        ensure!(status.details() == b"why", "the details are not the builder's");
        let verbose = base("verbose", &[("x-spaceport-cluster", "eu-1")])?;
        let status = refused(client.resolve_base_image(verbose).await, Code::NotFound)?;
        ensure!(status.message().starts_with("the image builder of cluster eu-1: no no no"), "{status}");
        ensure!(status.message().len() + status.details().len() < 6_000, "{}", status.message().len());
        for (hint, value, code) in [
            ("x-spaceport-cluster", "nowhere", Code::FailedPrecondition),
            ("x-spaceport-cluster", "No Name", Code::InvalidArgument),
            ("x-spaceport-workspace", "unknown", Code::InvalidArgument),
        ] {
            let status = refused(client.resolve_base_image(base("image", &[(hint, value)])?).await, code)?;
            ensure!(code != Code::InvalidArgument || status.message().contains(hint), "{status}");
        }
        let output = story.cli(&["cluster", "cordon", "eu-1"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let request = ResolveWorkspaceImageRequest::default();
        let answer = client.resolve_workspace_image(request).await?.into_inner();
        ensure!(answer.r#ref == "us-1", "a cordoned cluster built: {answer:?}");
        Ok(())
    })
}

#[test]
fn a_builder_that_cannot_be_connected_to_is_passed_over_and_one_default_serves_all() -> Result<()> {
    story("builders-default", 0, &[], async |story| {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let default = listener.local_addr()?.to_string();
        story.installation.overrides =
            json!({ "imageBuilderProxy": { "targetAddr": default, "plaintext": true } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let mut client = client(story).await?;
        let status = refused(client.resolve_base_image(base("image", &[])?).await, Code::FailedPrecondition)?;
        ensure!(status.message().contains("no cluster is registered"), "{status}");
        register(story, "eu-1", "127.0.0.1:1").await?;
        let status = refused(client.resolve_base_image(base("image", &[])?).await, Code::Unavailable)?;
        ensure!(status.message().contains("cluster eu-1"), "{status}");
        story.register("us-1").await?;
        let builder = Builder { cluster: "all", sent: Arc::default(), dropped: watch::channel(0).0 };
        let server = Server::builder().add_service(ImageBuilderServer::new(builder));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let request = base("image", &[("x-spaceport-regions", "europe")])?;
        let answer = client.resolve_base_image(request).await?;
        ensure!(
            answer.metadata().get("x-spaceport-cluster").is_some_and(|name| name == "us-1"),
            "{answer:?}"
        );

        let listed = client.list_builds(ListBuildsRequest {}).await?;
        let missing = listed.metadata().get("x-spaceport-missing-clusters").context("nothing is missing")?;
        ensure!(missing == "eu-1" && listed.get_ref().builds.len() == 1, "{listed:?}");
        let unknown = LogsRequest { build_id: "unknown".into(), ..Default::default() };
        let status = refused(client.logs(unknown).await.map(|answer| answer.map(drop)), Code::Unavailable)?;
        ensure!(status.message().contains("eu-1"), "{status}");
        Ok(())
    })
}

#[test]
fn streams_pass_through_bounded_and_end_with_their_caller() -> Result<()> {
    story("builders-streams", 0, &[], async |story| {
        let ([eu, _], mut client) = with_builders(story).await?;
        let mut stream = client.build(build("short", "eu-1")?).await?.into_inner();
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await? {
            messages.push(message.message);
        }
        ensure!(messages == ["one", "two"], "{messages:?}");
        let mut stream = client.build(build("failing", "eu-1")?).await?.into_inner();
        ensure!(stream.message().await?.is_some(), "the first message is missing");
        let Err(status) = stream.message().await else { bail!("the failure is missing") };
        ensure!(status.code() == Code::ResourceExhausted && status.message().contains("eu-1"), "{status}");
        eu.let_go(2).await?;

        let mut stream = client.build(build("endless", "eu-1")?).await?.into_inner();
        ensure!(stream.message().await?.is_some(), "the first message is missing");
        drop(stream);
        eu.let_go(3).await.context("the caller left, and the builder's stream continues")?;
        let mut request = build("endless", "eu-1")?;
        request.set_timeout(std::time::Duration::from_secs(2));
        let mut stream = client.build(request).await?.into_inner();
        ensure!(stream.message().await?.is_some(), "the first message is missing");
        let Err(status) = timeout(SOON, stream.message()).await? else {
            bail!("the deadline did not end it")
        };
        ensure!([Code::DeadlineExceeded, Code::Cancelled].contains(&status.code()), "{status}");
        eu.let_go(4).await.context("the deadline passed, and the builder's stream continues")?;

        let before = eu.sent.load(Ordering::SeqCst);
        let mut stream = client.build(build("large", "eu-1")?).await?.into_inner();
        ensure!(stream.message().await?.is_some(), "the first message is missing");
        // Other calls on the same connection, to let time pass.
        for _ in 0..200 {
            client.list_builds(ListBuildsRequest {}).await?;
        }
        let held = eu.sent.load(Ordering::SeqCst) - before;
        ensure!(held < MANY / 4, "{held} messages were taken from a builder that nobody read from");
        Ok(())
    })
}

#[test]
fn logs_come_from_the_builder_that_has_the_build() -> Result<()> {
    story("builders-logs", 0, &[], async |story| {
        let (_, mut client) = with_builders(story).await?;
        let listed = client.list_builds(ListBuildsRequest {}).await?.into_inner().builds;
        ensure!(listed.len() == 2, "{listed:?}");
        let by_id = LogsRequest { build_id: "build-us-1".into(), ..Default::default() };
        let by_ref = LogsRequest { build_ref: "ref-eu-1".into(), ..Default::default() };
        for (wanted, content) in [(by_id, "us-1 build-us-1"), (by_ref, "eu-1 ")] {
            let mut stream = client.logs(wanted).await?.into_inner();
            let first = stream.message().await?.context("no content")?;
            ensure!(first.content == content.as_bytes(), "{first:?}");
        }
        let unknown = LogsRequest { build_id: "unknown".into(), ..Default::default() };
        let status = refused(client.logs(unknown).await.map(|answer| answer.map(drop)), Code::NotFound)?;
        ensure!(status.message().contains("eu-1") && status.message().contains("us-1"), "{status}");
        until("a builder's cluster to be removed", async || {
            let output = story.cli(&["cluster", "deregister", "us-1"]).await?;
            ensure!(output.code == 0, "{}", output.stderr);
            Ok(())
        })
        .await?;
        until("its builds to be gone", async || {
            let listed = client.clone().list_builds(ListBuildsRequest {}).await?.into_inner().builds;
            ensure!(listed.len() == 1, "{listed:?}");
            Ok(())
        })
        .await
    })
}
