//! The gRPC API: parse, call a use case, convert. No policy lives here.

mod access;
mod bridge;
mod builders;
mod calls;
mod clusters;
mod convert;
mod error;
mod gate;
mod images;
mod limits;
mod logs;
mod parse;
mod peers;
mod workspaces;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use self::access::Access;
use self::gate::GateLayer;
use self::peers::{MESSAGE_MAX, Peers};
use crate::federation::Federation;
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::builder::image_builder_server::ImageBuilderServer;
use crate::proto::encoded::workspace_manager_server::WorkspaceManagerServer;
use crate::proto::registryfacade::spec_provider_server::SpecProviderServer;
use crate::proto::spaceport::v1::cluster_manager_server::ClusterManagerServer;
use crate::proto::spaceport::v1::workspace_manager_server::WorkspaceManagerServer as LogsServer;
use crate::proto::workspacemanagerbridge::cluster_service_server::ClusterServiceServer;
use crate::runtime::tls::{ClientFiles, Connection};

pub use self::calls::Calls;
pub use self::limits::{Checked as CheckedLimits, Counters as LimitCounters, Limits};

/// Pings on idle connections, so that a peer that is gone is noticed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Our own descriptors are not accepted.
    #[error("cannot serve reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server ended.
    #[error("the gRPC server ended: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// How others are reached; absent: plaintext.
#[derive(Debug, Clone, Default)]
pub struct Others {
    /// Other replicas.
    pub replicas: Option<ClientFiles>,
    /// Image builders.
    pub builders: Option<ClientFiles>,
}

/// Serves until `shutdown`, then lets calls in flight end.
pub async fn serve(
    federation: Arc<Federation>,
    connections: impl Stream<Item = Result<Connection, Infallible>> + Send + 'static,
    others: Others,
    limits: Arc<Limits>,
    calls: Calls,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<WorkspaceManagerServer<workspaces::Workspaces>>().await;
    health.set_serving::<LogsServer<logs::Logs>>().await;
    health.set_serving::<ClusterManagerServer<clusters::Clusters>>().await;
    health.set_serving::<ImageBuilderServer<builders::Builders>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let workspaces = workspaces::Workspaces::new(Arc::clone(&federation), shutdown.clone());
    let logs = logs::Logs::new(Arc::clone(&federation), shutdown.clone());
    let builders = builders::Builders::new(Arc::clone(&federation), others.builders, shutdown.clone());
    let access = Access::new(federation.lead(), Peers::new(others.replicas));
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_adaptive_window(Some(true))
        .layer(calls)
        .layer(GateLayer(access))
        .layer(GateLayer(limits))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(
            WorkspaceManagerServer::new(workspaces)
                .max_decoding_message_size(MESSAGE_MAX)
                .max_encoding_message_size(MESSAGE_MAX),
        )
        .add_service(LogsServer::new(logs))
        .add_service(
            ImageBuilderServer::new(builders)
                .max_decoding_message_size(MESSAGE_MAX)
                .max_encoding_message_size(MESSAGE_MAX),
        )
        .add_service(SpecProviderServer::new(images::Images(Arc::clone(&federation))))
        .add_service(ClusterServiceServer::new(bridge::Bridge(Arc::clone(&federation))))
        .add_service(
            ClusterManagerServer::new(clusters::Clusters::new(federation, shutdown.clone()))
                .max_decoding_message_size(MESSAGE_MAX),
        )
        .serve_with_incoming_shutdown(connections, shutdown.cancelled_owned())
        .await?;
    Ok(())
}
