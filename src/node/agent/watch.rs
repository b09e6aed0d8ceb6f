//! Watches this node's Workspaces and Snapshots of one namespace.
//!
//! The apiserver selects them by a field of the resource definition (Kubernetes 1.32, or 1.31 where the feature is on). One
//! that rejects the selector gets a watch of this node's pods, and one of each Workspace that such a pod belongs to; Snapshots
//! are then selected by the agent.

mod by_pods;
mod of_kind;
mod source;

use std::time::Duration;

use kube::api::ListParams;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::api::Kind;
pub use source::{Change, Source};
use source::{Closed, settings};

/// Between tries of the first list.
const RETRY: Duration = Duration::from_secs(1);

/// Watches a kind until the shutdown.
pub async fn run(source: Source, kind: Kind, shutdown: CancellationToken) {
    // Ends otherwise only when nobody receives changes any more, which is a shutdown as well.
    let _ = shutdown.run_until_cancelled(follow(&source, kind)).await;
    shutdown.cancelled().await;
}

async fn follow(source: &Source, kind: Kind) -> Result<(), Closed> {
    let own = format!("{}={}", kind.node_field(), source.cluster.node);
    if is_selectable(source, kind, &own).await {
        return of_kind::follow(source, kind, settings().fields(&own)).await;
    }
    info!(
        namespace = %source.namespace, %kind,
        "the apiserver cannot select by node; watching by pod (Kubernetes 1.32 and the definitions in crds/ select by node)"
    );
    match kind {
        Kind::Workspace => by_pods::follow(source).await,
        Kind::Snapshot => of_kind::follow(source, kind, settings()).await,
    }
}

/// Whether the apiserver accepts the selector: an older one answers 400.
async fn is_selectable(source: &Source, kind: Kind, selector: &str) -> bool {
    let api = source.cluster.objects(kind, source.namespace.as_str());
    let what = format!("list {kind}s");
    loop {
        match api.list_metadata(&ListParams::default().fields(selector).limit(1)).await {
            Ok(_) => {
                source.recovered(&what);
                return true;
            }
            Err(kube::Error::Api(status)) if status.code == 400 => {
                source.recovered(&what);
                return false;
            }
            Err(error) => source.call_failed(&what, &error),
        }
        tokio::time::sleep(RETRY).await;
    }
}
