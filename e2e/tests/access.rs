//! Authorization: certificates and roles.

use anyhow::{Context as _, Result, ensure};
use proto::spaceport::v1::{ListRequest, cluster_manager_client::ClusterManagerClient};
use proto::wsman::{GetWorkspacesRequest, workspace_manager_client::WorkspaceManagerClient};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::story::{refused, story};
use e2e::harness::pki::Authority;

#[test]
fn clients_need_a_certificate_and_admins_one_that_says_so() -> Result<()> {
    story("access", 2, &[], async |story| {
        let authority = story.installation.authority();
        let user = authority.client("user", &["some-team"])?;
        let admin = authority.client("boss", &["spaceport:admin"])?;
        for replica in &story.replicas {
            let channel = story.installation.channel(&replica.endpoint, Some(&user)).await?;
            WorkspaceManagerClient::new(channel.clone())
                .get_workspaces(GetWorkspacesRequest::default())
                .await?;
            let denied = ClusterManagerClient::new(channel.clone()).list(ListRequest {}).await;
            refused(denied, Code::PermissionDenied)?;
            HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await?;
            let channel = story.installation.channel(&replica.endpoint, Some(&admin)).await?;
            ClusterManagerClient::new(channel).list(ListRequest {}).await?;
        }
        let endpoint = &story.replicas.first().context("no manager")?.endpoint;
        let anonymous = story.installation.channel(endpoint, None).await;
        ensure!(is_kept_out(anonymous).await, "a client without a certificate was let in");
        let stranger = Authority::create(&story.installation.dir().join("strangers"), "strangers")?;
        let stranger = stranger.client("boss", &["spaceport:admin"])?;
        let foreign = story.installation.channel(endpoint, Some(&stranger)).await;
        ensure!(is_kept_out(foreign).await, "a certificate of another authority was let in");
        let plain =
            tonic::transport::Endpoint::from_shared(endpoint.replace("https", "http"))?.connect().await;
        ensure!(is_kept_out(plain.map_err(Into::into)).await, "plaintext was let in");
        Ok(())
    })
}

/// With TLS 1.3 a rejected client notices it only when it uses the connection.
async fn is_kept_out(channel: Result<tonic::transport::Channel>) -> bool {
    let Ok(channel) = channel else { return true };
    WorkspaceManagerClient::new(channel).get_workspaces(GetWorkspacesRequest::default()).await.is_err()
}

#[test]
fn reflection_lists_the_served_services() -> Result<()> {
    story("reflection", 1, &[], async |story| {
        let user = story.installation.authority().client("user", &[])?;
        let endpoint = &story.replicas.first().context("no manager")?.endpoint;
        let channel = story.installation.channel(endpoint, Some(&user)).await?;
        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let asked = futures::stream::iter([ask]);
        let mut answers =
            ServerReflectionClient::new(channel).server_reflection_info(asked).await?.into_inner();
        let answer = answers.message().await?.context("no answer")?;
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
            anyhow::bail!("another answer: {answer:?}");
        };
        let services: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
        for wanted in ["wsman.WorkspaceManager", "spaceport.v1.ClusterManager", "grpc.health.v1.Health"] {
            ensure!(services.iter().any(|name| name == wanted), "{wanted} is not among {services:?}");
        }
        Ok(())
    })
}
