//! The layer around each call: limiter, deadline, health signals and identity.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use kube::client::Body;
use tokio::time::{Instant, Sleep};
use tower::{BoxError, Service};

use super::cap::{Cap, Turns};
use super::fault::Fault;
use super::identity::Identity;
use super::limiter::Limiter;
use super::limits::Limits;
use super::meter::{CallMeter, Kind};
use super::signals::Signals;
use super::turn;
use crate::error;

/// However long an apiserver wants to be left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Among a request's extensions: how its deadline holds for an answer that is a log. A log takes no place among the calls in
/// flight while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// For its beginning alone.
    Answer,
    /// Not at all: the log of a container that is followed may be silent for hours, and its answer begins with the first line.
    All,
}

/// Among a request's extensions: a probe takes no turn, since it asks about the cluster and not about our limiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe;

/// Applies limiter, deadline and identity to each call, and signals its outcome.
#[derive(Clone)]
pub(super) struct Guarded<S> {
    inner: S,
    identity: Identity,
    shared: Arc<Shared>,
}

struct Shared {
    limiter: Limiter,
    turns: Turns,
    deadline: Duration,
    silence: Duration,
    signals: Arc<dyn Signals>,
}

impl<S> Guarded<S> {
    pub(super) fn new(inner: S, limits: &Limits, signals: Arc<dyn Signals>) -> Self {
        let limiter = Limiter::new(limits.qps, limits.burst, limits.in_flight);
        let (deadline, silence) = (limits.request_timeout, limits.watch_silence);
        let shared = Arc::new(Shared { limiter, turns: Turns::default(), deadline, silence, signals });
        Self { inner, identity: Identity::default(), shared }
    }

    /// The same limits for calls under another identity.
    pub(super) fn identified(self, identity: Identity) -> Self {
        Self { identity, ..self }
    }
}

impl<S, B> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Fault> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Timed<B>>;
    type Error = Fault;
    type Future = BoxFuture<'static, Result<Self::Response, Fault>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The service that was polled ready is the one to use; the clone takes its place.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        Box::pin(call(inner, self.identity, Arc::clone(&self.shared), request))
    }
}

async fn call<S, B>(
    mut inner: S,
    identity: Identity,
    shared: Arc<Shared>,
    mut request: Request<Body>,
) -> Result<Response<Timed<B>>, Fault>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Fault>,
{
    let is_watch = request.uri().query().is_some_and(is_watch);
    let lasting = request.extensions().get::<Lasting>().copied();
    let permit = if is_probe(&request) {
        None
    } else {
        let _waits = turn::waits();
        let permit = tokio::time::timeout(shared.deadline, shared.limiter.turn()).await;
        permit
            .map_err(|_| Fault::Throttled)
            .inspect_err(|fault| failed(shared.signals.meter(), fault.category()))?
    };
    // The time in our own queue is not the cluster's.
    let due = Instant::now() + shared.deadline;
    identity.stamp(&mut request);
    let (kind, sent) = (kind(&request, is_watch), Instant::now());
    let answer = if lasting == Some(Lasting::All) {
        drop(permit);
        inner.call(request).await
    } else {
        let answer = tokio::time::timeout_at(due, inner.call(request)).await;
        drop(permit);
        answer.unwrap_or(Err(Fault::Timeout(shared.deadline)))
    };
    let signals = Arc::clone(&shared.signals);
    if lasting.is_none() {
        count(signals.meter(), kind, sent.elapsed(), &answer);
    }
    match answer {
        Ok(response) => {
            tell(&*signals, response.status());
            if let Some(pause) = asked_pause(&response) {
                shared.limiter.hold(Instant::now() + pause);
            }
            let is_error = !response.status().is_success();
            let (limit, cap) = if is_error || (!is_watch && lasting.is_none()) {
                let cap = Cap::whole(is_error, &shared.turns);
                (Some(Limit::deadline(due, shared.deadline)), cap)
            } else if is_watch {
                (Some(Limit::silence(shared.silence)), Cap::lines())
            } else {
                (None, Cap::Pieces)
            };
            Ok(response.map(|body| Timed { body: Box::pin(body), limit, cap, signals }))
        }
        Err(fault) => {
            signals.missed(&fault.to_string());
            Err(fault)
        }
    }
}

