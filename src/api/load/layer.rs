//! Tower layer that applies the load limits.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::Load;
use super::answer::Answer;
use crate::peers::deadline;

/// Puts the limits in front of a service.
#[derive(Debug, Clone)]
pub struct LoadLayer(pub Arc<Load>);

impl<S> Layer<S> for LoadLayer {
    type Service = Loaded<S>;

    fn layer(&self, inner: S) -> Loaded<S> {
        Loaded { inner, load: Arc::clone(&self.0) }
    }
}

/// A service behind the limits.
#[derive(Debug, Clone)]
pub struct Loaded<S> {
    inner: S,
    load: Arc<Load>,
}

impl<S> Service<Request<Body>> for Loaded<S>
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
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let load = Arc::clone(&self.load);
        Box::pin(async move {
            // Meanwhile the server notices that a client has cancelled the call, and drops it: such a call costs no
            // work.
            tokio::task::yield_now().await;
            let (request, mut account) = match load.admit(request).await {
                Ok(admitted) => admitted,
                Err(status) => return Ok(status.into_http()),
            };
            let limit = deadline(request.headers());
            let answering = inner.call(request);
            let answer = match limit {
                None => answering.await?,
                Some(limit) => match tokio::time::timeout(limit, answering).await {
                    Ok(answer) => answer?,
                    Err(_) => {
                        return Ok(Status::deadline_exceeded("the caller's deadline has passed").into_http());
                    }
                },
            };
            account.answered();
            Ok(answer.map(|body| Body::new(Answer::new(body, account))))
        })
    }
}
