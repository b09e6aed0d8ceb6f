//! The admin API of existing installations.

use anyhow::{Context as _, Result, ensure};
use proto::workspacemanagerbridge::admission_constraint::{Constraint, FeaturePreview, HasPermission};
use proto::workspacemanagerbridge::update_request::Property;
use proto::workspacemanagerbridge::{
    AdmissionConstraint, ClusterState, ClusterStatus, DeregisterRequest, ListRequest,
    ModifyAdmissionConstraint, RegisterRequest, TlsConfig, UpdateRequest,
    cluster_service_client::ClusterServiceClient,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::story::{Story, refused, request, start, stop, story, until};

type Bridge = ClusterServiceClient<Channel>;

async fn bridge(story: &Story, groups: &[&str]) -> Result<Bridge> {
    let identity = story.installation.authority().client("operator", groups)?;
    // The last replica: it may have to forward writes.
    let endpoint = &story.replicas.last().context("no manager")?.endpoint;
    Ok(ClusterServiceClient::new(story.installation.channel(endpoint, Some(&identity)).await?))
}

fn update(property: Property) -> UpdateRequest {
    UpdateRequest { name: "eu-1".into(), property: Some(property) }
}

fn constraint(add: bool, constraint: Option<Constraint>) -> UpdateRequest {
    let constraint = Some(AdmissionConstraint { constraint });
    update(Property::AdmissionConstraint(ModifyAdmissionConstraint { add, constraint }))
}

/// The list, once it is as wanted; a replica that forwarded a change sees it a moment later.
async fn listed(bridge: &mut Bridge, wanted: impl Fn(&ClusterStatus) -> bool) -> Result<()> {
    let cell = tokio::sync::Mutex::new(bridge);
    until("the list to show it", async || {
        let list = cell.lock().await.list(ListRequest {}).await?.into_inner().status;
        ensure!(list.len() == 1 && wanted(&list[0]), "{list:?}");
        Ok(())
    })
    .await
}

#[test]
fn clusters_are_listed_updated_and_deregistered_through_the_bridges_api() -> Result<()> {
    story("bridge", 2, &["eu-1"], async |story| {
        let mut bridge = bridge(story, &["spaceport:admin"]).await?;
        let url = story.cluster("eu-1")?.api();
        listed(&mut bridge, |status| {
            status.name == "eu-1"
                && url.starts_with(&status.url)
                && status.state() == ClusterState::Available
                && (status.score, status.max_score) == (50, 100)
                && status.region == "europe"
                && status.governed
                && !status.r#static
        })
        .await?;
        bridge.update(update(Property::Score(80))).await?;
        bridge.update(update(Property::MaxScore(90))).await?;
        bridge.update(update(Property::Cordoned(true))).await?;
        let permission = Constraint::HasPermission(HasPermission { permission: "developer".into() });
        let preview = Constraint::HasFeaturePreview(FeaturePreview {});
        for added in [&permission, &preview, &permission] {
            bridge.update(constraint(true, Some(added.clone()))).await?;
        }
        listed(&mut bridge, |status| {
            status.state() == ClusterState::Cordoned
                && (status.score, status.max_score) == (80, 90)
                && status.admission_constraint.len() == 2
        })
        .await?;
        for _ in 0..2 {
            bridge.update(constraint(false, Some(preview.clone()))).await?;
        }
        bridge.update(update(Property::Cordoned(false))).await?;
        listed(&mut bridge, |status| {
            let left = status.admission_constraint.iter().filter_map(|left| left.constraint.clone());
            status.state() == ClusterState::Available && left.eq([permission.clone()])
        })
        .await?;
        bridge.update(constraint(false, Some(permission.clone()))).await?;

        let mut client = story.client().await?;
        start(&mut client, request("ws", &[])).await?;
        let deregister = |force| DeregisterRequest { name: "eu-1".into(), force };
        let status = refused(bridge.deregister(deregister(false)).await, Code::FailedPrecondition)?;
        ensure!(status.message().contains("ws"), "{}", status.message());
        stop(&mut client, "ws").await?;
        until("the cluster to be empty", async || {
            bridge.clone().deregister(deregister(false)).await?;
            Ok(())
        })
        .await?;
        bridge.deregister(deregister(false)).await.context("an unknown cluster counts as deregistered")?;
        Ok(())
    })
}

#[test]
fn a_drain_shows_in_the_bridges_api_and_is_ended_there_only_once_it_is_over() -> Result<()> {
    story("bridge-drain", 1, &["eu-1"], async |story| {
        let mut bridge = bridge(story, &["spaceport:admin"]).await?;
        let mut client = story.client().await?;
        start(&mut client, request("busy", &[])).await?;
        let drain = async |args: &[&str]| {
            let output = story.cli(&[&["cluster", "drain"], args].concat()).await?;
            ensure!(output.code == 0, "{args:?}: {}", output.stderr);
            Ok(())
        };
        drain(&["eu-1", "--accept-no-room"]).await?;
        listed(&mut bridge, |status| status.state() == ClusterState::Draining).await?;
        let uncordon = update(Property::Cordoned(false));
        let status = refused(bridge.update(uncordon.clone()).await, Code::FailedPrecondition)?;
        ensure!(status.message().contains("cancel the drain first"), "{}", status.message());
        stop(&mut client, "busy").await?;
        until("the drain to end", async || {
            bridge.clone().update(uncordon.clone()).await?;
            Ok(())
        })
        .await?;
        listed(&mut bridge, |status| status.state() == ClusterState::Available).await
    })
}

#[test]
fn unsupported_calls_of_the_bridges_api_are_rejected_with_what_to_do_instead() -> Result<()> {
    story("bridge-bad", 1, &["eu-1"], async |story| {
        let mut bridge = bridge(story, &["spaceport:admin"]).await?;
        let status = refused(bridge.register(RegisterRequest::default()).await, Code::Unimplemented)?;
        ensure!(status.message().contains("spaceport cluster register -f FILE"), "{}", status.message());
        let tls = update(Property::Tls(TlsConfig::default()));
        let status = refused(bridge.update(tls).await, Code::Unimplemented)?;
        ensure!(status.message().contains("kubeconfig"), "{}", status.message());
        for (bad, field) in [
            (update(Property::Score(-1)), "score"),
            (update(Property::Score(101)), "weight"),
            (update(Property::MaxScore(0)), "maxWeight"),
            (constraint(true, None), "admission_constraint"),
            (
                constraint(true, Some(Constraint::HasPermission(HasPermission::default()))),
                "admissionConstraints",
            ),
        ] {
            let status = refused(bridge.update(bad).await, Code::InvalidArgument)?;
            ensure!(status.message().contains(field), "{field} is not named: {}", status.message());
        }
        let unknown = UpdateRequest { name: "nowhere".into(), property: Some(Property::Cordoned(true)) };
        refused(bridge.update(unknown).await, Code::NotFound)?;
        listed(&mut bridge, |status| {
            (status.score, status.max_score) == (50, 100) && status.admission_constraint.is_empty()
        })
        .await?;
        let mut user = self::bridge(story, &[]).await?;
        refused(user.list(ListRequest {}).await, Code::PermissionDenied)?;
        Ok(())
    })
}
