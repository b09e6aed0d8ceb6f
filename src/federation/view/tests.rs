//! Samples of workspaces, for the tests of this room and of others.

use std::sync::Arc;

use jiff::Timestamp;

use super::seen::Seen;
use domain::record::{Digest, PlacementRecord, RecordState, status_version};
use domain::workspace::{Phase, View};

/// The first start of workspace `ws` of jane on eu-1.
pub fn sample(state: RecordState) -> PlacementRecord {
    PlacementRecord {
        workspace: "ws".parse().unwrap(),
        meta: "meta".parse().unwrap(),
        owner: "jane".parse().unwrap(),
        cluster: "eu-1".parse().unwrap(),
        namespace: "workspaces".parse().unwrap(),
        generation: 1,
        digest: Digest(String::new()),
        keying: None,
        placed_at: Timestamp::UNIX_EPOCH,
        state,
        given_up: None,
        ending: None,
        port_of: None,
    }
}

/// A view of a running workspace whose long-lived id is `meta-<id>`.
pub fn view(id: &str) -> View {
    View {
        uid: format!("uid-{id}"),
        resource_version: 1,
        created_at: None,
        class: "small".to_owned(),
        image: "image".to_owned(),
        owner_token: "secret".to_owned(),
        phase: Phase::Running,
        ..View::of_record(&record(id, "eu-1"))
    }
}

/// The view as seen on `eu-1`.
pub fn seen(view: View) -> Seen {
    Seen {
        version: status_version(view.generation, view.resource_version),
        view: Arc::new(view.into()),
        cluster: "eu-1".parse().unwrap(),
        region: None,
        reachable: true,
        observed_at: None,
        draining: None,
        obstacle: None,
    }
}

/// A recorded start of a workspace.
pub fn record(id: &str, cluster: &str) -> PlacementRecord {
    PlacementRecord {
        workspace: id.parse().unwrap(),
        meta: format!("meta-{id}").parse().unwrap(),
        cluster: cluster.parse().unwrap(),
        ..sample(RecordState::Placed)
    }
}
