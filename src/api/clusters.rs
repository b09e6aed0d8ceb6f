//! `spaceport.v1.ClusterManager`: the admin API.

mod adopt;
mod convert;
mod diff;
mod drain;
mod explain;
mod forget;
mod incarnation;
mod install;
mod registry;
mod service;
mod status;

use tonic::{Request, Response, Status};

use super::error;
use super::parse;
use convert::view;
use federation::clusters::Registered;
use proto::spaceport::v1;
use proto::spaceport::v1::cluster_manager_server::ClusterManager;

pub use service::Clusters;

#[tonic::async_trait]
impl ClusterManager for Clusters {
    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let defaults = self.federation.fleet.default_namespaces();
        let (spec, kubeconfig) = registry::registration(request.into_inner(), &defaults)?;
        let registered = self.federation.clusters.registration.register(spec, kubeconfig).await;
        let (cluster, since) = registered.map_err(|error| error::status(&error))?;
        let outcome = match since {
            Registered::Now => v1::register_response::Outcome::Registered,
            Registered::Before => v1::register_response::Outcome::Unchanged,
        };
        Ok(Response::new(v1::RegisterResponse { cluster: Some(view(&cluster)), outcome: outcome.into() }))
    }

    async fn deregister(
        &self,
        request: Request<v1::DeregisterRequest>,
    ) -> Result<Response<v1::DeregisterResponse>, Status> {
        let request = request.into_inner();
        let name = parse::named("name", &request.name)?;
        self.federation
            .clusters
            .deregistration
            .deregister(&name, request.force)
            .await
            .map_err(|error| error::status(&error))?;
        Ok(Response::new(v1::DeregisterResponse {}))
    }

    async fn list(&self, _request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        let clusters = self.federation.clusters.views.all().iter().map(view).collect();
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
        let cluster = self.federation.clusters.maintenance.set(&name, namespace.as_ref(), until).await;
        let cluster = cluster.map_err(|error| error::status(&error))?;
        Ok(Response::new(v1::SetMaintenanceResponse { cluster: Some(view(&cluster)) }))
    }

    async fn start_drain(
        &self,
        request: Request<v1::StartDrainRequest>,
    ) -> Result<Response<v1::StartDrainResponse>, Status> {
        self.start(request.into_inner()).await
    }

    async fn get_drain(
        &self,
        request: Request<v1::GetDrainRequest>,
    ) -> Result<Response<v1::GetDrainResponse>, Status> {
        self.get(request.get_ref())
    }

    type WatchDrainStream = drain::Watch;

    async fn watch_drain(
        &self,
        request: Request<v1::WatchDrainRequest>,
    ) -> Result<Response<drain::Watch>, Status> {
        self.watch(request.get_ref())
    }

    async fn change_drain(
        &self,
        request: Request<v1::ChangeDrainRequest>,
    ) -> Result<Response<v1::ChangeDrainResponse>, Status> {
        self.change(request.into_inner()).await
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

    async fn rotate_secret(
        &self,
        request: Request<v1::RotateSecretRequest>,
    ) -> Result<Response<v1::RotateSecretResponse>, Status> {
        self.answer_rotate_secret(request).await
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        registry::get(&self.federation, &request.into_inner()).map(Response::new)
    }

    async fn update(
        &self,
        request: Request<v1::UpdateRequest>,
    ) -> Result<Response<v1::UpdateResponse>, Status> {
        registry::update(&self.federation, request.into_inner()).await.map(Response::new)
    }

    type WatchStream = registry::Events;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        registry::watch(&self.federation, &request.into_inner(), &self.shutdown).map(Response::new)
    }

    async fn doctor(
        &self,
        request: Request<v1::DoctorRequest>,
    ) -> Result<Response<v1::DoctorResponse>, Status> {
        registry::doctor(&self.federation, request.into_inner()).await.map(Response::new)
    }

    async fn install(
        &self,
        request: Request<v1::InstallRequest>,
    ) -> Result<Response<v1::InstallResponse>, Status> {
        install::install(&self.federation, request.into_inner()).await.map(Response::new)
    }

    async fn explain_workspace(
        &self,
        request: Request<v1::ExplainWorkspaceRequest>,
    ) -> Result<Response<v1::ExplainWorkspaceResponse>, Status> {
        self.explain(request.into_inner()).await.map(Response::new)
    }

    async fn forecast_placement(
        &self,
        request: Request<v1::ForecastPlacementRequest>,
    ) -> Result<Response<v1::ForecastPlacementResponse>, Status> {
        self.forecast(request.into_inner()).await.map(Response::new)
    }

    async fn get_status(
        &self,
        _request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        Ok(Response::new(Box::pin(self.overview()).await))
    }

    async fn diff(&self, request: Request<v1::DiffRequest>) -> Result<Response<v1::DiffResponse>, Status> {
        diff::diff(&self.federation, &request.into_inner()).await.map(Response::new)
    }

    async fn adopt(&self, request: Request<v1::AdoptRequest>) -> Result<Response<v1::AdoptResponse>, Status> {
        Box::pin(adopt::adopt(&self.federation, request.get_ref())).await.map(Response::new)
    }

    async fn discard(
        &self,
        request: Request<v1::DiscardRequest>,
    ) -> Result<Response<v1::DiscardResponse>, Status> {
        Box::pin(adopt::discard(&self.federation, request.get_ref())).await.map(Response::new)
    }

    async fn forget(
        &self,
        request: Request<v1::ForgetRequest>,
    ) -> Result<Response<v1::ForgetResponse>, Status> {
        Box::pin(forget::forget(&self.federation, request)).await
    }
}

impl Clusters {
    async fn set_cordoned(&self, name: &str, cordoned: bool) -> Result<v1::Cluster, Status> {
        let name = parse::named("name", name)?;
        let cluster = self.federation.clusters.cordons.set(&name, cordoned).await;
        cluster.map(|cluster| view(&cluster)).map_err(|error| error::status(&error))
    }
}
