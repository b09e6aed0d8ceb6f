//! Tower layer that applies the bounds.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::{Bounds, LARGE};
use crate::peers::MESSAGE_MAX;

/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;
/// Methods of admins that parse kubeconfigs and resolve classes and templates: much work for a small request.
const LONG: [&str; 4] = [
    "/spaceport.v1.ClusterManager/Doctor",
    "/spaceport.v1.ClusterManager/Install",
    "/spaceport.v1.ClusterManager/Register",
    "/spaceport.v1.ClusterManager/Update",
];
/// Time for a whole request to arrive: 16 MiB in it are 2.2 Mbit/s.
const ARRIVES_WITHIN: Duration = Duration::from_mins(1);

/// Checks requests before a service decodes them.
#[derive(Debug, Clone)]
pub struct BoundsLayer(pub Arc<Bounds>);

impl<S> Layer<S> for BoundsLayer {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner, bounds: Arc::clone(&self.0) }
    }
}

/// A service behind the bounds.
#[derive(Debug, Clone)]
pub struct Bounded<S> {
    inner: S,
    bounds: Arc<Bounds>,
}

impl<S> Service<Request<Body>> for Bounded<S>
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
        // The clone was not polled ready; call the one that was.
        let ready = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, ready);
        let bounds = Arc::clone(&self.bounds);
        Box::pin(async move { Ok(serve(bounds, inner, request).await.unwrap_or_else(Status::into_http)) })
    }
}

async fn serve<S>(bounds: Arc<Bounds>, mut inner: S, request: Request<Body>) -> Result<Response<Body>, Status>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send,
{
    // Health, reflection and unknown methods: their messages hold nothing repeated.
    let Some(kind) = bounds.schema.request(request.uri().path()) else {
        return called(inner.call(request).await);
    };
    let (parts, body) = request.into_parts();
    let bytes = read(body).await?;
    let request = Request::from_parts(parts, Body::new(Full::new(bytes.clone())));
    if bytes.len() <= LARGE && !LONG.contains(&request.uri().path()) {
        bounds.check(kind, message(&bytes)?)?;
        return called(inner.call(request).await);
    }
    let here = Arc::clone(&bounds);
    let served = async move {
        here.check(kind, message(&bytes)?)?;
        drop(bytes);
        called(inner.call(request).await)
    };
    bounds.pool.run(served).await?
}

fn called(answer: Result<Response<Body>, Infallible>) -> Result<Response<Body>, Status> {
    answer.map_err(|never| match never {})
}

async fn read(body: Body) -> Result<Bytes, Status> {
    let whole = Limited::new(body, MESSAGE_MAX + HEAD).collect();
    match tokio::time::timeout(ARRIVES_WITHIN, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) => Err(Status::resource_exhausted(error.to_string())),
        Err(_) => Err(Status::deadline_exceeded("the request did not arrive within a minute")),
    }
}

/// The one message of a request; empty if there is none or it was cut off, which the service reports itself.
fn message(body: &Bytes) -> Result<&[u8], Status> {
    let Some((head, rest)) = body.split_at_checked(HEAD) else { return Ok(&[]) };
    let (compressed, length) = (head[0], [head[1], head[2], head[3], head[4]]);
    if compressed != 0 {
        return Err(Status::unimplemented("compressed requests are not served"));
    }
    match usize::try_from(u32::from_be_bytes(length)) {
        Ok(length) if length < rest.len() => {
            Err(Status::invalid_argument("must be one message, but more bytes follow it"))
        }
        Ok(length) if length == rest.len() => Ok(rest),
        _ => Ok(&[]),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use prost::Message as _;
    use tokio::runtime::Handle;
    use tonic::Code;

    use super::*;
    use proto::wsman::{PortSpec, StartWorkspaceRequest, StartWorkspaceSpec};

    const START: &str = "/wsman.WorkspaceManager/StartWorkspace";

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut framed = vec![0];
        framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend(message);
        framed
    }

    fn ports(count: usize) -> Vec<u8> {
        let spec = StartWorkspaceSpec { ports: vec![PortSpec::default(); count], ..Default::default() };
        StartWorkspaceRequest { spec: Some(spec), ..Default::default() }.encode_to_vec()
    }

    /// Calls through the layer; returns the code of its rejection, and how many bytes reached the service.
    async fn call(path: &str, body: Vec<u8>) -> (Option<Code>, usize) {
        let reached = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&reached);
        let service = tower::service_fn(move |request: Request<Body>| {
            let seen = Arc::clone(&seen);
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                seen.store(body.len(), Ordering::SeqCst);
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }
        });
        let layer = BoundsLayer(Arc::new(Bounds::new(Handle::current()).unwrap()));
        let request = Request::builder().uri(path).body(Body::new(Full::new(Bytes::from(body)))).unwrap();
        let response = layer.layer(service).call(request).await.unwrap();
        let code = response.headers().get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()));
        (code, reached.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn a_request_within_its_limits_reaches_the_service_unchanged() {
        let body = framed(&ports(1_000));
        assert_eq!(call(START, body.clone()).await, (None, body.len()));
        let long = StartWorkspaceRequest { id: "x".repeat(1 << 20), ..Default::default() };
        let body = framed(&long.encode_to_vec());
        assert_eq!(call(START, body.clone()).await, (None, body.len()));
    }

    #[tokio::test]
    async fn a_request_over_a_limit_never_reaches_the_service() {
        for count in [1_001, 200_000] {
            assert_eq!(call(START, framed(&ports(count))).await, (Some(Code::InvalidArgument), 0));
        }
        let two = [framed(&[]), framed(&ports(200_000))].concat();
        assert_eq!(call(START, two).await, (Some(Code::InvalidArgument), 0));
        let mut compressed = framed(&[]);
        compressed[0] = 1;
        assert_eq!(call(START, compressed).await, (Some(Code::Unimplemented), 0));
        let huge = vec![0; MESSAGE_MAX + HEAD + 1];
        assert_eq!(call(START, huge).await, (Some(Code::ResourceExhausted), 0));
    }

    #[tokio::test]
    async fn a_truncated_request_is_rejected_by_the_service() {
        let mut cut = framed(&ports(10));
        cut.pop();
        assert_eq!(call(START, cut.clone()).await, (None, cut.len()));
        assert_eq!(call("/grpc.health.v1.Health/Check", vec![1, 2, 3]).await, (None, 3));
    }
}
