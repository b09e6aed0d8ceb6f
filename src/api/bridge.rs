//! `workspacemanagerbridge.ClusterService`: the admin's API of existing installations, over the same registry. What
//! needs the address of a workspace manager is refused, with what to do here instead.

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

/// What an admin who comes with the address or the certificates of a workspace manager has to do here.
const REGISTER_HERE: &str = "clusters are registered by their apiserver here, and not by a workspace manager: \
    write a cluster file that names a kubeconfig, and use spaceport cluster register -f FILE";

/// The service.
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
        // Letting workspaces in again ends a finished drain, and is refused while one is under way.
        let changed = match change.cordoned {
            Some(cordoned) => self.cordons.set(&name, cordoned).await,
            None => self.updates.change(&name, &change).await,
        };
        changed.map_err(|error| error::status(&error))?;
        Ok(Response::new(wire::UpdateResponse {}))
    }

    /// A cluster that is not there counts as deregistered.
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
        // Refused before.
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
            // Asks for nothing.
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
