//! `spaceport.v1.ClusterManager`: the admin's API.

mod incarnation;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tonic::{Request, Response, Status};

use super::convert::timestamp;
use super::error;
use super::parse::{self, Problems};
use crate::domain::cluster::{
    ClusterSpec, Constraint, DEFAULT_MAX_WEIGHT, FenceMode, ImageBuilder, NamespaceSpec,
};
use crate::domain::health::Health;
use crate::domain::names::Namespace;
use crate::federation::Federation;
use crate::federation::registry::ClusterView;
use crate::proto::spaceport::v1;
use crate::proto::spaceport::v1::admission_constraint::Constraint as Wire;
use crate::proto::spaceport::v1::cluster_manager_server::ClusterManager;

/// The service.
#[derive(Debug, Clone)]
pub struct Clusters {
    federation: Arc<Federation>,
}

impl Clusters {
    /// Serves the registry of `federation`.
    pub fn new(federation: Arc<Federation>) -> Self {
        Self { federation }
    }
}

#[tonic::async_trait]
impl ClusterManager for Clusters {
    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let request = request.into_inner();
        let mut problems = Problems::default();
        let spec = spec(&mut problems, request.spec);
        let kubeconfig = String::from_utf8(request.kubeconfig).ok().filter(|text| !text.trim().is_empty());
        if kubeconfig.is_none() {
            problems.add("kubeconfig", "is required, as UTF-8 text");
        }
        let (spec, kubeconfig) = problems.finish(spec.zip(kubeconfig))?;
        let cluster =
            self.federation.register(spec, kubeconfig).await.map_err(|error| error::status(&error))?;
        Ok(Response::new(v1::RegisterResponse { cluster: Some(self.view(&cluster)) }))
    }

    async fn deregister(
        &self,
        request: Request<v1::DeregisterRequest>,
    ) -> Result<Response<v1::DeregisterResponse>, Status> {
        let request = request.into_inner();
        let name = parse::named("name", &request.name)?;
        self.federation.deregister(&name, request.force).await.map_err(|error| error::status(&error))?;
        Ok(Response::new(v1::DeregisterResponse {}))
    }

    async fn list(&self, _request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        let clusters = self.federation.clusters().iter().map(|cluster| self.view(cluster)).collect();
        Ok(Response::new(v1::ListResponse { clusters }))
    }

    async fn cordon(
        &self,
        request: Request<v1::CordonRequest>,
    ) -> Result<Response<v1::CordonResponse>, Status> {
        let cluster = self.set_cordoned(&request.into_inner().name, true).await?;
        Ok(Response::new(v1::CordonResponse { cluster: Some(cluster) }))
    }

    async fn uncordon(
        &self,
        request: Request<v1::UncordonRequest>,
    ) -> Result<Response<v1::UncordonResponse>, Status> {
        let cluster = self.set_cordoned(&request.into_inner().name, false).await?;
        Ok(Response::new(v1::UncordonResponse { cluster: Some(cluster) }))
    }

    async fn set_maintenance(
        &self,
        request: Request<v1::SetMaintenanceRequest>,
    ) -> Result<Response<v1::SetMaintenanceResponse>, Status> {
        let (name, namespace, until) = parse::maintenance(&request.into_inner())?;
        let cluster = self.federation.set_maintenance(&name, namespace.as_ref(), until).await;
        let cluster = cluster.map_err(|error| error::status(&error))?;
        Ok(Response::new(v1::SetMaintenanceResponse { cluster: Some(self.view(&cluster)) }))
    }

    async fn leader(
        &self,
        _request: Request<v1::LeaderRequest>,
    ) -> Result<Response<v1::LeaderResponse>, Status> {
        Ok(Response::new(Box::pin(self.answer_leader()).await))
    }

    async fn open_incarnation(
        &self,
        request: Request<v1::OpenIncarnationRequest>,
    ) -> Result<Response<v1::OpenIncarnationResponse>, Status> {
        self.answer_open_incarnation(request).await
    }
}

impl Clusters {
    async fn set_cordoned(&self, name: &str, cordoned: bool) -> Result<v1::Cluster, Status> {
        let name = parse::named("name", name)?;
        let cluster = self.federation.set_cordoned(&name, cordoned).await;
        cluster.map(|cluster| self.view(&cluster)).map_err(|error| error::status(&error))
    }

    #[allow(clippy::unused_self, reason = "reads as the other conversions of a service")]
    fn view(&self, cluster: &ClusterView) -> v1::Cluster {
        let health = match cluster.health {
            Health::Connecting => v1::cluster_status::Health::Connecting,
            Health::Available => v1::cluster_status::Health::Available,
            Health::Suspect => v1::cluster_status::Health::Suspect,
            Health::Lost => v1::cluster_status::Health::Lost,
        };
        v1::Cluster {
            spec: Some(spec_to_wire(&cluster.spec)),
            status: Some(v1::ClusterStatus {
                health: health.into(),
                reason: cluster.reason.clone(),
                since: Some(timestamp(cluster.since)),
                last_seen: cluster.last_answer.map(timestamp),
                server_version: cluster.server_version.clone(),
                api_server: cluster.api_server.clone(),
                workspaces: u32::try_from(cluster.workspaces).unwrap_or(u32::MAX),
                classes: cluster.classes.iter().map(ToString::to_string).collect(),
                maintenance: cluster.maintenance.iter().map(maintenance).collect(),
            }),
            version: cluster.version,
        }
    }
}

