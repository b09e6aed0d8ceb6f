//! `spaceport cluster explain`

use anyhow::{Context, Result};
use clap::Args;

use crate::connect::{Client, ClientArgs};
use crate::terminal::Terminal;
use crate::value_parsers::{pair, whole};
use crate::view::ForecastView;
use domain::cluster::LARGEST_WEIGHT;
use domain::names::{ClassId, ClusterName, Namespace, Region};
use domain::placement::MOST_STARTS;
use proto::spaceport::v1::ForecastPlacementRequest;
use proto::wsman::Placement;

/// `spaceport cluster explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Preferred region; repeatable, in order of preference
    #[arg(long = "region", value_name = "REGION")]
    regions: Vec<Region>,
    /// Only clusters in the named regions
    #[arg(long)]
    require_region: bool,
    /// Only this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// Label that the cluster must have; repeatable
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
    /// Number of starts to simulate, one after the other
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = whole(1..=MOST_STARTS))]
    count: u32,
    /// Cluster to leave out; repeatable
    #[arg(long, value_name = "NAME")]
    without: Vec<ClusterName>,
    /// Weight to assume for a cluster; repeatable
    #[arg(long = "with-weight", value_name = "NAME=WEIGHT", value_parser = weight)]
    weights: Vec<(ClusterName, u32)>,
}

fn weight(text: &str) -> Result<(ClusterName, u32), String> {
    let (name, weight) = text.split_once('=').ok_or("must be NAME=WEIGHT")?;
    let weight = whole(0..=LARGEST_WEIGHT)(weight).map_err(|rule| format!("the weight {rule}"))?;
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

/// Prints where starts would be placed.
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
