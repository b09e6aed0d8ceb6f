//! Puts limits before services. Behind [`super::super::access`]: only calls that this replica serves are counted.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use tonic::Status;
use tonic::body::Body;

use super::Limits;
use crate::api::gate::Gate;
use crate::api::peers::{MESSAGE_MAX, deadline};

/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;

impl Gate for Limits {
    async fn pass(self: Arc<Self>, request: Request<Body>) -> Result<Request<Body>, Response<Body>> {
        match self.of(request.uri().path()) {
            Some(is_keyed) => admit(&self, request, is_keyed).await.map_err(Status::into_http),
            None => Ok(request),
        }
    }
}

async fn admit(limits: &Limits, request: Request<Body>, is_keyed: bool) -> Result<Request<Body>, Status> {
    let (request, body) = if is_keyed { read(request).await? } else { (request, Bytes::new()) };
    let message = body.get(HEAD..).unwrap_or_default();
    let wait = limits.admit(request.uri().path(), message, deadline(request.headers()))?;
    if !wait.is_zero() {
        let method = request.uri().path().to_owned();
        let mut taken = Taken { limits, method, message, is_used: false };
        tokio::time::sleep(wait).await;
        taken.is_used = true;
    }
    Ok(request)
}

/// A token that is given back when its call is cancelled while it waits.
struct Taken<'a> {
    limits: &'a Limits,
    method: String,
    message: &'a [u8],
    is_used: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.is_used {
            self.limits.give_back(&self.method, self.message);
        }
    }
}

/// Reads a request whole, and keeps it whole.
async fn read(request: Request<Body>) -> Result<(Request<Body>, Bytes), Status> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MESSAGE_MAX + HEAD).collect().await;
    let body = body.map_err(|error| Status::resource_exhausted(error.to_string()))?.to_bytes();
    if body.first().is_some_and(|compressed| *compressed != 0) {
        return Err(Status::unimplemented("compressed requests are not served"));
    }
    Ok((Request::from_parts(parts, Body::new(Full::new(body.clone()))), body))
}