fn maintenance((namespace, until): (&Namespace, &Timestamp)) -> v1::NamespaceMaintenance {
    v1::NamespaceMaintenance { namespace: namespace.to_string(), until: Some(timestamp(*until)) }
}

fn spec(problems: &mut Problems, spec: Option<v1::ClusterSpec>) -> Option<ClusterSpec> {
    let Some(spec) = spec else {
        problems.add("spec", "is required");
        return None;
    };
    let name = problems.parse("spec.name", &spec.name);
    let region = problems.parse("spec.region", &spec.region);
    let mut namespaces = Vec::with_capacity(spec.namespaces.len());
    for (at, namespace) in spec.namespaces.into_iter().enumerate() {
        namespaces.extend(namespace_spec(problems, &format!("spec.namespaces[{at}]"), namespace));
    }
    let mut constraints = Vec::with_capacity(spec.admission_constraints.len());
    for (at, constraint) in spec.admission_constraints.into_iter().enumerate() {
        match constraint.constraint {
            Some(Wire::Permission(permission)) => constraints.push(Constraint::Permission(permission)),
            Some(Wire::FeaturePreview(on)) => constraints.push(Constraint::FeaturePreview(on)),
            None => problems.add(format!("spec.admission_constraints[{at}]"), "must name a constraint"),
        }
    }
    let fence = match v1::FenceMode::try_from(spec.fence) {
        Ok(v1::FenceMode::Off) => FenceMode::Off,
        Ok(_) => FenceMode::Enforced,
        Err(_) => {
            problems.add("spec.fence", "is unknown");
            FenceMode::Enforced
        }
    };
    let max_weight = if spec.max_weight == 0 { DEFAULT_MAX_WEIGHT } else { spec.max_weight };
    let spec = ClusterSpec {
        name: name?,
        region: region?,
        labels: spec.labels,
        weight: spec.weight,
        max_weight,
        cordoned: spec.cordoned,
        fence,
        admission_constraints: constraints,
        namespaces,
    };
    if let Err(error) = spec.validate() {
        problems.add(format!("spec.{}", error.field), error.rule);
        return None;
    }
    Some(spec)
}

fn namespace_spec(problems: &mut Problems, field: &str, spec: v1::NamespaceSpec) -> Option<NamespaceSpec> {
    let namespace = problems.parse(&format!("{field}.namespace"), &spec.namespace);
    let secrets = problems.parse(&format!("{field}.secrets_namespace"), &spec.secrets_namespace);
    let mut classes = BTreeMap::new();
    for (id, json) in spec.classes {
        match serde_json::from_str(&json) {
            Ok(class) => {
                classes.insert(id, class);
            }
            Err(error) => problems.add(format!("{field}.classes.{id}"), format!("is not JSON: {error}")),
        }
    }
    let optional = |text: String| Some(text).filter(|text| !text.is_empty());
    Some(NamespaceSpec {
        namespace: namespace?,
        secrets_namespace: secrets?,
        preferred_class: optional(spec.preferred_class),
        classes,
        url_template: optional(spec.url_template),
        port_url_template: optional(spec.port_url_template),
        workspace_cluster_host: optional(spec.workspace_cluster_host),
        registry_facade_host: optional(spec.registry_facade_host),
        seccomp_profile: optional(spec.seccomp_profile),
        scheduler_name: optional(spec.scheduler_name),
        image_builder: optional(spec.image_builder_target).map(|target_addr| ImageBuilder { target_addr }),
    })
}

fn spec_to_wire(spec: &ClusterSpec) -> v1::ClusterSpec {
    let constraint = |constraint: &Constraint| v1::AdmissionConstraint {
        constraint: Some(match constraint {
            Constraint::Permission(permission) => Wire::Permission(permission.clone()),
            Constraint::FeaturePreview(on) => Wire::FeaturePreview(*on),
        }),
    };
    v1::ClusterSpec {
        name: spec.name.to_string(),
        region: spec.region.to_string(),
        labels: spec.labels.clone(),
        weight: spec.weight,
        max_weight: spec.max_weight,
        cordoned: spec.cordoned,
        admission_constraints: spec.admission_constraints.iter().map(constraint).collect(),
        namespaces: spec.namespaces.iter().map(namespace_to_wire).collect(),
        fence: match spec.fence {
            FenceMode::Enforced => v1::FenceMode::Enforced,
            FenceMode::Off => v1::FenceMode::Off,
        }
        .into(),
    }
}

fn namespace_to_wire(spec: &NamespaceSpec) -> v1::NamespaceSpec {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    v1::NamespaceSpec {
        namespace: spec.namespace.to_string(),
        secrets_namespace: spec.secrets_namespace.to_string(),
        preferred_class: text(&spec.preferred_class),
        classes: spec.classes.iter().map(|(id, class)| (id.clone(), class.to_string())).collect(),
        url_template: text(&spec.url_template),
        port_url_template: text(&spec.port_url_template),
        workspace_cluster_host: text(&spec.workspace_cluster_host),
        registry_facade_host: text(&spec.registry_facade_host),
        seccomp_profile: text(&spec.seccomp_profile),
        scheduler_name: text(&spec.scheduler_name),
        image_builder_target: spec.image_builder.as_ref().map(|b| b.target_addr.clone()).unwrap_or_default(),
    }
}
