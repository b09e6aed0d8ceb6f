//! Domain types -> wire messages. Pure.

use std::cmp::Reverse;

use jiff::Timestamp;
use prost::Message as _;

use domain::ended::Ended;
use domain::workspace::{
    Access, ClassView, Conditions, ContentReport, GitStatus, ImageMetrics, InitializerMetric,
    InitializerMetrics, Kind, Phase, Port, Protocol, View,
};
use federation::stored::Entry;
use federation::stored::backups::Backup;
use federation::view::seen::Seen;
use proto::contentservice;
use proto::encoded::{Place, Status};
use proto::spaceport::v1;
use proto::wsman;
use proto::wsman::WorkspaceConditionBool;

pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// Saturates.
pub fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Status of a workspace as clients see it, with or without its owner token.
pub fn status(seen: &Seen, with_token: bool) -> wsman::WorkspaceStatus {
    let of_view = of_view(&seen.view);
    placed(seen, if with_token { of_view } else { without_token(of_view) })
}

/// The same, encoded. The part of the view is encoded once for all clients that may see the token.
pub fn encoded(seen: &Seen, with_token: bool) -> Status {
    let of_view = if with_token {
        seen.view.encoded(|view| of_view(view).encode_to_vec().into())
    } else {
        without_token(of_view(&seen.view)).encode_to_vec().into()
    };
    Status { of_view, of_place: place(seen) }
}

fn without_token(mut status: wsman::WorkspaceStatus) -> wsman::WorkspaceStatus {
    if let Some(auth) = &mut status.auth {
        auth.owner_token.clear();
    }
    status
}

/// Fields that come from the resource.
fn of_view(view: &View) -> wsman::WorkspaceStatus {
    wsman::WorkspaceStatus {
        id: view.id.to_string(),
        metadata: Some(metadata(view)),
        spec: Some(spec(view)),
        phase: phase(view.phase).into(),
        conditions: Some(conditions(&view.conditions, &view.snapshot)),
        message: view.message.clone(),
        repo: view.git.as_deref().map(repo),
        runtime: view.runtime.as_deref().map(|runtime| wsman::WorkspaceRuntimeInfo {
            node_name: runtime.node_name.clone(),
            pod_name: runtime.pod_name.clone(),
            node_ip: runtime.node_ip.clone(),
        }),
        auth: Some(wsman::WorkspaceAuthentication {
            admission: admission(view.admission).into(),
            owner_token: view.owner_token.clone(),
        }),
        initializer_metrics: view.initializer_metrics.as_deref().map(initializer_metrics),
        namespace: view.namespace.to_string(),
        held: view.held.clone(),
        ..wsman::WorkspaceStatus::default()
    }
}

/// Appends the fields that come from the cluster, encoded behind those of the view.
fn placed(seen: &Seen, status: wsman::WorkspaceStatus) -> wsman::WorkspaceStatus {
    let place = place(seen);
    wsman::WorkspaceStatus {
        message: if place.message.is_empty() { status.message } else { place.message },
        status_version: place.status_version,
        cluster: place.cluster,
        region: place.region,
        reachable: place.reachable,
        observed_at: place.observed_at,
        draining: place.draining,
        draining_until: place.draining_until,
        ..status
    }
}

/// Fields that come from the cluster. Sets no field that [`of_view`] sets, except the message of an unreachable
/// workspace, and of one that the manager cannot write.
fn place(seen: &Seen) -> Place {
    Place {
        message: unreachable(seen).or_else(|| hindered(seen)).unwrap_or_default(),
        status_version: seen.version,
        cluster: seen.cluster.to_string(),
        region: seen.region.as_ref().map(ToString::to_string).unwrap_or_default(),
        reachable: seen.reachable,
        observed_at: seen.observed_at.map(timestamp),
        draining: seen.draining.is_some(),
        // A headless workspace runs to its end.
        draining_until: seen
            .draining
            .filter(|_| !seen.view.kind.is_headless())
            .and_then(|notice| notice.until)
            .map(timestamp),
    }
}

/// Replaces the message while the cluster is unreachable; the message of an ended workspace stays.
fn unreachable(seen: &Seen) -> Option<String> {
    match (seen.reachable || seen.view.phase == Phase::Stopped, seen.observed_at) {
        (true, _) => None,
        (false, Some(at)) => Some(format!("cluster {} is unreachable, last seen {at:.0}", seen.cluster)),
        (false, None) => Some(format!("cluster {} is unreachable", seen.cluster)),
    }
}

