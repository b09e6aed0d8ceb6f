//! etcd is gone, silent or slow for a manager: running workspaces continue, reads are answered, writes are rejected
//! with a retry delay, and afterwards everything works again by itself.

use anyhow::{Context as _, Result, ensure};
use proto::wsman::{WorkspacePhase, WorkspaceStatus};
use serde_json::json;
use std::time::Duration;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::story::{Story, describe, follow, is, request, run, start, stop, story, until, watch};
use e2e::harness::{Fault, Proxy};

/// Starts one manager with a proxy in front of its etcd, and registers eu-1.
pub async fn behind_etcd_proxy(story: &mut Story) -> Result<Proxy> {
    let proxy = Proxy::of_etcd(story.fleet.etcd()).await?;
    story.installation.overrides = json!({ "etcd": { "endpoints": [proxy.url("https")] } });
    story.replicas.push(story.installation.start("manager-0").await?);
    story.register("eu-1").await?;
    Ok(proxy)
}

#[test]
fn without_etcd_reads_continue_writes_get_a_retry_delay_and_both_work_afterwards() -> Result<()> {
    story("etcd-outage", 0, &[], async |story| {
        let proxy = behind_etcd_proxy(story).await?;
        let mut client = story.client().await?;
        let before = run(&mut client, request("before", &[])).await?;
        let mut stream = watch(&mut client, "before").await?;
        follow(&mut stream, is(WorkspacePhase::Running)).await?;

        for (name, fault) in [("gone", Fault::Refuse), ("silent", Fault::BlackHole)] {
            proxy.set(fault).await?;
            // Until its term has expired a leader may still try: the outcome is unknown, and rejected all the same.
            for n in 0..2 {
                let refused = client.start_workspace(request(&format!("{name}-{n}"), &[])).await;
                let refused = refused.err().context("a start was acknowledged without etcd")?;
                ensure!(refused.code() == Code::Unavailable, "{refused:?}");
                let retry = refused.get_details_retry_info().context("it does not say when to repeat")?;
                ensure!(retry.retry_delay.is_some_and(|delay| !delay.is_zero()), "{retry:?}");
            }
            let read = describe(&mut client, "before").await?.context("it is not known any more")?;
            ensure!(runs_as(&read, &before), "{read:?}");
            proxy.heal().await?;
            until("a start", async || {
                start(&mut client, request(&format!("{name}-0"), &[])).await?;
                Ok(())
            })
            .await?;
            let read = describe(&mut client, "before").await?.context("it is not known any more")?;
            ensure!(runs_as(&read, &before), "{read:?}");
        }

        let slow = Fault::Delay { by: Duration::from_millis(150), jitter: Duration::from_millis(100) };
        proxy.set(slow).await?;
        run(&mut client, request("slow", &[])).await?;
        stop(&mut client, "before").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        Ok(())
    })
}

fn runs_as(now: &WorkspaceStatus, before: &WorkspaceStatus) -> bool {
    now.phase() == WorkspacePhase::Running && now.reachable && now.status_version == before.status_version
}