fn is_probe(request: &Request<Body>) -> bool {
    request.extensions().get::<Probe>().is_some()
}

fn kind(request: &Request<Body>, is_watch: bool) -> Kind {
    match *request.method() {
        _ if is_probe(request) => Kind::Probe,
        _ if is_watch => Kind::Watch,
        Method::GET | Method::HEAD => Kind::Read,
        _ => Kind::Write,
    }
}

fn count<B>(meter: Option<&CallMeter>, kind: Kind, time: Duration, answer: &Result<Response<B>, Fault>) {
    let Some(meter) = meter else { return };
    meter.took(kind, time);
    match answer {
        Ok(response) if response.status() == StatusCode::UNAUTHORIZED => meter.failed("unauthorized"),
        Ok(response) if response.status() == StatusCode::TOO_MANY_REQUESTS => meter.failed("busy"),
        Ok(response) if response.status().is_server_error() => meter.failed("server_error"),
        Ok(_) => {}
        Err(fault) => meter.failed(fault.category()),
    }
}

fn failed(meter: Option<&CallMeter>, reason: &'static str) {
    if let Some(meter) = meter {
        meter.failed(reason);
    }
}

/// How long an overloaded apiserver wants no requests. Its probes continue. The limits of an apiserver answer in plain text; a
/// 429 with a Status is about one object, such as the denial of a webhook, which must not stop requests about others.
fn asked_pause<B>(response: &Response<B>) -> Option<Duration> {
    let content = response.headers().get(http::header::CONTENT_TYPE);
    let is_status = content.is_some_and(|kind| !kind.as_bytes().starts_with(b"text/"));
    if response.status() != StatusCode::TOO_MANY_REQUESTS || is_status {
        return None;
    }
    let seconds = response.headers().get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

fn is_watch(query: &str) -> bool {
    query.split('&').any(|part| part == "watch=true" || part == "watch=1")
}

/// An answer is a sign of life, unless it says that the server fails or does not know us.
fn tell(signals: &dyn Signals, status: StatusCode) {
    if status == StatusCode::UNAUTHORIZED {
        signals.missed("the login is refused (401)");
    } else if status.is_server_error() {
        signals.missed(&format!("the apiserver answers {status}"));
    } else {
        signals.answered();
    }
}

/// An answer's body that ends in time: by a deadline, or for a watch when it is silent for too long; and that is not too long.
pub(super) struct Timed<B> {
    body: Pin<Box<B>>,
    /// None where its reader sees to that.
    limit: Option<Limit>,
    cap: Cap,
    signals: Arc<dyn Signals>,
}

struct Limit {
    sleep: Pin<Box<Sleep>>,
    length: Duration,
    renewed: bool,
}

impl Limit {
    fn deadline(at: Instant, length: Duration) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until(at)), length, renewed: false }
    }

    fn silence(length: Duration) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(length)), length, renewed: true }
    }
}

impl<B> HttpBody for Timed<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        if this.cap.poll_turn(cx).is_ready()
            && let Poll::Ready(frame) = this.body.as_mut().poll_frame(cx)
        {
            if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref())
                && let Err(fault) = this.cap.take(data)
            {
                failed(this.signals.meter(), fault.category());
                return Poll::Ready(Some(Err(fault)));
            }
            if let Some(limit) = this.limit.as_mut().filter(|limit| limit.renewed)
                && matches!(frame, Some(Ok(_)))
            {
                limit.sleep.as_mut().reset(Instant::now() + limit.length);
                this.signals.answered();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| Fault::Broken(told(error)))));
        }
        let Some(limit) = &mut this.limit else { return Poll::Pending };
        ready!(limit.sleep.as_mut().poll(cx));
        if limit.renewed {
            // Silence alone proves nothing: of a kind that nothing happened to since it was started, an apiserver sends
            // no bookmarks. The watch goes on over a new connection, as after its ordinary end.
            return Poll::Ready(None);
        }
        let fault = Fault::Timeout(limit.length);
        this.signals.missed(&fault.to_string());
        Poll::Ready(Some(Err(fault)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn told(error: impl Into<BoxError>) -> String {
    error::chain(&*error.into())
}

#[cfg(test)]
mod tests;
