//! Show, update, watch, doctor: parse, call, convert.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::convert::{check, constraint, spec, view};
use crate::api::error;
use crate::api::parse::{self, Problems};
use crate::domain::cluster::{ClusterSpec, SpecChange};
use crate::domain::names::ClusterName;
use crate::domain::secret::Secret;
use crate::federation::Federation;
use crate::federation::registry::{ClusterEvent, ClusterWatch, TooMany, Update};
use crate::proto::spaceport::v1;
use crate::proto::spaceport::v1::watch_response::Event;

/// Of a `Watch`.
pub type Events = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

/// The cluster of a `Register` call, and its kubeconfig.
pub(super) fn registration(request: v1::RegisterRequest) -> Result<(ClusterSpec, String), Status> {
    let mut problems = Problems::default();
    let spec = spec(&mut problems, request.spec);
    let kubeconfig = text(&mut problems, request.kubeconfig);
    if kubeconfig.is_none() {
        problems.add("kubeconfig", "is required, as UTF-8 text");
    }
    problems.finish(spec.zip(kubeconfig))
}

pub(super) fn get(federation: &Federation, request: &v1::GetRequest) -> Result<v1::GetResponse, Status> {
    let name = parse::named("name", &request.name)?;
    let cluster = federation.cluster(&name).map_err(|error| error::status(&error))?;
    Ok(v1::GetResponse { cluster: Some(view(&cluster)) })
}

pub(super) async fn update(
    federation: &Federation,
    request: v1::UpdateRequest,
) -> Result<v1::UpdateResponse, Status> {
    let (name, update) = parse_update(request)?;
    let (cluster, checks) = federation.update(&name, &update).await.map_err(|error| error::status(&error))?;
    Ok(v1::UpdateResponse { cluster: Some(view(&cluster)), checks: checks.iter().map(check).collect() })
}

fn parse_update(request: v1::UpdateRequest) -> Result<(ClusterName, Update), Status> {
    let mut problems = Problems::default();
    let name = problems.parse("name", &request.name);
    if request.version < 0 {
        problems.add("version", "must not be negative");
    }
    let given = !request.kubeconfig.is_empty();
    let kubeconfig = text(&mut problems, request.kubeconfig);
    if given && kubeconfig.is_none() {
        problems.add("kubeconfig", "must be UTF-8 text that is not empty");
    }
    let paths = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
    let mut change = masked(&mut problems, &request.spec.unwrap_or_default(), &paths);
    for (list, given, field) in [
        (&mut change.add_constraints, request.add_constraints, "add_constraints"),
        (&mut change.remove_constraints, request.remove_constraints, "remove_constraints"),
    ] {
        for (at, wire) in given.into_iter().enumerate() {
            list.extend(constraint(&mut problems, &format!("{field}[{at}]"), wire));
        }
    }
    let version = Some(request.version).filter(|version| *version > 0);
    let update = Update { version, change, kubeconfig: kubeconfig.map(Secret::new) };
    problems.finish(name.map(|name| (name, update)))
}

/// The fields that a mask names.
fn masked(problems: &mut Problems, spec: &v1::ClusterSpec, paths: &[String]) -> SpecChange {
    let mut change = SpecChange::default();
    for path in paths {
        match path.as_str() {
            "region" => change.region = problems.parse("spec.region", &spec.region),
            "labels" => change.labels = Some(spec.labels.clone()),
            "weight" => change.weight = Some(spec.weight),
            "max_weight" => change.max_weight = Some(spec.max_weight),
            "fence" => change.fence = Some(super::convert::fence_mode(problems, spec.fence)),
            "cordoned" => change.cordoned = Some(spec.cordoned),
            "capacity" => change.capacity = super::convert::capacity(problems, spec.capacity),
            "admission_constraints" => {
                let wire = spec.admission_constraints.iter().cloned().enumerate();
                let parsed = wire.filter_map(|(at, wire)| {
                    constraint(problems, &format!("spec.admission_constraints[{at}]"), wire)
                });
                change.constraints = Some(parsed.collect());
            }
            "namespaces" => {
                let wire = spec.namespaces.iter().cloned().enumerate();
                let parsed = wire.filter_map(|(at, wire)| {
                    super::convert::namespace_spec(problems, &format!("spec.namespaces[{at}]"), wire)
                });
                change.namespaces = Some(parsed.collect());
            }
            other => match (other.strip_prefix("labels."), spec.labels.get(other.trim_start_matches("labels."))) {
                (Some(key), Some(value)) => {
                    change.set_labels.insert(key.to_owned(), value.clone());
                }
                (Some(key), None) => {
                    change.remove_labels.insert(key.to_owned());
                }
                (None, _) => problems.add(
                    "update_mask",
                    format!(
                        "names {other:?}; known are region, labels, labels.KEY, weight, max_weight, cordoned, fence, \
                         capacity, admission_constraints and namespaces"
                    ),
                ),
            },
        }
    }
    change
}