/// The message of a workspace about which nothing can be written, with the reason.
fn hindered(seen: &Seen) -> Option<String> {
    let (message, obstacle) = (&seen.view.message, seen.obstacle.as_deref()?);
    let stop = if message.is_empty() || message.ends_with(['.', '!', '?', ')']) { "" } else { "." };
    Some(format!("{message}{stop} {obstacle}").trim_start().to_owned())
}

fn metadata(view: &View) -> wsman::WorkspaceMetadata {
    wsman::WorkspaceMetadata {
        owner: view.owner.clone(),
        meta_id: view.meta.clone(),
        started_at: view.created_at.map(timestamp),
        annotations: view.annotations.clone(),
        team: view.team.clone(),
        project: view.project.clone(),
        metrics: view.image_metrics.map(image_metrics),
    }
}

fn image_metrics(image: ImageMetrics) -> wsman::workspace_metadata::Metrics {
    wsman::workspace_metadata::Metrics {
        image: Some(wsman::workspace_metadata::ImageInfo {
            total_size: image.total,
            workspace_image_size: image.workspace,
        }),
    }
}

fn spec(view: &View) -> wsman::WorkspaceSpec {
    wsman::WorkspaceSpec {
        workspace_image: view.image.clone(),
        headless: view.kind.is_headless(),
        url: view.url.clone(),
        exposed_ports: view
            .ports
            .iter()
            .filter_map(|(port, url)| Some(port_spec(*port, url.clone()?)))
            .collect(),
        r#type: kind(view.kind).into(),
        timeout: view.timeout.clone(),
        ide_image: Some(wsman::IdeImage {
            web_ref: view.ide.web.clone(),
            supervisor_ref: view.ide.supervisor.clone(),
        }),
        class: view.class.clone(),
        ide_image_layers: view.ide.layers.clone(),
        closed_timeout: view.closed_timeout.clone(),
    }
}

fn port_spec(port: Port, url: String) -> wsman::PortSpec {
    let visibility = match port.visibility {
        Access::Owner => wsman::PortVisibility::Private,
        Access::Everyone => wsman::PortVisibility::Public,
    };
    let protocol = match port.protocol {
        Protocol::Http => wsman::PortProtocol::Http,
        Protocol::Https => wsman::PortProtocol::Https,
    };
    wsman::PortSpec { port: port.port.into(), visibility: visibility.into(), url, protocol: protocol.into() }
}

pub(super) fn phase(phase: Phase) -> wsman::WorkspacePhase {
    match phase {
        Phase::Unknown => wsman::WorkspacePhase::Unknown,
        Phase::Pending | Phase::Imagebuild => wsman::WorkspacePhase::Pending,
        Phase::Creating => wsman::WorkspacePhase::Creating,
        Phase::Initializing => wsman::WorkspacePhase::Initializing,
        Phase::Running => wsman::WorkspacePhase::Running,
        Phase::Stopping => wsman::WorkspacePhase::Stopping,
        Phase::Stopped => wsman::WorkspacePhase::Stopped,
    }
}

fn kind(kind: Kind) -> wsman::WorkspaceType {
    match kind {
        Kind::Regular => wsman::WorkspaceType::Regular,
        Kind::Prebuild => wsman::WorkspaceType::Prebuild,
        Kind::ImageBuild => wsman::WorkspaceType::Imagebuild,
    }
}

fn admission(access: Access) -> wsman::AdmissionLevel {
    match access {
        Access::Owner => wsman::AdmissionLevel::AdmitOwnerOnly,
        Access::Everyone => wsman::AdmissionLevel::AdmitEveryone,
    }
}

fn conditions(conditions: &Conditions, snapshot: &str) -> wsman::WorkspaceConditions {
    let flag = |on: bool| -> i32 {
        if on { WorkspaceConditionBool::True } else { WorkspaceConditionBool::False }.into()
    };
    wsman::WorkspaceConditions {
        failed: conditions.failed.clone().unwrap_or_default(),
        timeout: conditions.timeout.clone().unwrap_or_default(),
        pulling_images: flag(conditions.pulling_images),
        snapshot: snapshot.to_owned(),
        final_backup_complete: flag(conditions.final_backup_complete),
        deployed: flag(conditions.deployed),
        network_not_ready: flag(false),
        first_user_activity: conditions.first_user_activity.map(timestamp),
        headless_task_failed: conditions.headless_task_failed.clone().unwrap_or_default(),
        stopped_by_request: flag(conditions.stopped_by_request),
        volume_snapshot: None,
        aborted: flag(conditions.aborted),
    }
}

