use jiff::Timestamp;
use serde::Serialize;

use super::{age, moment, timestamp};
use crate::table::{Layout, Page, Table, columns, plain, sentence, wide};
use domain::duration::GoDuration;
use proto::spaceport::v1::{Drain, DrainCounts, DrainWorkspace, UnsavedWorkspace};

/// Characters of a progress bar.
const BAR: u32 = 24;

/// A drain.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainView {
    cluster: String,
    state: String,
    reason: String,
    started_at: Option<Timestamp>,
    deadline_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    estimated_end: Option<Timestamp>,
    idle: Option<String>,
    rate_per_minute: u32,
    max_concurrent: u32,
    accept_no_room: bool,
    counts: CountsView,
    workspaces: Vec<WorkspaceView>,
    unsaved: Vec<UnsavedView>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct CountsView {
    total: u32,
    left: u32,
    left_alone: u32,
    finishing: u32,
    due: u32,
    no_room: u32,
    stopping: u32,
    in_flight: u32,
    stopped: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WorkspaceView {
    id: String,
    owner: String,
    fate: String,
    due_at: Option<Timestamp>,
    room: String,
    no_room: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UnsavedView {
    id: String,
    reason: String,
    at: Option<Timestamp>,
    accepted: bool,
}

impl From<Drain> for DrainView {
    fn from(drain: Drain) -> Self {
        let idle = drain.idle.and_then(|idle| std::time::Duration::try_from(idle).ok());
        Self {
            state: drain.state().as_str_name().trim_start_matches("STATE_").to_owned(),
            started_at: timestamp(drain.started_at.as_ref()),
            deadline_at: timestamp(drain.deadline_at.as_ref()),
            ended_at: timestamp(drain.ended_at.as_ref()),
            estimated_end: timestamp(drain.estimated_end.as_ref()),
            idle: idle.map(|idle| GoDuration::from(idle).to_string()),
            cluster: drain.cluster,
            reason: drain.reason,
            rate_per_minute: drain.rate_per_minute,
            max_concurrent: drain.max_concurrent,
            accept_no_room: drain.accept_no_room,
            counts: drain.counts.map(CountsView::from).unwrap_or_default(),
            workspaces: drain.workspaces.into_iter().map(WorkspaceView::from).collect(),
            unsaved: drain.unsaved.into_iter().map(UnsavedView::from).collect(),
        }
    }
}

impl From<DrainCounts> for CountsView {
    fn from(counts: DrainCounts) -> Self {
        Self {
            total: counts.total,
            left: counts.left,
            left_alone: counts.left_alone,
            finishing: counts.finishing,
            due: counts.due,
            no_room: counts.no_room,
            stopping: counts.stopping,
            in_flight: counts.in_flight,
            stopped: counts.stopped,
        }
    }
}

impl From<DrainWorkspace> for WorkspaceView {
    fn from(one: DrainWorkspace) -> Self {
        Self {
            fate: one.fate().as_str_name().trim_start_matches("FATE_").to_owned(),
            due_at: timestamp(one.due_at.as_ref()),
            id: one.id,
            owner: one.owner,
            room: one.room,
            no_room: one.no_room,
        }
    }
}

impl WorkspaceView {
    /// Where its next start would go. Empty if the drain does not end it; servers of earlier versions name a cluster then.
    fn target(&self) -> String {
        match self.fate.as_str() {
            "FINISHES" | "STOPPING" => String::new(),
            _ if self.no_room.is_empty() => self.room.clone(),
            _ => format!("none: {}", self.no_room),
        }
    }
}

impl From<UnsavedWorkspace> for UnsavedView {
    fn from(one: UnsavedWorkspace) -> Self {
        Self { at: timestamp(one.at.as_ref()), id: one.id, reason: one.reason, accepted: one.accepted }
    }
}

impl DrainView {
    /// A row of the status page: cluster, state, workspaces left, estimated end, and why it does not progress.
    pub fn summary(&self, now: Timestamp) -> [String; 5] {
        let ends = self.estimated_end.map(|end| format!("in {}", age(Some(now), end))).unwrap_or_default();
        let left = format!("{} of {}", self.counts.left, self.counts.total);
        [self.cluster.clone(), self.state.clone(), left, ends, self.reason.clone()]
    }

    /// The drain, its workspaces, and those that ended without a backup.
    pub fn page(&self, now: Timestamp) -> Page {
        Page::of([self.details(now), self.workspaces(now), self.unsaved(now)])
    }

    fn details(&self, now: Timestamp) -> Table {
        let ago = |at: Option<Timestamp>| at.map(|_| format!("{} ago", age(at, now))).unwrap_or_default();
        Table::of_fields([
            ("cluster", self.cluster.clone()),
            ("state", self.state.clone()),
            ("reason", self.reason.clone()),
            ("started", ago(self.started_at)),
            ("ended", ago(self.ended_at)),
            ("deadline", moment(self.deadline_at, now)),
            ("idle", self.idle.clone().unwrap_or_default()),
            ("stops", format!("{}/min, {} at once", self.rate_per_minute, self.max_concurrent)),
            ("workspaces", self.left()),
            ("done by", moment(self.estimated_end, now)),
        ])
    }

    fn workspaces(&self, now: Timestamp) -> Table {
        let mut table = Table::new([
            plain("WORKSPACE"),
            wide("OWNER"),
            plain(if self.is_plan() { "PLAN" } else { "FATE" }),
            plain("STOPS IN"),
            wide("STOPS AT"),
            sentence("TARGET"),
        ]);
        for one in &self.workspaces {
            let stops_in = one.due_at.map(|due| age(Some(now), due)).unwrap_or_default();
            let stops_at = one.due_at.map(|due| format!("{due:.0}")).unwrap_or_default();
            table.row([one.id.clone(), one.owner.clone(), self.fate(one), stops_in, stops_at, one.target()]);
        }
        table
    }

    fn is_plan(&self) -> bool {
        self.state == "PLANNED"
    }

    fn fate(&self, one: &WorkspaceView) -> String {
        let fate = match one.fate.as_str() {
            "FINISHES" if self.is_plan() => "WOULD FINISH",
            "LEFT_ALONE" if self.is_plan() => "WOULD RUN ON",
            "DUE" if self.is_plan() => "WOULD STOP",
            "NO_ROOM" if self.is_plan() => "WOULD STAY",
            "STOPPING" if self.is_plan() => "STOPS ALREADY",
            fate => fate,
        };
        fate.to_owned()
    }

    fn unsaved(&self, now: Timestamp) -> Table {
        let columns = [plain("WITHOUT A BACKUP"), plain("SINCE"), plain("ACCEPTED"), sentence("REASON")];
        let mut table = Table::new(columns);
        for one in &self.unsaved {
            let accepted = if one.accepted { "yes" } else { "no" }.to_owned();
            table.row([one.id.clone(), age(one.at, now), accepted, one.reason.clone()]);
        }
        table
    }

    /// Why it does not progress.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// A bar, the estimated time left, and counts; a second line if needed.
    pub fn progress(&self, now: Timestamp, layout: Layout) -> String {
        let counts = &self.counts;
        let total = counts.total.max(counts.left);
        let done = total - counts.left;
        let filled = done.saturating_mul(BAR).checked_div(total).unwrap_or(BAR);
        let bar: String = (0..BAR).map(|at| if at < filled { '#' } else { '.' }).collect();
        let mut parts = vec![format!("[{bar}] {done}/{total}"), self.state.to_lowercase()];
        if let Some(end) = self.estimated_end.filter(|_| counts.left > 0) {
            let left =
                std::time::Duration::from_secs(end.duration_since(now).as_secs().max(0).unsigned_abs());
            parts.push(format!("about {} left", GoDuration::from(left)));
        }
        if counts.left > 0 {
            parts.push(self.left());
        }
        columns(&parts, layout)
    }

    fn left(&self) -> String {
        let counts = &self.counts;
        let parts = [
            (counts.left_alone, "left alone"),
            (counts.finishing, "finishing"),
            (counts.due, "due"),
            (counts.no_room, "without capacity"),
            (counts.stopping, "stopping"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let tail = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
        format!("{} left{tail}", counts.left)
    }
}
