//! Checks the text of every request in one place before decoding: a layer over all services, so no field or call is
//! left out. [`super::parse`] checks the rules of single fields later.

mod scan;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use tonic::Status;
use tonic::body::Body;

use self::scan::{Malformed, Schema};
use super::gate::Gate;
use super::parse::Problems;
use super::peers::MESSAGE_MAX;
use proto::FILE_DESCRIPTOR_SET;

/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;
/// Requests above this many bytes are checked on another thread.
const LARGE: usize = 64 * 1024;

/// Rejects requests with texts that no program behind this one accepts.
#[derive(Debug)]
pub struct Texts(Arc<Schema>);

impl Texts {
    /// Reads the messages of every served service.
    pub fn new() -> Result<Self, prost::DecodeError> {
        Ok(Self(Arc::new(Schema::read(FILE_DESCRIPTOR_SET)?)))
    }

    async fn admit(&self, request: Request<Body>) -> Result<Request<Body>, Status> {
        // Health and reflection have their own services, with endless streams.
        let Some(message) = self.0.request_of(request.uri().path()) else { return Ok(request) };
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, MESSAGE_MAX + HEAD).collect().await;
        let body = body.map_err(|error| Status::resource_exhausted(error.to_string()))?.to_bytes();
        if body.len() > LARGE {
            let (schema, whole) = (Arc::clone(&self.0), body.clone());
            let checking = tokio::task::spawn_blocking(move || check(&schema, message, &whole));
            checking.await.map_err(|_| Status::internal("the request could not be checked"))??;
        } else {
            check(&self.0, message, &body)?;
        }
        Ok(Request::from_parts(parts, Body::new(Full::new(body))))
    }
}

impl Gate for Texts {
    async fn pass(self: Arc<Self>, request: Request<Body>) -> Result<Request<Body>, Response<Body>> {
        self.admit(request).await.map_err(Status::into_http)
    }
}

/// Checks the one message of a body. The decoder rejects compressed or truncated ones.
fn check(schema: &Schema, message: usize, body: &Bytes) -> Result<(), Status> {
    let Some((head, rest)) = body.split_at_checked(HEAD) else { return Ok(()) };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let content = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let Some(content) = content.filter(|_| head[0] == 0) else { return Ok(()) };
    let mut problems = Problems::default();
    match schema.scan(message, content, &mut |field, rule| problems.add(field, rule)) {
        Ok(true) => Ok(()),
        Ok(false) => problems.finish(None),
        Err(Malformed) => Err(Status::invalid_argument("the request is no message of this call")),
    }
}
