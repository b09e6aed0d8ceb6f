//! Subscribers, each of one replica. A subscriber closes its stream now and then and resumes it; after a broken stream
//! it subscribes again with a full replay, because another process does not know its token.
//!
//! A stream with its resumptions is one record. A broken stream has no last state to check.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use proto::wsman::{SubscribeRequest, SubscribeResponse, WorkspaceStatus};
use tokio::time::{sleep, timeout};
use tonic::Streaming;

use super::history::Seen;
use super::rng::Rng;
use super::stage::Stage;

/// Timeout of opening a stream.
const BEGIN: Duration = Duration::from_secs(5);
/// A stream is closed after this many milliseconds, and resumed.
const TURN: std::ops::Range<u64> = 4_000..15_000;

#[derive(Clone, Debug, Default)]
pub struct Received {
    /// By stream, in order.
    pub streams: BTreeMap<String, Vec<Seen>>,
    /// Streams that broke.
    pub ended: BTreeSet<String>,
    /// Number of resumed streams.
    pub resumed: usize,
}

/// Shared by all subscribers.
pub type Receipts = Arc<Mutex<Received>>;

/// Follows the replica at an index until dropped.
pub async fn follow(stage: Arc<Stage>, place: usize, seed: u64, record: Receipts) {
    let mut rng = Rng::new(seed, &format!("subscriber-{place}"));
    for nth in 0_usize.. {
        let name = format!("subscriber-{place}-{nth}");
        record.lock().streams.insert(name.clone(), Vec::new());
        let mut token = String::new();
        while let Ok(stream) = begin(&stage, place, &token).await {
            if !token.is_empty() {
                record.lock().resumed += 1;
            }
            let turn = rng.millis(TURN);
            if timeout(turn, read(stream, &name, &mut token, &record)).await.is_ok() {
                break;
            }
        }
        record.lock().ended.insert(name);
        sleep(Duration::from_millis(200)).await;
    }
}

async fn begin(stage: &Stage, place: usize, token: &str) -> Result<Streaming<SubscribeResponse>> {
    let replicas = stage.replicas();
    let replica = replicas.get(place).context("no such replica")?;
    timeout(BEGIN, async {
        let mut connection = stage.installation.workspaces(replica).await?;
        let resume_token = token.to_owned();
        let request =
            SubscribeRequest { replay: token.is_empty(), resume_token, ..SubscribeRequest::default() };
        Ok(connection.subscribe(request).await?.into_inner())
    })
    .await?
}

/// Records what arrives until the stream ends.
async fn read(mut stream: Streaming<SubscribeResponse>, name: &str, token: &mut String, record: &Receipts) {
    while let Ok(Some(update)) = stream.message().await {
        if let Some(status) = update.status {
            let mut record = record.lock();
            record.streams.entry(name.to_owned()).or_default().push(seen(&status));
        }
        *token = update.resume_token;
    }
}

fn seen(status: &WorkspaceStatus) -> Seen {
    Seen {
        id: status.id.clone(),
        version: status.status_version,
        phase: format!("{:?}", status.phase()),
        cluster: status.cluster.clone(),
    }
}
