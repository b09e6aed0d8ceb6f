//! A Workspace as the view that clients get.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::resources::{self, Workspace, WorkspaceSpec, WorkspaceStatus, conditions};
use domain::diff::Keeper;
use domain::duration::GoDuration;
use domain::workspace::{
    Conditions, ImageMetrics, InitializerMetric, InitializerMetrics, Phase, Port, Runtime, View,
};

use super::found::{digest, generation, keeper, resource_version};

mod content;
mod message;

/// Prefix of our own annotations, which are nobody's business outside.
const OURS: &str = "spaceport.dev/";
/// What `kubectl apply` leaves behind: a copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotation that keeps the request's project, for which the resource has no field.
pub(super) const PROJECT: &str = "spaceport.dev/project";
/// Condition that the controller may set while a container waits for its image.
pub const PULLING_IMAGES: &str = "PullingImages";

/// Renders the URL of a port.
pub trait UrlRenderer: Send + Sync {
    /// URL of `port` of the workspace with this instance id and meta id; `None` where it cannot be rendered.
    fn port_url(&self, id: &str, meta: &str, port: u16) -> Option<String>;
}

impl<F: Fn(&str, &str, u16) -> Option<String> + Send + Sync> UrlRenderer for F {
    fn port_url(&self, id: &str, meta: &str, port: u16) -> Option<String> {
        self(id, meta, port)
    }
}

/// What a view takes from the configuration.
#[derive(Clone, Copy)]
pub struct ViewSettings<'a> {
    /// Inactivity timeout as Go duration text, where the workspace has none of its own.
    pub default_timeout: &'a str,
    /// Closed timeout likewise.
    pub closed_timeout: &'a str,
    /// Renders port URLs.
    pub urls: &'a dyn UrlRenderer,
    /// This installation's id.
    pub installation: &'a str,
}

/// The view of a workspace; `None` if its name or namespace is invalid for Spaceport, or if another installation owns it.
pub fn view(workspace: &Workspace, settings: &ViewSettings<'_>) -> Option<View> {
    let (meta, spec) = (&workspace.metadata, &workspace.spec);
    let keeper = keeper(meta, settings.installation);
    if matches!(keeper, Keeper::Installation(_)) {
        return None;
    }
    let unseen = WorkspaceStatus::default();
    let status = workspace.status.as_ref().unwrap_or(&unseen);
    let annotation = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key));
    let timeout = |pick: fn(&resources::Timeout) -> Option<&String>, default: &str| {
        spec.timeout.as_deref().and_then(pick).map_or_else(|| default.to_owned(), |text| go_text(text))
    };
    Some(View {
        id: meta.name.as_deref()?.parse().ok()?,
        namespace: meta.namespace.as_deref()?.parse().ok()?,
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: resource_version(meta),
        generation: generation(meta),
        digest: digest(meta).to_owned(),
        meta: spec.ownership.workspace_id.clone(),
        owner: spec.ownership.owner.clone(),
        team: spec.ownership.team.clone(),
        project: annotation(PROJECT).cloned(),
        created_at: meta.creation_timestamp.as_ref().map(|time| time.0),
        annotations: shown(meta.annotations.as_ref()),
        kind: spec.type_,
        class: spec.class.clone(),
        image: spec.image.workspace.reference.clone().unwrap_or_default(),
        ide: spec.image.ide.clone(),
        ports: ports(meta.name.as_deref()?, spec, settings.urls),
        admission: spec.admission.level,
        owner_token: status.owner_token.as_ref().map(|token| token.0.clone()).unwrap_or_default(),
        url: status.url.clone().unwrap_or_default(),
        timeout: timeout(|timeout| timeout.time.as_ref(), settings.default_timeout),
        closed_timeout: timeout(|timeout| timeout.closed.as_ref(), settings.closed_timeout),
        ssh_public_keys: spec.ssh_public_keys.clone(),
        phase: phase(workspace.status.as_ref()),
        conditions: seen(status),
        message: message::message(spec, status, meta),
        held: message::held(status, meta).filter(|_| status.phase == Phase::Stopped).unwrap_or_default(),
        snapshot: status.snapshot.clone().unwrap_or_default(),
        git: status.git.clone(),
        runtime: status.runtime.as_deref().map(|runtime| Box::new(self::runtime(runtime))),
        initializer_metrics: status.initializer_metrics.as_deref().map(|all| Box::new(metrics(all))),
        image_metrics: status.image_info.as_deref().map(|info| ImageMetrics {
            total: info.total_size,
            workspace: info.workspace_image_size.unwrap_or_default(),
        }),
        content: content::reports(status),
        last_activity: status.last_activity.as_ref().map(|time| time.0),
        deleting: meta.deletion_timestamp.is_some(),
        ours: keeper == Keeper::Us,
    })
}

