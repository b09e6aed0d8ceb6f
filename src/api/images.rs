//! `registryfacade.SpecProvider`: the layers that make up the image of a workspace.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{caller, error, parse};
use federation::workspaces::queries::Queries;
use proto::registryfacade;
use proto::registryfacade::spec_provider_server::SpecProvider;

/// Implements the service.
#[derive(Debug, Clone)]
pub struct Images(pub Arc<Queries>);

#[tonic::async_trait]
impl SpecProvider for Images {
    async fn get_image_spec(
        &self,
        request: Request<registryfacade::GetImageSpecRequest>,
    ) -> Result<Response<registryfacade::GetImageSpecResponse>, Status> {
        let caller = caller::of(request.extensions());
        let id = parse::id(&request.into_inner().id)?;
        caller.check(&self.0, &id)?;
        let seen = self.0.describe(&id).map_err(|error| error::status(&error))?;
        let view = &seen.view;
        let spec = registryfacade::ImageSpec {
            base_ref: view.image.clone(),
            ide_ref: view.ide.web.clone(),
            content_layer: Vec::new(),
            supervisor_ref: view.ide.supervisor.clone(),
            ide_layer_ref: view.ide.layers.clone(),
        };
        Ok(Response::new(registryfacade::GetImageSpecResponse { spec: Some(spec) }))
    }
}
