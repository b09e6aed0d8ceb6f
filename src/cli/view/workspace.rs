use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{ContentView, age, in_seconds, text, timestamp};
use crate::table::{Layout, Table, clean, columns, plain, sentence, wide};
use proto::wsman::{
    PortSpec, StartWorkspaceRequest, StartWorkspaceResponse, WorkspaceConditionBool, WorkspaceConditions,
    WorkspacePhase, WorkspaceStatus,
};

/// The phase by name; an unknown number is shown as UNKNOWN.
pub fn phase_name(phase: i32) -> &'static str {
    WorkspacePhase::try_from(phase).unwrap_or_default().as_str_name()
}

/// A workspace as the server reports it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceView {
    pub id: String,
    meta_id: String,
    owner: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    team: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    r#type: &'static str,
    class: String,
    pub phase: &'static str,
    message: String,
    pub cluster: String,
    region: String,
    namespace: String,
    reachable: bool,
    observed_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    status_version: u64,
    url: String,
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_timeout: Option<String>,
    admission: &'static str,
    annotations: BTreeMap<String, String>,
    ports: Vec<PortView>,
    conditions: BTreeMap<&'static str, String>,
    node: String,
    pod: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_activity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<ContentView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PortView {
    port: u32,
    visibility: &'static str,
    protocol: &'static str,
    url: String,
}

impl From<PortSpec> for PortView {
    fn from(port: PortSpec) -> Self {
        Self {
            port: port.port,
            visibility: port.visibility().as_str_name().trim_start_matches("PORT_VISIBILITY_"),
            protocol: port.protocol().as_str_name().trim_start_matches("PORT_PROTOCOL_"),
            url: port.url,
        }
    }
}

impl From<WorkspaceStatus> for WorkspaceView {
    /// Leaves the owner's token out.
    fn from(status: WorkspaceStatus) -> Self {
        let metadata = status.metadata.unwrap_or_default();
        let spec = status.spec.unwrap_or_default();
        let runtime = status.runtime.unwrap_or_default();
        let admission = status.auth.unwrap_or_default().admission();
        Self {
            id: status.id,
            started_at: timestamp(metadata.started_at.as_ref()),
            meta_id: metadata.meta_id,
            owner: metadata.owner,
            team: metadata.team,
            project: metadata.project,
            r#type: spec.r#type().as_str_name(),
            class: spec.class,
            phase: phase_name(status.phase),
            message: status.message,
            cluster: status.cluster,
            region: status.region,
            namespace: status.namespace,
            reachable: status.reachable,
            observed_at: timestamp(status.observed_at.as_ref()),
            status_version: status.status_version,
            url: spec.url,
            image: spec.workspace_image,
            timeout: text(&spec.timeout),
            closed_timeout: text(&spec.closed_timeout),
            admission: admission.as_str_name().trim_start_matches("ADMIT_"),
            annotations: metadata.annotations,
            ports: spec.exposed_ports.into_iter().map(PortView::from).collect(),
            conditions: conditions(&status.conditions.unwrap_or_default()),
            node: runtime.node_name,
            pod: runtime.pod_name,
            last_activity: None,
            owner_token: None,
            content: None,
        }
    }
}

/// The conditions that are set.
pub(super) fn conditions(from: &WorkspaceConditions) -> BTreeMap<&'static str, String> {
    let texts = [
        ("failed", &from.failed),
        ("timeout", &from.timeout),
        ("snapshot", &from.snapshot),
        ("headlessTaskFailed", &from.headless_task_failed),
    ];
    let flags = [
        ("pullingImages", from.pulling_images()),
        ("finalBackupComplete", from.final_backup_complete()),
        ("deployed", from.deployed()),
        ("networkNotReady", from.network_not_ready()),
        ("stoppedByRequest", from.stopped_by_request()),
        ("aborted", from.aborted()),
    ];
    let texts =
        texts.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name, text.clone()));
    let flags = flags.into_iter().filter(|(_, flag)| *flag == WorkspaceConditionBool::True);
    let activity =
        timestamp(from.first_user_activity.as_ref()).map(|time| ("firstUserActivity", time.to_string()));
    texts.chain(flags.map(|(name, _)| (name, "true".to_owned()))).chain(activity).collect()
}

impl WorkspaceView {
    /// Adds what only a description holds, and the token if requested.
    #[must_use]
    pub fn described(mut self, last_activity: &str, owner_token: Option<String>) -> Self {
        self.last_activity = text(last_activity);
        self.owner_token = owner_token;
        self
    }

    /// Adds what is known of its content.
    #[must_use]
    pub fn with_content(self, content: ContentView) -> Self {
        Self { content: Some(content), ..self }
    }

