//! Starting exactly once: repeats, conflicts, refusals.

use anyhow::{Context as _, Result, ensure};
use proto::wsman::{
    DescribeWorkspaceRequest, GetWorkspacesRequest, MarkActiveRequest, MetadataFilter, StartWorkspaceRequest,
    StopWorkspaceRequest, WorkspacePhase,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::story::{follow, is, refused, request, run, smallest_spec, start, stop, story, watch};

#[test]
fn a_repeated_start_gets_the_first_answer_and_a_different_one_is_refused() -> Result<()> {
    story("repeat", 1, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        let first = start(&mut client, request("ws", &["europe"])).await?;
        let again = start(&mut client, request("ws", &["europe"])).await?;
        ensure!(first == again, "{first:?} and {again:?}");
        let mut different = request("ws", &["europe"]);
        different.spec.as_mut().context("no spec")?.workspace_image = "image:2".into();
        refused(client.start_workspace(different).await, Code::AlreadyExists)?;
        let mut other_id = request("other", &["north-america"]);
        other_id.metadata.as_mut().context("no metadata")?.meta_id = "meta-ws".into();
        refused(client.start_workspace(other_id.clone()).await, Code::AlreadyExists)?;

        let mut stream = watch(&mut client, "ws").await?;
        stop(&mut client, "ws").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        refused(client.start_workspace(request("ws", &["europe"])).await, Code::AlreadyExists)?;
        crate::story::until("the long-lived id to be free again", async || {
            start(&mut client, other_id.clone()).await.map(drop)
        })
        .await
    })
}

#[test]
fn starts_at_once_for_one_long_lived_id_make_one_workspace() -> Result<()> {
    story("race", 2, &["eu-1", "us-1"], async |story| {
        let mut calls = Vec::new();
        for n in 0..8 {
            let mut client = story.installation.workspaces(&story.replicas[n % 2]).await?;
            let mut wanted = request(&format!("ws-{n}"), &[]);
            wanted.metadata.as_mut().context("no metadata")?.meta_id = "meta-one".into();
            calls.push(async move { client.start_workspace(wanted).await });
        }
        let outcomes = futures::future::join_all(calls).await;
        let started = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let codes: Vec<Code> =
            outcomes.iter().filter_map(|o| o.as_ref().err()).map(tonic::Status::code).collect();
        ensure!(started == 1, "{started} were started");
        ensure!(codes.iter().all(|code| *code == Code::AlreadyExists), "{codes:?}");
        Ok(())
    })
}

#[test]
fn bad_requests_name_every_field_and_change_nothing() -> Result<()> {
    story("bad-requests", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let status =
            refused(client.start_workspace(StartWorkspaceRequest::default()).await, Code::InvalidArgument)?;
        let details = status.get_details_bad_request().context("no details")?;
        ensure!(
            details.field_violations.iter().any(|violation| violation.field == "metadata.owner"),
            "{details:?}"
        );
        let mut unknown_class = request("ws", &[]);
        unknown_class.spec.as_mut().context("no spec")?.class = "no-such-class".into();
        let status = refused(client.start_workspace(unknown_class).await, Code::FailedPrecondition)?;
        ensure!(status.message().contains("does not offer class no-such-class"), "{}", status.message());
        refused(
            client.describe_workspace(DescribeWorkspaceRequest { id: "nobody".into() }).await,
            Code::NotFound,
        )?;
        refused(
            client.mark_active(MarkActiveRequest { id: "nobody".into(), ..Default::default() }).await,
            Code::NotFound,
        )?;
        refused(
            client.describe_workspace(DescribeWorkspaceRequest { id: "No Name".into() }).await,
            Code::InvalidArgument,
        )?;
        client.stop_workspace(StopWorkspaceRequest { id: "nobody".into(), policy: 0 }).await?;
        let all = client.get_workspaces(GetWorkspacesRequest::default()).await?.into_inner();
        ensure!(all.status.is_empty(), "something was made: {:?}", all.status);
        let made = story.resources("eu-1")?.list(&kube::api::ListParams::default()).await?;
        ensure!(made.items.is_empty(), "a resource was made");
        Ok(())
    })
}

#[test]
fn lists_are_filtered_by_owner_and_long_lived_id_and_come_in_pages() -> Result<()> {
    story("lists", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        for n in 0..5 {
            let mut wanted = request(&format!("ws-{n}"), &[]);
            let owner = if n % 2 == 0 { "jane" } else { "joe" };
            wanted.metadata.as_mut().context("no metadata")?.owner = owner.into();
            start(&mut client, wanted).await?;
        }
        let mut ids = async |filter: MetadataFilter, page_size: u32, page_token: String| -> Result<_> {
            let must_match = Some(filter);
            let request = GetWorkspacesRequest { must_match, page_size, page_token };
            let answer = client.get_workspaces(request).await?.into_inner();
            let ids: Vec<String> = answer.status.into_iter().map(|status| status.id).collect();
            anyhow::Ok((ids, answer.next_page_token))
        };
        let joe = MetadataFilter { owner: "joe".into(), ..MetadataFilter::default() };
        ensure!(ids(joe, 0, String::new()).await?.0 == ["ws-1", "ws-3"], "by owner");
        let meta = MetadataFilter { meta_id: "meta-ws-4".into(), ..MetadataFilter::default() };
        ensure!(ids(meta, 0, String::new()).await?.0 == ["ws-4"], "by long-lived id");
        let all = MetadataFilter::default();
        let (first, token) = ids(all.clone(), 3, String::new()).await?;
        let (second, end) = ids(all.clone(), 3, token.clone()).await?;
        ensure!(
            [first, second].concat() == ["ws-0", "ws-1", "ws-2", "ws-3", "ws-4"] && end.is_empty(),
            "pages"
        );
        let joe = MetadataFilter { owner: "joe".into(), ..MetadataFilter::default() };
        for (filter, bad) in [(all.clone(), "ws-2"), (all, "nonsense"), (joe, token.as_str())] {
            let (must_match, page_token) = (Some(filter), bad.to_owned());
            let request = GetWorkspacesRequest { must_match, page_size: 3, page_token };
            let status = refused(client.get_workspaces(request).await, Code::InvalidArgument)?;
            ensure!(status.message().contains("page_token"), "{bad}: {}", status.message());
        }
        Ok(())
    })
}

#[test]
fn a_workspace_named_as_a_resource_of_another_manager_goes_to_another_cluster() -> Result<()> {
    story("foreign", 1, &["eu-1", "us-1"], async |story| {
        let mut foreign =
            story.resources("eu-1")?.create(&kube::api::PostParams::default(), &foreign()?).await?;
        foreign.metadata.managed_fields = None;
        let mut client = story.client().await?;
        let status = run(&mut client, request("ws", &["europe"])).await?;
        ensure!(status.cluster == "us-1", "it is on {}", status.cluster);
        let still = story.resources("eu-1")?.get("ws").await?;
        ensure!(still.metadata.resource_version == foreign.metadata.resource_version, "it was touched");
        Ok(())
    })
}

fn foreign() -> Result<k8s::resources::Workspace> {
    Ok(serde_json::from_value(serde_json::json!({
        "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace",
        "metadata": { "name": "ws", "labels": { "gitpod.io/managed-by": "ws-manager-mk2" } },
        "spec": smallest_spec("meta"),
    }))?)
}