/// The record of an ended workspace.
pub fn ended(ended: Ended) -> v1::EndedWorkspace {
    v1::EndedWorkspace {
        id: ended.workspace.to_string(),
        meta_id: ended.meta.to_string(),
        owner: ended.owner.to_string(),
        cluster: ended.cluster.to_string(),
        namespace: ended.namespace.to_string(),
        placed_at: Some(timestamp(ended.placed_at)),
        ended_at: Some(timestamp(ended.at)),
        id_taken_until: Some(timestamp(ended.expires)),
        last_phase: phase(ended.phase).into(),
        conditions: Some(conditions(&ended.conditions, "")),
        backup_failed: ended.conditions.backup_failed.unwrap_or_default(),
        message: ended.message,
    }
}

/// A backup in a list.
pub fn backup(backup: Backup) -> v1::WorkspaceBackup {
    use v1::WorkspaceBackupKind as Kind;
    let Backup { listed, snapshot } = backup;
    let (kind, generation, sequence) = match listed.entry {
        Entry::Head(Reverse(id)) => (Kind::Head, id.generation, id.sequence),
        Entry::FullTar => (Kind::FullTar, 0, 0),
        Entry::Snapshot(..) => (Kind::Snapshot, 0, 0),
    };
    v1::WorkspaceBackup {
        kind: kind.into(),
        generation,
        sequence,
        made_at: listed.made_at.map(timestamp),
        size: listed.size,
        format: listed.format.to_owned(),
        snapshot: snapshot.unwrap_or_default(),
        newest: listed.newest,
        instance_id: listed.instance.unwrap_or_default(),
        agent: listed.agent.unwrap_or_default(),
        problem: listed.problem.unwrap_or_default(),
    }
}

/// What the node agent reported about the content.
pub fn content(view: &View) -> v1::DescribeContentResponse {
    let one = |report: &Option<ContentReport>| {
        report.as_ref().map(|report| v1::ContentReport {
            succeeded: report.succeeded,
            at: Some(timestamp(report.at)),
            message: report.message.clone(),
        })
    };
    view.content.as_deref().map_or_else(v1::DescribeContentResponse::default, |content| {
        v1::DescribeContentResponse {
            initialization: one(&content.initialization),
            backup: one(&content.backup),
            progress: one(&content.progress),
        }
    })
}

fn repo(git: &GitStatus) -> contentservice::GitStatus {
    contentservice::GitStatus {
        branch: git.branch.clone().unwrap_or_default(),
        latest_commit: git.latest_commit.clone().unwrap_or_default(),
        uncommited_files: git.uncommited_files.clone(),
        total_uncommited_files: git.total_uncommited_files.unwrap_or_default(),
        untracked_files: git.untracked_files.clone(),
        total_untracked_files: git.total_untracked_files.unwrap_or_default(),
        unpushed_commits: git.unpushed_commits.clone(),
        total_unpushed_commits: git.total_unpushed_commits.unwrap_or_default(),
    }
}

fn initializer_metrics(metrics: &InitializerMetrics) -> wsman::InitializerMetrics {
    let one = |metric: Option<InitializerMetric>| {
        metric.map(|metric| wsman::InitializerMetric {
            duration: prost_types::Duration::try_from(metric.duration).ok(),
            size: metric.size,
        })
    };
    wsman::InitializerMetrics {
        git: one(metrics.git),
        file_download: one(metrics.file_download),
        snapshot: one(metrics.snapshot),
        backup: one(metrics.backup),
        prebuild: one(metrics.prebuild),
        composite: one(metrics.composite),
    }
}

pub fn class(class: &ClassView) -> wsman::WorkspaceClass {
    wsman::WorkspaceClass {
        id: class.id.to_string(),
        display_name: class.display_name.clone(),
        description: class.description.clone(),
        credits_per_minute: class.credits_per_minute,
    }
}

#[cfg(test)]
mod tests;
