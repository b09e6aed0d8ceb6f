use jiff::Timestamp;
use serde::Serialize;

use super::{age, text, timestamp};
use crate::table::{Table, plain, sentence, wide};
use proto::spaceport::v1::compared_workspace::Standing;
use proto::spaceport::v1::{ComparedWorkspace, DiffResponse};

/// A cluster against its records.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiffView {
    cluster: String,
    registered: bool,
    counts: Vec<CountView>,
    workspaces: Vec<ComparedView>,
    left_out: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CountView {
    standing: String,
    count: u32,
}

/// One workspace id in one namespace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComparedView {
    id: String,
    namespace: String,
    standing: String,
    meta_id: String,
    owner: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manager: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    elsewhere: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    deleting: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_by: Option<String>,
}

fn name(standing: Standing) -> String {
    standing.as_str_name().trim_start_matches("STANDING_").to_owned()
}

impl From<ComparedWorkspace> for ComparedView {
    fn from(one: ComparedWorkspace) -> Self {
        Self {
            standing: name(one.standing()),
            phase: text(&one.phase),
            manager: text(&one.manager),
            elsewhere: text(&one.elsewhere),
            at: timestamp(one.at.as_ref()),
            deleting: one.deleting,
            pod: text(&one.pod),
            held_by: text(&one.held_by),
            id: one.id,
            namespace: one.namespace,
            meta_id: one.meta_id,
            owner: one.owner,
        }
    }
}

impl DiffView {
    pub fn new(cluster: String, answer: DiffResponse) -> Self {
        let counts = answer.counts.iter();
        Self {
            cluster,
            registered: answer.registered,
            counts: counts
                .map(|one| CountView { standing: name(one.standing()), count: one.count })
                .collect(),
            workspaces: answer.workspaces.into_iter().map(ComparedView::from).collect(),
            left_out: answer.left_out,
        }
    }

    /// Counts in one line.
    pub fn summary(&self) -> String {
        let counts: Vec<String> =
            self.counts.iter().map(|one| format!("{} {}", one.count, one.standing.to_lowercase())).collect();
        let counts = if counts.is_empty() { "no workspaces".to_owned() } else { counts.join(", ") };
        let registered = if self.registered { "" } else { ", which is not registered" };
        let left_out = if self.left_out == 0 {
            String::new()
        } else {
            format!("; {} more are not shown", self.left_out)
        };
        format!("{}{registered}: {counts}{left_out}", self.cluster).replace('_', " ")
    }

    /// One row per workspace.
    pub fn table(&self, now: Timestamp) -> Table {
        let mut table = Table::new([
            plain("WORKSPACE"),
            wide("NAMESPACE"),
            plain("STANDING"),
            wide("OWNER"),
            plain("PHASE"),
            plain("SINCE"),
            sentence("DETAIL"),
        ]);
        for one in &self.workspaces {
            table.row([
                one.id.clone(),
                one.namespace.clone(),
                one.standing.clone(),
                one.owner.clone(),
                one.phase.clone().unwrap_or_default(),
                age(one.at, now),
                one.detail(),
            ]);
        }
        table
    }

    /// Whether no workspace is listed.
    pub fn is_empty(&self) -> bool {
        self.workspaces.is_empty()
    }
}

impl ComparedView {
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn meta_id(&self) -> &str {
        &self.meta_id
    }

    /// When it was recorded, or when its record ended.
    pub fn at(&self) -> Option<Timestamp> {
        self.at
    }

    /// Id, namespace, owner and standing.
    pub fn heads(&self) -> [String; 4] {
        [&self.id, &self.namespace, &self.owner, &self.standing].map(Clone::clone)
    }

    /// Other manager, other location, and whether it is being deleted.
    pub fn detail(&self) -> String {
        let manager = self.manager.as_ref().map(|manager| format!("manager: {manager}"));
        let elsewhere = self.elsewhere.as_ref().map(|place| format!("recorded at {place}"));
        let pod = self.pod.as_ref().map(|pod| {
            let held = self.held_by.as_ref().map(|held| format!(" held by {held}")).unwrap_or_default();
            format!("pod {pod}{held}")
        });
        let deleting = self.deleting.then(|| "being deleted".to_owned());
        [manager, elsewhere, pod, deleting].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}
