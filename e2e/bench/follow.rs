//! Records moments from the streams: the manager's of workspaces, and the clusters' watches of bare pods.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use proto::wsman::{SubscribeRequest, WorkspacePhase};
use tokio::time::sleep;

use super::{
    stage::{Client, FLOOR},
    tracker::{Moment, Tracker},
};

/// Records what the manager's stream reports, across restarts of the manager.
pub async fn follow_workspaces(mut client: Client, tracker: Arc<Tracker>) {
    loop {
        let request = SubscribeRequest { replay: true, ..SubscribeRequest::default() };
        if let Ok(answer) = client.subscribe(request).await {
            let mut updates = answer.into_inner();
            while let Ok(Some(update)) = updates.message().await {
                let Some(status) = update.status else { continue };
                match status.phase() {
                    WorkspacePhase::Running => tracker.note(&status.id, Moment::Running),
                    WorkspacePhase::Stopped => tracker.note(&status.id, Moment::Gone),
                    _ => {}
                }
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Records what a cluster's watch of bare pods reports.
pub async fn follow_pods(client: kube::Client, tracker: Arc<Tracker>) {
    let pods = Api::<Pod>::namespaced(client, FLOOR);
    let mut events = watcher::watcher(pods, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                if phase == Some("Running") {
                    tracker.note(&pod.name_any(), Moment::Running);
                }
            }
            Ok(watcher::Event::Delete(pod)) => tracker.note(&pod.name_any(), Moment::Gone),
            _ => {}
        }
    }
}
