//! Show, update, watch, doctor: parse, call, convert.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::convert::{check, constraint, namespaces, spec, view};
use crate::error;
use crate::parse::{self, Problems};
use domain::cluster::{ClusterSpec, DefaultNamespaces, SpecChange};
use domain::kubeconfig::encoding;
use domain::names::ClusterName;
use domain::secret::Secret;
use federation::Federation;
use federation::clusters::{ClusterEvent, ClusterWatch, NewLogin, TooMany, Update};
use proto::spaceport::v1;
use proto::spaceport::v1::watch_response::Event;

/// Path of the Secret reference in a field mask.
const SECRET: &str = "kubeconfig_secret";

/// Stream of a `Watch`.
pub type Events = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

/// Cluster and kubeconfig of a `Register` call.
pub(super) fn registration(
    request: v1::RegisterRequest,
    defaults: &DefaultNamespaces,
) -> Result<(ClusterSpec, Option<Secret<String>>), Status> {
    let mut problems = Problems::default();
    let named = request.spec.as_ref().is_some_and(|spec| spec.kubeconfig_secret.is_some());
    let spec = spec(&mut problems, request.spec, defaults);
    let kubeconfig = text(&mut problems, &request.kubeconfig).map(Secret::new);
    match (named, kubeconfig.is_some()) {
        (false, false) => problems.add("kubeconfig", "is required, as text, or spec.kubeconfig_secret"),
        (true, true) => problems.add("kubeconfig", "must not be given together with spec.kubeconfig_secret"),
        _ => {}
    }
    problems.finish(spec.map(|spec| (spec, kubeconfig)))
}

pub(super) fn get(federation: &Federation, request: &v1::GetRequest) -> Result<v1::GetResponse, Status> {
    let name = parse::named("name", &request.name)?;
    let cluster = federation.clusters.views.get(&name).map_err(|error| error::status(&error))?;
    Ok(v1::GetResponse { cluster: Some(view(&cluster)) })
}

pub(super) async fn update(
    federation: &Federation,
    request: v1::UpdateRequest,
) -> Result<v1::UpdateResponse, Status> {
    let (name, update) = parse_update(request, &federation.fleet.default_namespaces())?;
    let (cluster, checks) =
        federation.clusters.updates.update(&name, &update).await.map_err(|error| error::status(&error))?;
    Ok(v1::UpdateResponse { cluster: Some(view(&cluster)), checks: checks.iter().map(check).collect() })
}

fn parse_update(
    request: v1::UpdateRequest,
    defaults: &DefaultNamespaces,
) -> Result<(ClusterName, Update), Status> {
    let mut problems = Problems::default();
    let name = problems.parse("name", &request.name);
    if request.version < 0 {
        problems.add("version", "must not be negative");
    }
    let given = !request.kubeconfig.is_empty();
    let kubeconfig = text(&mut problems, &request.kubeconfig);
    if given && kubeconfig.is_none() {
        problems.add("kubeconfig", "must be text that is not empty");
    }
    let mut paths = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
    let spec = request.spec.unwrap_or_default();
    let named = paths.iter().any(|path| path == SECRET);
    paths.retain(|path| path != SECRET);
    let login = new_login(&mut problems, kubeconfig, spec.kubeconfig_secret.clone().filter(|_| named), named);
    let mut change = masked(&mut problems, &spec, &paths, defaults);
    for (list, given, field) in [
        (&mut change.add_constraints, request.add_constraints, "add_constraints"),
        (&mut change.remove_constraints, request.remove_constraints, "remove_constraints"),
    ] {
        for (at, wire) in given.into_iter().enumerate() {
            list.extend(constraint(&mut problems, &format!("{field}[{at}]"), wire));
        }
    }
    let version = Some(request.version).filter(|version| *version > 0);
    let update = Update { version, change, login };
    problems.finish(name.map(|name| (name, update)))
}

/// The new kubeconfig or Secret reference of a cluster, if the request has one.
fn new_login(
    problems: &mut Problems,
    given: Option<String>,
    secret: Option<v1::SecretReference>,
    named: bool,
) -> Option<NewLogin> {
    match (given, secret) {
        (Some(_), _) if named => {
            problems.add("kubeconfig", "must not be given together with kubeconfig_secret");
            None
        }
        (Some(given), _) => Some(NewLogin::Given(Secret::new(given))),
        (None, Some(secret)) => super::convert::secret(problems, secret).map(NewLogin::Named),
        (None, None) => {
            if named {
                let rule = "must be in spec where update_mask names it; give a kubeconfig to end it";
                problems.add("spec.kubeconfig_secret", rule);
            }
            None
        }
    }
}

/// Applies the fields that a mask names.
fn masked(
    problems: &mut Problems,
    spec: &v1::ClusterSpec,
    paths: &[String],
    defaults: &DefaultNamespaces,
) -> SpecChange {
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
                let wire = spec.namespaces.clone();
                change.namespaces = Some(namespaces(problems, "spec.namespaces", wire, defaults));
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
                         capacity, admission_constraints, namespaces and kubeconfig_secret"
                    ),
                ),
            },
        }
    }
    change
}

