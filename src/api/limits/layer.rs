//! Tower layer that applies the limits. Behind [`super::super::access`]: only calls that this replica serves count.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::{Limit, Limits, PATIENCE};
use crate::gate::Gate;
use crate::peers::{MESSAGE_MAX, deadline};

/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;

impl Gate for Limits {
    async fn pass(self: Arc<Self>, request: Request<Body>) -> Result<Request<Body>, Response<Body>> {
        admit(&self, request).await.map_err(Status::into_http)
    }
}

async fn admit(limits: &Limits, mut request: Request<Body>) -> Result<Request<Body>, Status> {
    let (asked, method) = (Instant::now(), request.uri().path().to_owned());
    let mut whole = None;
    // Once, and again whenever the method's limit is replaced while the call waits.
    while let Some(limit) = limits.of(&method) {
        if limit.is_keyed() && whole.is_none() {
            let (same, body) = read(request).await?;
            (request, whole) = (same, Some(body));
        }
        let message = whole.as_ref().and_then(|body: &Bytes| body.get(HEAD..)).unwrap_or_default();
        let patience = deadline(request.headers()).map_or(PATIENCE, |deadline| deadline.min(PATIENCE));
        let wait = limits.admit(&method, &limit, message, patience.saturating_sub(asked.elapsed()))?;
        if wait.is_zero() {
            break;
        }
        let mut taken = Taken { limit: &limit, message, is_used: false };
        tokio::select! {
            () = tokio::time::sleep(wait) => {
                taken.is_used = true;
                break;
            }
            () = limits.replaced(&method, &limit) => {}
        }
    }
    Ok(request)
}

/// Returns its token if the call is cancelled while it waits.
struct Taken<'a> {
    limit: &'a Limit,
    message: &'a [u8],
    is_used: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.is_used {
            self.limit.give_back(self.message);
        }
    }
}

/// Buffers the whole request.
async fn read(request: Request<Body>) -> Result<(Request<Body>, Bytes), Status> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MESSAGE_MAX + HEAD).collect().await;
    let body = body.map_err(|error| Status::resource_exhausted(error.to_string()))?.to_bytes();
    if body.first().is_some_and(|compressed| *compressed != 0) {
        return Err(Status::unimplemented("compressed requests are not served"));
    }
    Ok((Request::from_parts(parts, Body::new(Full::new(body.clone()))), body))
}
