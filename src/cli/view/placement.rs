use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{age, timestamp};
use crate::table::{Page, Table, plain, sentence, wide};
use proto::spaceport::v1::{
    ClusterForecast, ClusterVerdict, ForecastPlacementResponse, PlacementDecision, PlacementScore,
};
use proto::wsman::Placement;

/// How a workspace was placed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionView {
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
    labels: BTreeMap<String, String>,
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
    last_choice: bool,
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
            last_choice: score.last_choice > 0,
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
    /// When it was decided, and one row per cluster.
    pub fn page(&self, now: Timestamp) -> Page {
        let decided = self.at.map(|at| format!("{} ago", age(Some(at), now))).unwrap_or_default();
        Page::of([Table::of_fields([("decided", decided)]), self.table()])
    }

    fn table(&self) -> Table {
        let mut table = Table::new([
            plain("CLUSTER"),
            plain("VERDICT"),
            wide("REGION"),
            wide("CANARY"),
            plain("LOAD"),
            plain("FULL"),
            plain("WORKSPACES"),
            sentence("REASON"),
        ]);
        if let Some(reason) = self.one_reason() {
            let cells = [format!("(all {})", self.clusters.len()), "rejected".to_owned()];
            table.row(cells.into_iter().chain(vec![String::new(); 5]).chain([reason.to_owned()]));
        } else {
            self.clusters.iter().for_each(|verdict| table.row(self.cells(verdict)));
        }
        if self.left_out > 0 {
            table.row([format!("and {} more", self.left_out)]);
        }
        table
    }

    /// The reason of several clusters, if they share it.
    fn one_reason(&self) -> Option<&str> {
        let [first, _, ..] = self.clusters.as_slice() else { return None };
        let same = |one: &VerdictView| one.score.is_none() && one.reason == first.reason;
        self.clusters.iter().all(same).then_some(first.reason.as_str())
    }

    fn cells(&self, verdict: &VerdictView) -> Vec<String> {
        let placed = verdict.cluster == self.placed;
        let mut cells = vec![verdict.cluster.clone()];
        match &verdict.score {
            Some(score) => cells.extend([
                match (placed, score.last_choice) {
                    (true, _) => "placed",
                    (false, true) => "last choice",
                    (false, false) => "fits",
                }
                .to_owned(),
                (score.region + 1).to_string(),
                if score.canary { "yes" } else { "no" }.to_owned(),
                format!("{:.3}", score.load),
                format!("{:.1}%", score.full * 100.0),
                score.workspaces.to_string(),
            ]),
            None => cells.extend(["rejected", "", "", "", "", ""].map(str::to_owned)),
        }
        cells.push(verdict.reason.clone());
        cells
    }
}

/// Where starts would be placed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ForecastView {
    clusters: BTreeMap<String, OutcomeView>,
    left_over: u32,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct OutcomeView {
    placed: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    refuses_from: Option<u32>,
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    last_choice: String,
}

impl From<ForecastPlacementResponse> for ForecastView {
    fn from(answer: ForecastPlacementResponse) -> Self {
        let outcome = |one: ClusterForecast| {
            let refuses_from = Some(one.refuses_from).filter(|nth| *nth > 0);
            let (placed, reason, last_choice) = (one.placed, one.reason, one.last_choice);
            (one.cluster, OutcomeView { placed, refuses_from, reason, last_choice })
        };
        Self { clusters: answer.clusters.into_iter().map(outcome).collect(), left_over: answer.left_over }
    }
}

impl OutcomeView {
    fn cells(&self, cluster: String) -> [String; 4] {
        let from = self.refuses_from.map(|nth| format!("start {nth}")).unwrap_or_default();
        let last = (!self.last_choice.is_empty()).then(|| format!("last choice: {}", self.last_choice));
        let reasons = [Some(self.reason.clone()).filter(|reason| !reason.is_empty()), last];
        let reason = reasons.into_iter().flatten().collect::<Vec<_>>().join("; ");
        [cluster, self.placed.to_string(), from, reason]
    }
}

impl ForecastView {
    /// One row per cluster.
    pub fn table(&self) -> Table {
        let columns = [plain("CLUSTER"), plain("PLACED"), plain("REFUSES FROM"), sentence("REASON")];
        let mut table = Table::new(columns);
        match self.one_outcome() {
            Some(outcome) => table.row(outcome.cells(format!("(all {})", self.clusters.len()))),
            None => self.clusters.iter().for_each(|(name, outcome)| table.row(outcome.cells(name.clone()))),
        }
        if self.left_over > 0 || self.clusters.is_empty() {
            table.row(["(none)".to_owned(), self.left_over.to_string()]);
        }
        table
    }

    /// The outcome of several clusters, if all reject for the same reason.
    fn one_outcome(&self) -> Option<&OutcomeView> {
        let first = self.clusters.values().next().filter(|first| first.placed == 0)?;
        (self.clusters.len() > 1 && self.clusters.values().all(|one| one == first)).then_some(first)
    }
}
