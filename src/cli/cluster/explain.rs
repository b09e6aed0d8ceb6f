//! `spaceport cluster explain`

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::cli::connect::{Client, ClientArgs};
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::domain::names::{ClassId, ClusterName, Namespace, Region};
use crate::proto::spaceport::v1::{ForecastPlacementRequest, ForecastPlacementResponse};
use crate::proto::wsman::Placement;

/// `spaceport cluster explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Preferred region; repeatable, in order of preference
    #[arg(long = "region", value_name = "REGION")]
    regions: Vec<Region>,
    /// Only the named regions will do
    #[arg(long)]
    require_region: bool,
    /// Only this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// Label that the cluster must carry; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Permission that the owner holds; repeatable
    #[arg(long = "permission", value_name = "PERMISSION")]
    permissions: Vec<String>,
    /// Only namespaces of this name
    #[arg(long, value_name = "NAME")]
    namespace: Option<Namespace>,
    /// Workspace class; the preferred one of each namespace when absent
    #[arg(long)]
    class: Option<ClassId>,
    /// How many starts to imagine, one after the other
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    count: u32,
    /// Cluster to leave out; repeatable
    #[arg(long, value_name = "NAME")]
    without: Vec<ClusterName>,
    /// Weight to imagine for a cluster; repeatable
    #[arg(long = "with-weight", value_name = "NAME=WEIGHT", value_parser = weight)]
    weights: Vec<(ClusterName, u32)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

fn weight(text: &str) -> Result<(ClusterName, u32), String> {
    let (name, weight) = text.split_once('=').ok_or("must be NAME=WEIGHT")?;
    let weight = weight.parse::<u32>().ok().filter(|weight| *weight <= 1000);
    let weight = weight.ok_or("the weight must be from 0 to 1000")?;
    Ok((name.parse().map_err(|error| format!("{error}"))?, weight))
}

impl From<ExplainArgs> for ForecastPlacementRequest {
    fn from(args: ExplainArgs) -> Self {
        Self {
            placement: Some(Placement {
                regions: args.regions.into_iter().map(String::from).collect(),
                require_region: args.require_region,
                cluster: args.cluster.map(String::from).unwrap_or_default(),
                cluster_labels: args.labels.into_iter().collect(),
                permissions: args.permissions,
                namespace: args.namespace.map(String::from).unwrap_or_default(),
            }),
            class: args.class.map(String::from).unwrap_or_default(),
            r#type: 0,
            count: args.count,
            without: args.without.into_iter().map(String::from).collect(),
            weights: args.weights.into_iter().map(|(name, weight)| (name.into(), weight)).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ForecastView {
    clusters: BTreeMap<String, OutcomeView>,
    left_over: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OutcomeView {
    placed: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    refuses_from: Option<u32>,
    reason: String,
}

impl From<ForecastPlacementResponse> for ForecastView {
    fn from(answer: ForecastPlacementResponse) -> Self {
        let outcome = |one: crate::proto::spaceport::v1::ClusterForecast| {
            let refuses_from = Some(one.refuses_from).filter(|nth| *nth > 0);
            (one.cluster, OutcomeView { placed: one.placed, refuses_from, reason: one.reason })
        };
        Self { clusters: answer.clusters.into_iter().map(outcome).collect(), left_over: answer.left_over }
    }
}

impl ForecastView {
    fn table(&self) -> Table {
        let mut table = Table::new(["CLUSTER", "PLACED", "REFUSES FROM", "REASON"]);
        for (name, outcome) in &self.clusters {
            let from = outcome.refuses_from.map(|nth| format!("start {nth}")).unwrap_or_default();
            table.row([name.clone(), outcome.placed.to_string(), from, outcome.reason.clone()]);
        }
        if self.left_over > 0 || self.clusters.is_empty() {
            table.row(["(none)".to_owned(), self.left_over.to_string()]);
        }
        table
    }
}

/// Tells where starts would be placed.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: ExplainArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let mut api = client.clusters();
    let request = ForecastPlacementRequest::from(args);
    let answer = client.call(request, async |request| api.forecast_placement(request).await).await;
    let view = ForecastView::from(answer.context("failed to forecast placements")?);
    terminal.result(connection.output, &view, || view.table())
}