/// What the view of a workspace says whose resource is gone.
pub fn end_message(last: &Workspace) -> String {
    let mut status = last.status.clone().unwrap_or_default();
    status.phase = Phase::Stopped;
    // It is gone, so nothing holds it any more, and nothing is refused.
    status.conditions.retain(|condition| condition.type_ != conditions::WRITE_REFUSED);
    let metadata = ObjectMeta { finalizers: None, ..last.metadata.clone() };
    message::message(&last.spec, &status, &metadata)
}

fn shown(annotations: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let all = annotations.into_iter().flatten();
    all.filter(|(key, _)| !key.starts_with(OURS) && *key != LAST_APPLIED)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// A duration as Go would print it; text that is none is shown as it is.
fn go_text(text: &str) -> String {
    text.parse().map_or_else(|_| text.to_owned(), |duration: GoDuration| duration.to_string())
}

/// As the resource says, but for two states that are Pending to a client: one that nobody has looked at yet, and one
/// whose refused pod is being cleared away to be made again (the resource says Stopping, for the node agent).
fn phase(status: Option<&WorkspaceStatus>) -> Phase {
    let Some(status) = status else { return Phase::Pending };
    let stays_refused = [conditions::FAILED, conditions::STOPPED_BY_REQUEST, conditions::TIMEOUT];
    if status.is_true(conditions::POD_REJECTED) && !stays_refused.iter().any(|kind| status.is_true(kind)) {
        return Phase::Pending;
    }
    status.phase
}

fn ports(id: &str, spec: &WorkspaceSpec, urls: &dyn UrlRenderer) -> Vec<(Port, Option<String>)> {
    let meta = &spec.ownership.workspace_id;
    let shown = spec.ports.iter().filter_map(|port| {
        let number = u16::try_from(port.port).ok().filter(|number| *number > 0)?;
        let shown = Port { port: number, visibility: port.visibility, protocol: port.protocol };
        Some((shown, urls.port_url(id, meta, number)))
    });
    shown.collect()
}

fn seen(status: &WorkspaceStatus) -> Conditions {
    let said = |kind: &str, otherwise: &str| {
        let condition = status.condition(kind).filter(|condition| condition.status == "True")?;
        // Without a text it happened all the same.
        let told = [&condition.message, &condition.reason];
        let text = told.into_iter().find(|text| !text.is_empty() && *text != conditions::reason::UNKNOWN);
        Some(text.map_or_else(|| otherwise.to_owned(), Clone::clone))
    };
    Conditions {
        failed: said(conditions::FAILED, "failed for an unknown reason"),
        timeout: said(conditions::TIMEOUT, "timed out"),
        headless_task_failed: said(conditions::HEADLESS_TASK_FAILED, "the task failed"),
        deployed: status.is_true(conditions::DEPLOYED),
        pulling_images: status.is_true(PULLING_IMAGES),
        stopped_by_request: status.is_true(conditions::STOPPED_BY_REQUEST),
        content_ready: status.is_true(conditions::CONTENT_READY),
        final_backup_complete: status.is_true(conditions::BACKUP_COMPLETE),
        backup_failed: said(conditions::BACKUP_FAILURE, "for an unknown reason"),
        closed: status.is_true(conditions::CLOSED),
        aborted: status.is_true(conditions::ABORTED),
        first_user_activity: status
            .condition(conditions::FIRST_USER_ACTIVITY)
            .map(|condition| condition.last_transition_time.0),
    }
}

fn runtime(runtime: &resources::Runtime) -> Runtime {
    Runtime {
        node_name: runtime.node_name.clone().unwrap_or_default(),
        pod_name: runtime.pod_name.clone().unwrap_or_default(),
        node_ip: runtime.host_ip.clone().unwrap_or_default(),
    }
}

fn metrics(all: &resources::InitializerMetrics) -> InitializerMetrics {
    let one = |metric: &Option<resources::InitializerMetric>| metric.as_ref().map(metric_of);
    InitializerMetrics {
        git: one(&all.git),
        file_download: one(&all.file_download),
        snapshot: one(&all.snapshot),
        backup: one(&all.backup),
        prebuild: one(&all.prebuild),
        composite: one(&all.composite),
    }
}

fn metric_of(metric: &resources::InitializerMetric) -> InitializerMetric {
    let duration = metric.duration.as_deref().and_then(|text| text.parse::<GoDuration>().ok());
    InitializerMetric {
        duration: duration.and_then(|duration| duration.to_std().ok()).unwrap_or(Duration::ZERO),
        size: metric.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