/// A kubeconfig; `None` if it is empty.
pub(super) fn text(problems: &mut Problems, bytes: &[u8]) -> Option<String> {
    let text = encoding::decode(bytes).map_err(|rule| problems.add("kubeconfig", rule));
    text.ok().filter(|text| !text.trim().is_empty())
}

pub(super) async fn doctor(
    federation: &Federation,
    request: v1::DoctorRequest,
) -> Result<v1::DoctorResponse, Status> {
    let checks = if request.name.is_empty() {
        let (spec, kubeconfig) = registration(
            v1::RegisterRequest { spec: request.spec, kubeconfig: request.kubeconfig },
            &federation.fleet.default_namespaces(),
        )?;
        federation.clusters.doctor.check(&spec, kubeconfig).await
    } else if request.spec.is_some() || !request.kubeconfig.is_empty() {
        let mut problems = Problems::default();
        problems.add("name", "must not be given together with spec or kubeconfig");
        return problems.finish(None);
    } else {
        federation.clusters.doctor.check_registered(&parse::named("name", &request.name)?).await
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
        federation.clusters.views.get(name).map_err(|error| error::status(&error))?;
    }
    let watch = federation.clusters.watches.open(only).map_err(|TooMany| {
        Status::resource_exhausted(
            "too many watches of clusters at this replica; end some, or use another replica",
        )
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
    use domain::cluster::Constraint;

    fn defaults() -> DefaultNamespaces {
        DefaultNamespaces { workspaces: "ws".parse().unwrap(), secrets: "ws-secrets".parse().unwrap() }
    }

    #[test]
    fn namespaces_that_are_not_named_are_those_of_the_configuration() {
        let names = |namespaces: Vec<v1::NamespaceSpec>| {
            let spec = v1::ClusterSpec {
                name: "eu".into(),
                region: "europe".into(),
                namespaces,
                ..v1::ClusterSpec::default()
            };
            let request = v1::RegisterRequest { spec: Some(spec.clone()), kubeconfig: b"x".to_vec() };
            let (registered, _) = registration(request, &defaults()).unwrap();
            let (_, updated) = update(&["namespaces"], spec).unwrap();
            assert_eq!(updated.change.namespaces.as_ref(), Some(&registered.namespaces));
            let pair = |one: &domain::cluster::NamespaceSpec| {
                (one.namespace.to_string(), one.secrets_namespace.to_string())
            };
            registered.namespaces.iter().map(pair).collect::<Vec<_>>()
        };
        let wire = |namespace: &str, secrets: &str| v1::NamespaceSpec {
            namespace: namespace.into(),
            secrets_namespace: secrets.into(),
            ..v1::NamespaceSpec::default()
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(names(vec![]), [pair("ws", "ws-secrets")]);
        assert_eq!(names(vec![wire("a", "")]), [pair("a", "ws-secrets")]);
        assert_eq!(names(vec![wire("", "b")]), [pair("ws", "b")]);
        assert_eq!(names(vec![wire("a", "b"), wire("", "")]), [pair("a", "b"), pair("ws", "ws-secrets")]);
    }

    fn update(paths: &[&str], spec: v1::ClusterSpec) -> Result<(ClusterName, Update), Status> {
        let update_mask =
            Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
        let request = v1::UpdateRequest {
            name: "eu".to_owned(),
            spec: Some(spec),
            update_mask,
            ..v1::UpdateRequest::default()
        };
        parse_update(request, &defaults())
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
        assert_eq!((update.version, update.login.is_none()), (None, true));
    }

    #[test]
    fn every_problem_is_reported() {
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
    fn one_login_is_given_or_named_and_not_both() {
        let secret = |name: &str| {
            let (namespace, name) = ("spaceport".to_owned(), name.to_owned());
            Some(v1::SecretReference { namespace, name, key: String::new() })
        };
        let spec = |name| v1::ClusterSpec { kubeconfig_secret: secret(name), ..Default::default() };
        let (_, named) = update(&[SECRET], spec("eu")).unwrap();
        let Some(NewLogin::Named(reference)) = named.login else { panic!("no login") };
        assert_eq!(reference.to_string(), "spaceport/eu:kubeconfig");
        assert!(update(&[], spec("eu")).unwrap().1.login.is_none(), "the mask does not name it");
        for (spec, reported) in
            [(spec("E U"), "Secret name"), (v1::ClusterSpec::default(), "must be in spec")]
        {
            let status = update(&[SECRET], spec).unwrap_err();
            assert!(status.message().contains(reported), "{}", status.message());
        }
        let both = v1::UpdateRequest {
            name: "eu".to_owned(),
            spec: Some(spec("eu")),
            update_mask: Some(prost_types::FieldMask { paths: vec![SECRET.to_owned()] }),
            kubeconfig: b"clusters: []".to_vec(),
            ..v1::UpdateRequest::default()
        };
        assert!(parse_update(both, &defaults()).unwrap_err().message().contains("together"));
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
        let (_, update) = parse_update(request, &defaults()).unwrap();
        assert_eq!(update.change.add_constraints, [Constraint::FeaturePreview(true)]);
        assert_eq!((update.change.remove_constraints.len(), update.version), (1, Some(3)));
    }
}
