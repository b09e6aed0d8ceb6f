//! `workspacemanagerbridge.ClusterService`: the admin API of existing installations, on the same registry. Calls that
//! need the address of a workspace manager are rejected with what to do instead.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::error;
use super::parse::{self, Problems};
use domain::cluster::{Constraint, SpecChange};
use domain::drain::Stage;
use federation::clusters::ClusterView;
use federation::clusters::cordon::Cordons;
use federation::clusters::deregister::Deregistration;
use federation::clusters::update::Updates;
use federation::clusters::view::Views;
use federation::{Clusters, Error};
use proto::workspacemanagerbridge as wire;
use proto::workspacemanagerbridge::admission_constraint::{
    Constraint as Wire, FeaturePreview, HasPermission,
};
use proto::workspacemanagerbridge::cluster_service_server::ClusterService;
use proto::workspacemanagerbridge::update_request::Property;

/// For an admin who sends the address or certificates of a workspace manager.
const REGISTER_HERE: &str = "clusters are registered by their apiserver here, and not by a workspace manager: \
    write a cluster file that names a kubeconfig, and use spaceport cluster register -f FILE";

/// Implements the service.
#[derive(Clone)]
pub struct Bridge {
    views: Arc<Views>,
    updates: Arc<Updates>,
    cordons: Arc<Cordons>,
    deregistration: Arc<Deregistration>,
}

impl Bridge {
    /// Over the registry of member clusters.
    pub fn new(of: &Clusters) -> Self {
        Self {
            views: Arc::clone(&of.views),
            updates: Arc::clone(&of.updates),
            cordons: Arc::clone(&of.cordons),
            deregistration: Arc::clone(&of.deregistration),
        }
    }
}

#[tonic::async_trait]
impl ClusterService for Bridge {
    async fn register(
        &self,
        _request: Request<wire::RegisterRequest>,
    ) -> Result<Response<wire::RegisterResponse>, Status> {
        Err(Status::unimplemented(REGISTER_HERE))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateRequest>,
    ) -> Result<Response<wire::UpdateResponse>, Status> {
        let request = request.into_inner();
        if matches!(request.property, Some(Property::Tls(_))) {
            return Err(Status::unimplemented(REGISTER_HERE));
        }
        let mut problems = Problems::default();
        let name = problems.parse("name", &request.name);
        let nothing = Some(SpecChange::default());
        let change = request.property.map_or(nothing, |property| change(&mut problems, property));
        let (name, change) = problems.finish(name.zip(change))?;
        // Uncordoning removes a finished drain and is rejected while one is in progress.
        let changed = match change.cordoned {
            Some(cordoned) => self.cordons.set(&name, cordoned).await,
            None => self.updates.change(&name, &change).await,
        };
        changed.map_err(|error| error::status(&error))?;
        Ok(Response::new(wire::UpdateResponse {}))
    }

    /// An unknown cluster counts as deregistered.
    async fn deregister(
        &self,
        request: Request<wire::DeregisterRequest>,
    ) -> Result<Response<wire::DeregisterResponse>, Status> {
        let request = request.into_inner();
        let name = parse::named("name", &request.name)?;
        match self.deregistration.deregister(&name, request.force).await {
            Ok(()) | Err(Error::NoCluster(_)) => Ok(Response::new(wire::DeregisterResponse {})),
            Err(error) => Err(error::status(&error)),
        }
    }

    async fn list(
        &self,
        _request: Request<wire::ListRequest>,
    ) -> Result<Response<wire::ListResponse>, Status> {
        let status = self.views.all().iter().map(view).collect();
        Ok(Response::new(wire::ListResponse { status }))
    }
}

fn change(problems: &mut Problems, property: Property) -> Option<SpecChange> {
    let mut number = |field: &str, number: i32| {
        u32::try_from(number).map_err(|_| problems.add(field, "must not be negative")).ok()
    };
    let mut change = SpecChange::default();
    match property {
        Property::Score(score) => change.weight = Some(number("score", score)?),
        Property::MaxScore(score) => change.max_weight = Some(number("max_score", score)?),
        Property::Cordoned(cordoned) => change.cordoned = Some(cordoned),
        Property::AdmissionConstraint(modify) => {
            let constraint = match modify.constraint.and_then(|constraint| constraint.constraint) {
                Some(Wire::HasPermission(HasPermission { permission })) => Constraint::Permission(permission),
                Some(Wire::HasFeaturePreview(FeaturePreview {})) => Constraint::FeaturePreview(true),
                None => {
                    problems.add("admission_constraint.constraint", "must name a constraint");
                    return None;
                }
            };
            if modify.add {
                change.add_constraints.push(constraint);
            } else {
                change.remove_constraints.push(constraint);
            }
        }
        // Rejected before.
        Property::Tls(_) => return None,
    }
    Some(change)
}

fn view(cluster: &ClusterView) -> wire::ClusterStatus {
    let spec = &cluster.spec;
    let state = match cluster.drain {
        Some(Stage::Draining | Stage::Paused | Stage::Drained) => wire::ClusterState::Draining,
        _ if spec.cordoned => wire::ClusterState::Cordoned,
        _ => wire::ClusterState::Available,
    };
    let constraint = |constraint: &Constraint| {
        let constraint = match constraint {
            Constraint::Permission(permission) => {
                Wire::HasPermission(HasPermission { permission: permission.clone() })
            }
            Constraint::FeaturePreview(true) => Wire::HasFeaturePreview(FeaturePreview {}),
            // No constraint.
            Constraint::FeaturePreview(false) => return None,
        };
        Some(wire::AdmissionConstraint { constraint: Some(constraint) })
    };
    wire::ClusterStatus {
        name: spec.name.to_string(),
        url: cluster.api_server.clone(),
        state: state.into(),
        score: i32::try_from(spec.weight).unwrap_or(i32::MAX),
        max_score: i32::try_from(spec.max_weight).unwrap_or(i32::MAX),
        governed: true,
        admission_constraint: spec.admission_constraints.iter().filter_map(constraint).collect(),
        r#static: false,
        region: spec.region.to_string(),
    }
}