/// A kubeconfig, absent where it is empty.
fn text(problems: &mut Problems, bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes);
    if text.is_err() {
        problems.add("kubeconfig", "must be UTF-8 text");
    }
    text.ok().filter(|text| !text.trim().is_empty())
}

pub(super) async fn doctor(
    federation: &Federation,
    request: v1::DoctorRequest,
) -> Result<v1::DoctorResponse, Status> {
    let checks = if request.name.is_empty() {
        let (spec, kubeconfig) =
            registration(v1::RegisterRequest { spec: request.spec, kubeconfig: request.kubeconfig })?;
        federation.doctor(&spec, &kubeconfig).await
    } else if request.spec.is_some() || !request.kubeconfig.is_empty() {
        let mut problems = Problems::default();
        problems.add("name", "must not be given together with spec or kubeconfig");
        return problems.finish(None);
    } else {
        federation.doctor_registered(&parse::named("name", &request.name)?).await
    };
    let checks = checks.map_err(|error| error::status(&error))?;
    Ok(v1::DoctorResponse { checks: checks.iter().map(check).collect() })
}

pub(super) fn watch(
    federation: &Arc<Federation>,
    request: &v1::WatchRequest,
    shutdown: &CancellationToken,
) -> Result<Events, Status> {
    let only = match request.name.as_str() {
        "" => None,
        name => Some(parse::named::<ClusterName>("name", name)?),
    };
    if let Some(name) = &only {
        federation.cluster(name).map_err(|error| error::status(&error))?;
    }
    let watch = federation.watch_clusters(only).map_err(|TooMany| {
        Status::resource_exhausted("too many watch the clusters at this replica; end some, or ask another")
    })?;
    let stream = futures::stream::unfold(watch, |mut watch: ClusterWatch| async move {
        let event = watch.next().await?;
        Some((Ok(response(event)), watch))
    });
    Ok(Box::pin(stream.take_until(shutdown.clone().cancelled_owned())))
}

fn response(event: ClusterEvent) -> v1::WatchResponse {
    let (event, cluster) = match event {
        ClusterEvent::Present(cluster) => (Event::Present, Some(cluster)),
        ClusterEvent::Synced => (Event::Synced, None),
        ClusterEvent::Registered(cluster) => (Event::Registered, Some(cluster)),
        ClusterEvent::Changed(cluster) => (Event::Changed, Some(cluster)),
        ClusterEvent::Observed(cluster) => (Event::Observed, Some(cluster)),
        ClusterEvent::Deregistered(cluster) => (Event::Deregistered, Some(cluster)),
    };
    v1::WatchResponse { event: event.into(), cluster: cluster.as_ref().map(view) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cluster::Constraint;

    fn update(paths: &[&str], spec: v1::ClusterSpec) -> Result<(ClusterName, Update), Status> {
        let update_mask =
            Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
        let request = v1::UpdateRequest {
            name: "eu".to_owned(),
            spec: Some(spec),
            update_mask,
            ..v1::UpdateRequest::default()
        };
        parse_update(request)
    }

    #[test]
    fn only_what_the_mask_names_is_changed() {
        let labels = [("a.b/c".to_owned(), "d".to_owned())].into();
        let spec = v1::ClusterSpec { weight: 7, region: "Not A Region".into(), labels, ..Default::default() };
        let (_, update) = update(&["weight", "labels.a.b/c", "labels.gone"], spec).unwrap();
        let expected = SpecChange {
            weight: Some(7),
            set_labels: [("a.b/c".to_owned(), "d".to_owned())].into(),
            remove_labels: ["gone".to_owned()].into(),
            ..SpecChange::default()
        };
        assert_eq!(update.change, expected);
        assert_eq!((update.version, update.kubeconfig.is_none()), (None, true));
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        let spec = v1::ClusterSpec {
            region: "Not A Region".into(),
            admission_constraints: vec![v1::AdmissionConstraint::default()],
            ..Default::default()
        };
        let status = update(&["region", "admission_constraints", "name"], spec).unwrap_err();
        for field in ["spec.region", "spec.admission_constraints[0]", "\"name\""] {
            assert!(status.message().contains(field), "{field}: {}", status.message());
        }
    }

    #[test]
    fn constraints_are_added_and_taken_away() {
        let wire = v1::AdmissionConstraint {
            constraint: Some(v1::admission_constraint::Constraint::FeaturePreview(true)),
        };
        let request = v1::UpdateRequest {
            name: "eu".to_owned(),
            add_constraints: vec![wire.clone()],
            remove_constraints: vec![wire],
            version: 3,
            ..v1::UpdateRequest::default()
        };
        let (_, update) = parse_update(request).unwrap();
        assert_eq!(update.change.add_constraints, [Constraint::FeaturePreview(true)]);
        assert_eq!((update.change.remove_constraints.len(), update.version), (1, Some(3)));
    }
}
