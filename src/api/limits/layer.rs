//! Puts limits before services. Behind [`super::super::access`]: only calls that this replica serves are counted.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::Limits;
use crate::api::peers::{MESSAGE_MAX, deadline};

/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// Puts [`Limits`] before a service.
#[derive(Debug, Clone)]
pub struct LimitsLayer(pub Arc<Limits>);

impl<S> Layer<S> for LimitsLayer {
    type Service = Throttled<S>;

    fn layer(&self, inner: S) -> Throttled<S> {
        Throttled { inner, limits: Arc::clone(&self.0) }
    }
}

/// A service behind [`Limits`].
#[derive(Debug, Clone)]
pub struct Throttled<S> {
    inner: S,
    limits: Arc<Limits>,
}

impl<S> Service<Request<Body>> for Throttled<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(is_keyed) = self.limits.of(request.uri().path()) else {
            return Box::pin(self.inner.call(request));
        };
        // The clone that was polled ready is the one to call.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let limits = Arc::clone(&self.limits);
        Box::pin(async move {
            match admit(&limits, request, is_keyed).await {
                Ok(request) => inner.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        })
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
