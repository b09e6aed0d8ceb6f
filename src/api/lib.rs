//! The gRPC API: parse, call a use case, convert. No policy lives here.

mod access;
mod audit;
mod bounds;
mod bridge;
mod builders;
mod call_end;
mod caller;
mod calls;
mod clusters;
mod connection_end;
mod contents;
mod convert;
mod error;
mod error_text;
mod error_trim;
mod gate;
mod images;
mod limits;
mod load;
mod logs;
mod parse;
mod peers;
mod sessions;
mod text;
mod workspaces;

use std::convert::Infallible;
use std::sync::Arc;

use futures::Stream;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::Layer as _;

use self::access::Access;
use self::audit::{Audit, Reader};
use self::bounds::{Bounds, BoundsLayer};
use self::connection_end::Endings;
use self::error_trim::TrimLayer;
use self::gate::GateLayer;
use self::load::{Load, LoadLayer};
use self::peers::{MESSAGE_MAX, Peers};
use federation::Federation;
use proto::FILE_DESCRIPTOR_SET;
use proto::builder::image_builder_server::ImageBuilderServer;
use proto::contentservice::blob_service_server::BlobServiceServer;
use proto::contentservice::content_service_server::ContentServiceServer;
use proto::contentservice::headless_log_service_server::HeadlessLogServiceServer;
use proto::contentservice::workspace_service_server::WorkspaceServiceServer;
use proto::encoded::workspace_manager_server::WorkspaceManagerServer;
use proto::ideplugin::ide_plugin_service_server::IdePluginServiceServer;
use proto::registryfacade::spec_provider_server::SpecProviderServer;
use proto::spaceport::v1::cluster_manager_server::ClusterManagerServer;
use proto::spaceport::v1::workspace_content_server::WorkspaceContentServer;
use proto::spaceport::v1::workspace_manager_server::WorkspaceManagerServer as LogsServer;
use proto::workspacemanagerbridge::cluster_service_server::ClusterServiceServer;
use runtime::audit::AuditSink;
use runtime::config::{Clients, SessionCaps, StreamCaps};
use runtime::http2;
use runtime::tls::{Age, Connection, Transport};

pub use self::calls::Calls;
pub use self::limits::{Checked as CheckedLimits, Counters as LimitCounters, Limits};
pub use self::load::Refusals;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reflection rejects the program's own descriptors.
    #[error("cannot serve reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The program's own descriptors cannot be decoded.
    #[error("cannot read the descriptors of requests: {0}")]
    Descriptors(#[from] prost::DecodeError),
    /// The program's own descriptors lack a field that the audit log records.
    #[error("cannot write the audit log: {0}")]
    Audit(String),
}

/// How other servers are connected to; `None` if they are not.
#[derive(Debug, Clone, Default)]
pub struct Others {
    /// Other replicas.
    pub replicas: Option<Transport>,
    /// Image builders.
    pub builders: Option<Transport>,
}

/// Limits and counters of calls.
#[derive(Debug)]
pub struct Guards {
    /// Rate limits of unary methods.
    pub limits: Arc<Limits>,
    /// Counter of calls.
    pub calls: Calls,
    /// Limits of open streams.
    pub streams: StreamCaps,
    /// Limits of shells and forwarded ports.
    pub sessions: SessionCaps,
    /// Counter of calls that are rejected by load limits.
    pub refusals: Refusals,
    /// Which client certificates are let in, and for which owners they act.
    pub clients: Clients,
    /// Maximum age of connections.
    pub age: Age,
    /// Destination of the audit log.
    pub audit: AuditSink,
    /// A small runtime that serves only large requests.
    pub large: Handle,
}

/// Serves until `shutdown`, then waits for calls in flight.
pub async fn serve(
    federation: Arc<Federation>,
    connections: impl Stream<Item = Result<Connection, Infallible>> + Send + 'static,
    others: Others,
    guards: Guards,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<WorkspaceManagerServer<workspaces::Workspaces>>().await;
    health.set_serving::<LogsServer<logs::Logs>>().await;
    health.set_serving::<ClusterManagerServer<clusters::Clusters>>().await;
    health.set_serving::<ImageBuilderServer<builders::Builders>>().await;
    health.set_serving::<ContentServiceServer<contents::Contents>>().await;
    health.set_serving::<WorkspaceServiceServer<contents::Contents>>().await;
    health.set_serving::<HeadlessLogServiceServer<contents::Contents>>().await;
    health.set_serving::<BlobServiceServer<contents::Contents>>().await;
    health.set_serving::<IdePluginServiceServer<contents::Contents>>().await;
    health.set_serving::<WorkspaceContentServer<contents::Contents>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let workspaces = workspaces::Workspaces::new(&federation, shutdown.clone());
    let contents = contents::Contents::new(&federation);
    let builders = builders::Builders::new(&federation.workspaces, others.builders, shutdown.clone());
    let Guards { limits, calls, streams, sessions: caps, refusals, clients, age, audit, large } = guards;
    let bounds = BoundsLayer(Arc::new(Bounds::new(large)?));
    let texts = Arc::new(text::Texts::new()?);
    let access = Access::new(federation.leadership.lead(), Peers::new(others.replicas), clients);
    let queries = &federation.workspaces.queries;
    let sessions = Arc::clone(&federation.workspaces.sessions);
    let entering = sessions::Entering::new(&federation.workspaces, access.clone(), caps, shutdown.clone());
    let logs = logs::Logs::new(&federation.workspaces, entering, shutdown.clone());
    let replica = federation.leadership.replica().name.clone();
    let audit = Audit::new(replica, Arc::clone(queries), audit).map_err(Error::Audit)?;
    let routes = Routes::new(health_service)
        .add_service(reflection)
        .add_service(
            WorkspaceManagerServer::new(workspaces)
                .max_decoding_message_size(MESSAGE_MAX)
                .max_encoding_message_size(MESSAGE_MAX),
        )
        .add_service(LogsServer::new(logs).max_decoding_message_size(sessions::MESSAGE_MAX))
        .add_service(
            ImageBuilderServer::new(builders)
                .max_decoding_message_size(MESSAGE_MAX)
                .max_encoding_message_size(MESSAGE_MAX),
        )
        .add_service(ContentServiceServer::new(contents.clone()))
        .add_service(WorkspaceServiceServer::new(contents.clone()))
        .add_service(HeadlessLogServiceServer::new(contents.clone()))
        .add_service(BlobServiceServer::new(contents.clone()))
        .add_service(IdePluginServiceServer::new(contents.clone()))
        .add_service(WorkspaceContentServer::new(contents))
        .add_service(SpecProviderServer::new(images::Images(Arc::clone(queries))))
        .add_service(ClusterServiceServer::new(bridge::Bridge::new(&federation.clusters)))
        .add_service(
            ClusterManagerServer::new(clusters::Clusters::new(federation, shutdown.clone()))
                .max_decoding_message_size(MESSAGE_MAX),
        )
        .prepare();
    let load = LoadLayer(Load::new(streams, &caps, refusals)?);
    // A request passes the layers from the last one here to the first.
    let limited = GateLayer(limits).layer(GateLayer(texts).layer(routes));
    let checked = GateLayer(Arc::new(Reader)).layer(GateLayer(access).layer(bounds.layer(limited)));
    let ending = Endings.layer(load.layer(checked));
    let service = TrimLayer.layer(calls.layer(audit.layer(ending)));
    http2::serve(connections, service, age, shutdown).await;
    sessions.finish().await;
    Ok(())
}
