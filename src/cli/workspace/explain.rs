//! `spaceport workspace explain`

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::connect::{Client, ClientArgs};
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::cli::view::{age, timestamp};
use crate::domain::names::WorkspaceId;
use crate::proto::spaceport::v1::{
    ClusterVerdict, ExplainWorkspaceRequest, PlacementDecision, PlacementScore,
};
use crate::proto::wsman::Placement;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DecisionView {
    workspace: String,
    at: Option<Timestamp>,
    epoch: i64,
    wish: WishView,
    placed: String,
    clusters: Vec<VerdictView>,
    left_out: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WishView {
    regions: Vec<String>,
    require_region: bool,
    cluster: String,
    labels: std::collections::BTreeMap<String, String>,
    permissions: Vec<String>,
    namespace: String,
    class: String,
    r#type: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VerdictView {
    cluster: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<ScoreView>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ScoreView {
    region: u32,
    canary: bool,
    load: f64,
    full: f64,
    workspaces: u64,
    tie: String,
}

impl From<PlacementDecision> for DecisionView {
    fn from(decision: PlacementDecision) -> Self {
        let r#type = decision.r#type().as_str_name();
        let wish: Placement = decision.wish.unwrap_or_default();
        Self {
            workspace: decision.workspace,
            at: timestamp(decision.at.as_ref()),
            epoch: decision.epoch,
            wish: WishView {
                regions: wish.regions,
                require_region: wish.require_region,
                cluster: wish.cluster,
                labels: wish.cluster_labels,
                permissions: wish.permissions,
                namespace: wish.namespace,
                class: decision.class,
                r#type,
            },
            placed: decision.placed,
            clusters: decision.verdicts.into_iter().map(VerdictView::from).collect(),
            left_out: decision.left_out,
        }
    }
}

impl From<ClusterVerdict> for VerdictView {
    fn from(verdict: ClusterVerdict) -> Self {
        Self { cluster: verdict.cluster, score: verdict.score.map(ScoreView::from), reason: verdict.reason }
    }
}

impl From<PlacementScore> for ScoreView {
    #[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
    fn from(score: PlacementScore) -> Self {
        Self {
            region: score.region,
            canary: score.canary == 0,
            load: score.load as f64 / 1e6,
            full: score.headroom as f64 / 1e3,
            workspaces: score.spread,
            tie: format!("{:016x}", score.tie),
        }
    }
}

impl DecisionView {
    fn table(&self, now: Timestamp) -> Table {
        let titles = ["CLUSTER", "VERDICT", "REGION", "CANARY", "LOAD", "FULL", "WORKSPACES", "REASON"];
        let mut table = Table::new(titles);
        for verdict in &self.clusters {
            let placed = verdict.cluster == self.placed;
            let reason = if placed && verdict.reason.is_empty() {
                format!("decided {} ago", age(self.at, now))
            } else {
                verdict.reason.clone()
            };
            let mut cells = vec![verdict.cluster.clone()];
            match &verdict.score {
                Some(score) => cells.extend([
                    if placed { "placed" } else { "fits" }.to_owned(),
                    (score.region + 1).to_string(),
                    if score.canary { "yes" } else { "no" }.to_owned(),
                    format!("{:.3}", score.load),
                    format!("{:.1}%", score.full * 100.0),
                    score.workspaces.to_string(),
                ]),
                None => cells.extend(["rejected", "", "", "", "", ""].map(str::to_owned)),
            }
            cells.push(reason);
            table.row(cells);
        }
        if self.left_out > 0 {
            table.row([format!("and {} more", self.left_out)]);
        }
        table
    }
}

/// Tells why a workspace is where it is.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    id: WorkspaceId,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let mut api = client.clusters();
    let request = ExplainWorkspaceRequest { id: id.to_string() };
    let answer = client.call(request, async |request| api.explain_workspace(request).await).await;
    let answer = answer.with_context(|| format!("failed to explain {id}"))?;
    let decision = answer.decision.context("the server explained nothing")?;
    let view = DecisionView::from(decision);
    terminal.result(connection.output, &view, || view.table(Timestamp::now()))
}
