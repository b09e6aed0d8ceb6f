//! `Leader`, incarnations, and the installation's secret.

use tonic::{Request, Response, Status};

use super::service::Clusters;
use crate::caller;
use crate::convert::timestamp;
use crate::error;
use domain::epoch::Opening;
use federation::Lead;
use proto::spaceport::v1;

impl Clusters {
    pub(super) async fn answer_open_incarnation(
        &self,
        request: Request<v1::OpenIncarnationRequest>,
    ) -> Result<Response<v1::OpenIncarnationResponse>, Status> {
        let by = caller::of(request.extensions()).who.name().to_owned();
        let opened = self.federation.clusters.incarnations.open(&request.into_inner().reason, by).await;
        let opened = opened.map_err(|error| error::status(&error))?;
        Ok(Response::new(v1::OpenIncarnationResponse { opened: Some(opening(opened)) }))
    }

    pub(super) async fn answer_rotate_secret(
        &self,
        request: Request<v1::RotateSecretRequest>,
    ) -> Result<Response<v1::RotateSecretResponse>, Status> {
        let by = caller::of(request.extensions()).who.name().to_owned();
        let rotated = self.federation.clusters.secret.rotate(&request.into_inner().reason, by).await;
        let versions = rotated.map_err(|error| error::status(&error))?;
        Ok(Response::new(v1::RotateSecretResponse { version: versions.current, former: versions.former }))
    }

    pub(super) async fn answer_leader(&self) -> v1::LeaderResponse {
        let us = self.federation.leadership.replica();
        let mut response =
            v1::LeaderResponse { answered_by: us.name.clone(), ..v1::LeaderResponse::default() };
        let lead = self.federation.leadership.lead().borrow().clone();
        match lead {
            Lead::Us => {
                response.replica.clone_from(&us.name);
                response.address.clone_from(&us.address);
            }
            Lead::Other { replica, address } => {
                response.replica = replica;
                response.address = address;
            }
            Lead::Nobody => {}
        }
        if let Some((epoch, since)) = self.federation.leadership.epoch() {
            response.epoch = epoch;
            response.since = since.map(timestamp);
        }
        let standing = self.federation.clusters.incarnations.standing().await;
        response.installation = standing.installation.to_string();
        response.incarnation = standing.incarnation;
        response.openings = standing.openings.into_iter().map(opening).collect();
        response.replicas = standing
            .replicas
            .into_iter()
            .map(|(name, address, epoch)| v1::Replica { name, address, epoch })
            .collect();
        response
    }
}

fn opening(opening: Opening) -> v1::IncarnationOpening {
    v1::IncarnationOpening {
        incarnation: opening.incarnation,
        at: Some(timestamp(opening.at)),
        by: opening.by,
        reason: opening.reason,
    }
}
