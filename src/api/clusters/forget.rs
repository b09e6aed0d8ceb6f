//! `Forget`.

use tonic::{Request, Response, Status};

use super::diff::{MOST, compared};
use crate::caller;
use crate::convert::number;
use crate::{error, parse};
use federation::Federation;
use federation::workspaces::forget::Forgetting;
use proto::spaceport::v1;

pub(super) async fn forget(
    federation: &Federation,
    request: Request<v1::ForgetRequest>,
) -> Result<Response<v1::ForgetResponse>, Status> {
    let by = caller::of(request.extensions()).who.name().to_owned();
    let v1::ForgetRequest { name, reason, dry_run } = request.into_inner();
    let name = parse::named("name", &name)?;
    let asked = Forgetting { reason, by, dry_run };
    let done = federation
        .workspaces
        .giving_up
        .forget_cluster(&name, &asked)
        .await
        .map_err(|error| error::status(&error))?;
    Ok(Response::new(v1::ForgetResponse {
        given_up: number(done.given_up),
        left: number(done.left.len()),
        workspaces: done.left.iter().take(MOST).map(compared).collect(),
        left_out: number(done.left.len().saturating_sub(MOST)),
    }))
}