    /// One row per workspace.
    pub fn table(workspaces: &[Self], now: Timestamp) -> Table {
        let mut table = Table::new([
            plain("ID"),
            wide("META ID"),
            wide("OWNER"),
            wide("TYPE"),
            wide("CLASS"),
            plain("PHASE"),
            plain("CLUSTER"),
            wide("REGION"),
            plain("AGE"),
            wide("MESSAGE"),
        ]);
        for workspace in workspaces {
            table.row([
                workspace.id.clone(),
                workspace.meta_id.clone(),
                workspace.owner.clone(),
                workspace.r#type.to_owned(),
                workspace.class.clone(),
                workspace.phase_with_doubt(now),
                workspace.cluster.clone(),
                workspace.region.clone(),
                age(workspace.started_at, now),
                workspace.message.clone(),
            ]);
        }
        table
    }

    /// All fields of one workspace.
    pub fn details(&self, now: Timestamp) -> Table {
        let conditions = self.conditions.iter().map(|(name, value)| format!("{name}={}", in_seconds(value)));
        let annotations = self.annotations.iter().map(|(key, value)| format!("{key}={value}"));
        let port =
            |port: &PortView| format!("{} {} {}", port.port, port.visibility, port.url).trim().to_owned();
        let fields = [
            ("id", self.id.clone()),
            ("meta id", self.meta_id.clone()),
            ("owner", self.owner.clone()),
            ("team", self.team.clone().unwrap_or_default()),
            ("project", self.project.clone().unwrap_or_default()),
            ("phase", self.phase_with_doubt(now)),
            ("message", self.message.clone()),
            ("cluster", self.cluster.clone()),
            ("region", self.region.clone()),
            ("namespace", self.namespace.clone()),
            ("node", self.node.clone()),
            ("pod", self.pod.clone()),
            ("type", self.r#type.to_owned()),
            ("class", self.class.clone()),
            ("image", self.image.clone()),
            ("url", self.url.clone()),
            ("owner token", self.owner_token.clone().unwrap_or_default()),
            ("admission", self.admission.to_owned()),
            ("ports", self.ports.iter().map(port).collect::<Vec<_>>().join(", ")),
            ("age", age(self.started_at, now)),
            ("timeout", self.timeout.clone().unwrap_or_default()),
            ("closed timeout", self.closed_timeout.clone().unwrap_or_default()),
            ("last activity", in_seconds(self.last_activity.as_deref().unwrap_or_default())),
            ("conditions", conditions.collect::<Vec<_>>().join(", ")),
            ("annotations", annotations.collect::<Vec<_>>().join(", ")),
        ];
        let content = self.content.iter().flat_map(|content| content.fields(now));
        Table::of_fields(fields.into_iter().chain(content))
    }

    /// One line of a stream; the message may add lines.
    pub fn line(&self, now: Timestamp, layout: Layout) -> String {
        let time = match layout {
            Layout::Fit(_) => now.strftime("%H:%M:%SZ").to_string(),
            Layout::Wide => format!("{now:.0}"),
        };
        let cluster = if self.cluster.is_empty() { "-".to_owned() } else { clean(&self.cluster) };
        let phase = format!("{:12}", self.phase_with_doubt(now));
        columns(&[time, clean(&self.id), phase, cluster, clean(&self.message)], layout)
    }

    /// The phase, marked as stale if its cluster is unreachable. A server that names no cluster does not report
    /// reachability either.
    fn phase_with_doubt(&self, now: Timestamp) -> String {
        if self.reachable || self.cluster.is_empty() {
            return self.phase.to_owned();
        }
        format!("{} (stale {})", self.phase, age(self.observed_at, now)).replace(" )", ")")
    }
}

/// Response to a start. Without the owner token: `workspace show --owner-token` shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StartedView {
    id: String,
    meta_id: String,
    cluster: String,
    region: String,
    namespace: String,
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
}

impl StartedView {
    /// From the request and its response; with the phase if it was waited for.
    pub fn new(request: &StartWorkspaceRequest, answer: StartWorkspaceResponse, phase: Option<i32>) -> Self {
        Self {
            id: request.id.clone(),
            meta_id: request.metadata.as_ref().map(|metadata| metadata.meta_id.clone()).unwrap_or_default(),
            cluster: answer.cluster,
            region: answer.region,
            namespace: answer.namespace,
            url: answer.url,
            phase: phase.map(phase_name),
        }
    }

    /// Fields for people.
    pub fn details(&self) -> Table {
        Table::of_fields([
            ("id", self.id.clone()),
            ("meta id", self.meta_id.clone()),
            ("phase", self.phase.unwrap_or_default().to_owned()),
            ("cluster", self.cluster.clone()),
            ("region", self.region.clone()),
            ("namespace", self.namespace.clone()),
            ("url", self.url.clone()),
        ])
    }
}

/// A snapshot, and whether it is complete.
#[derive(Debug, Serialize)]
pub struct SnapshotView {
    pub id: String,
    pub url: String,
    pub complete: bool,
}

impl SnapshotView {
    /// As one row.
    pub fn table(&self) -> Table {
        let mut table = Table::new([plain("ID"), plain("COMPLETE"), sentence("SNAPSHOT")]);
        let complete = if self.complete { "yes" } else { "not yet" };
        table.row([self.id.clone(), complete.to_owned(), self.url.clone()]);
        table
    }
}
