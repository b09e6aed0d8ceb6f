//! `ExplainWorkspace` and `ForecastPlacement`.

use std::collections::BTreeMap;

use tonic::Status;

use super::service::Clusters;
use crate::convert::{number, timestamp};
use crate::error;
use crate::parse::{self, Problems};
use domain::names::ClusterName;
use domain::placement::explain::{Explanation, Fit, Wish};
use domain::placement::{Forecast, MOST_STARTS, PlacementRequest, Score};
use domain::workspace::Kind;
use proto::spaceport::v1;
use proto::wsman;

impl Clusters {
    pub(super) async fn explain(
        &self,
        request: v1::ExplainWorkspaceRequest,
    ) -> Result<v1::ExplainWorkspaceResponse, Status> {
        let id = parse::named("id", &request.id)?;
        let decision = self
            .federation
            .workspaces
            .explanations
            .explain(&id)
            .await
            .map_err(|error| error::status(&error))?;
        Ok(v1::ExplainWorkspaceResponse { decision: Some(decision_to_wire(&decision)) })
    }

    pub(super) async fn forecast(
        &self,
        request: v1::ForecastPlacementRequest,
    ) -> Result<v1::ForecastPlacementResponse, Status> {
        let mut problems = Problems::default();
        let kind = parse::kind(&mut problems, request.r#type);
        let wish = request.placement.unwrap_or_default();
        let wanted = PlacementRequest {
            class: problems.optional("class", &request.class),
            kind: kind.unwrap_or_default(),
            ..parse::placement(&mut problems, "placement", wish)
        };
        if !(1..=MOST_STARTS).contains(&request.count) {
            problems.add("count", format!("must be from 1 to {MOST_STARTS}"));
        }
        let mut without: Vec<ClusterName> = Vec::new();
        for (at, name) in request.without.iter().enumerate() {
            without.extend(problems.parse(&format!("without[{at}]"), name));
        }
        let mut weights: BTreeMap<ClusterName, u32> = BTreeMap::new();
        for (name, weight) in request.weights {
            weights.extend(problems.parse("weights", &name).map(|name| (name, weight)));
        }
        problems.finish(kind)?;
        let federation = std::sync::Arc::clone(&self.federation);
        let count = request.count;
        // Thousands of decisions over a large fleet take a while: run them off the threads that serve.
        let forecast = tokio::task::spawn_blocking(move || {
            federation.workspaces.explanations.forecast(&wanted, count, &without, &weights)
        })
        .await;
        let forecast = forecast.map_err(|_| Status::internal("the forecast failed"))?;
        Ok(forecast_to_wire(forecast.map_err(|error| error::status(&error))?))
    }
}

fn forecast_to_wire(forecast: Forecast) -> v1::ForecastPlacementResponse {
    let one = |(cluster, outcome): (ClusterName, domain::placement::Outcome)| {
        let (refuses_from, reason) =
            outcome.refuses_from.map_or((0, String::new()), |(nth, why)| (nth, why.to_string()));
        v1::ClusterForecast {
            cluster: cluster.to_string(),
            placed: outcome.placed,
            refuses_from,
            reason,
            last_choice: outcome.last_choice.unwrap_or_default(),
        }
    };
    v1::ForecastPlacementResponse {
        clusters: forecast.clusters.into_iter().map(one).collect(),
        left_over: forecast.left_over,
    }
}

fn decision_to_wire(decision: &Explanation) -> v1::PlacementDecision {
    let wish = &decision.wish;
    let rejected = decision.rejected.iter().map(|(cluster, reason)| v1::ClusterVerdict {
        cluster: cluster.to_string(),
        reason: reason.clone(),
        ..v1::ClusterVerdict::default()
    });
    let kind = match wish.kind {
        Kind::Regular => wsman::WorkspaceType::Regular,
        Kind::Prebuild => wsman::WorkspaceType::Prebuild,
        Kind::ImageBuild => wsman::WorkspaceType::Imagebuild,
    };
    v1::PlacementDecision {
        workspace: decision.workspace.to_string(),
        at: Some(timestamp(decision.at)),
        epoch: decision.epoch,
        wish: Some(wish_to_wire(wish)),
        class: wish.class.as_ref().map(ToString::to_string).unwrap_or_default(),
        r#type: kind.into(),
        placed: decision.placed.as_ref().map(ToString::to_string).unwrap_or_default(),
        verdicts: decision.ranked.iter().map(fit_to_wire).chain(rejected).collect(),
        left_out: number(decision.left_out),
    }
}

fn wish_to_wire(wish: &Wish) -> wsman::Placement {
    wsman::Placement {
        regions: wish.regions.iter().map(ToString::to_string).collect(),
        require_region: wish.require_region,
        cluster: wish.cluster.as_ref().map(ToString::to_string).unwrap_or_default(),
        cluster_labels: wish.labels.clone(),
        permissions: wish.permissions.iter().cloned().collect(),
        namespace: wish.namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn fit_to_wire(fit: &Fit) -> v1::ClusterVerdict {
    let Score { last_choice, region, canary, load, headroom, spread, tie } = fit.score;
    let region = number(region);
    v1::ClusterVerdict {
        cluster: fit.cluster.to_string(),
        score: Some(v1::PlacementScore {
            region,
            canary: canary.into(),
            load,
            headroom,
            spread,
            tie,
            last_choice: last_choice.into(),
        }),
        reason: String::new(),
        region: fit.region.to_string(),
        namespace: fit.namespace.to_string(),
        class: fit.class.to_string(),
    }
}
