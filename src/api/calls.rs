//! Counts gRPC calls under the metric names of Go servers (`grpc_server_…`), so that existing dashboards work.
//!
//! The outermost layer: rejected calls count too. A forwarded call counts on the leader alone. A call ends with its
//! status; that of a stream is in its trailers. A call that ends without a status, because the client cancelled it,
//! counts as `Canceled`. A panic in a handler fails its own call and no other of the connection.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use http::{Request, Response};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::call_end::{EndObserver, ObservedBody, status};
use proto::FILE_DESCRIPTOR_SET;

/// Labels of all unknown methods: callers choose paths freely, and label values must be few.
const UNKNOWN: Method = Method { kind: "unary", service: "unknown", name: "unknown" };

/// Marks a response from another replica, which counted the call.
#[derive(Debug, Clone, Copy)]
pub struct PassedOn;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Method<T = &'static str> {
    kind: &'static str,
    service: T,
    name: T,
}

/// Counters of gRPC calls. Clones share them.
#[derive(Debug, Clone)]
pub struct Calls(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    methods: HashMap<String, Method<String>>,
    started: IntCounterVec,
    handled: IntCounterVec,
    seconds: HistogramVec,
}

impl Calls {
    /// For the served methods.
    pub fn new() -> Result<Self, prometheus::Error> {
        const LABELS: [&str; 3] = ["grpc_type", "grpc_service", "grpc_method"];
        let counter = |name: &str, help: &str, more: &[&str]| {
            let labels: Vec<&str> = LABELS.iter().chain(more).copied().collect();
            IntCounterVec::new(Opts::new(name, help), &labels)
        };
        let seconds = HistogramOpts::new(
            "grpc_server_handling_seconds",
            "Seconds that calls took, streams to their end.",
        );
        Ok(Self(Arc::new(Counters {
            methods: methods().map_err(|error| prometheus::Error::Msg(error.to_string()))?,
            started: counter(
                "grpc_server_started_total",
                "Calls whose answer began, or that ended. Minus the handled ones: the open streams.",
                &[],
            )?,
            handled: counter("grpc_server_handled_total", "Calls that ended.", &["grpc_code"])?,
            seconds: HistogramVec::new(seconds, &LABELS)?,
        })))
    }

    fn begin(&self, path: &str) -> Call {
        Call {
            calls: self.clone(),
            path: path.to_owned(),
            since: Instant::now(),
            is_started: false,
            is_over: false,
        }
    }

    fn labels(&self, path: &str) -> [&str; 3] {
        match self.0.methods.get(path) {
            Some(known) => [known.kind, &known.service, &known.name],
            None => [UNKNOWN.kind, UNKNOWN.service, UNKNOWN.name],
        }
    }
}

impl Collector for Calls {
    fn desc(&self) -> Vec<&Desc> {
        let counters = [&self.0.started, &self.0.handled].into_iter().flat_map(Collector::desc);
        counters.chain(self.0.seconds.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counters = [&self.0.started, &self.0.handled].into_iter().flat_map(Collector::collect);
        counters.chain(self.0.seconds.collect()).collect()
    }
}

/// Every served method, by path.
fn methods() -> Result<HashMap<String, Method<String>>, prost::DecodeError> {
    let mut methods = HashMap::new();
    for set in [FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET] {
        for file in FileDescriptorSet::decode(set)?.file {
            for service in &file.service {
                for method in &service.method {
                    let kind = match (method.client_streaming(), method.server_streaming()) {
                        (false, false) => "unary",
                        (false, true) => "server_stream",
                        (true, false) => "client_stream",
                        (true, true) => "bidi_stream",
                    };
                    let service = format!("{}.{}", file.package(), service.name());
                    let name = method.name().to_owned();
                    methods.insert(format!("/{service}/{name}"), Method { kind, service, name });
                }
            }
        }
    }
    Ok(methods)
}

/// Which sides of a method stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// The client streams.
    pub(super) requests: bool,
    /// The server streams.
    pub(super) answers: bool,
}

/// Of every served method, by path.
pub(super) fn kinds() -> Result<HashMap<String, Kind>, prost::DecodeError> {
    let kind = |kind: &str| Kind {
        requests: matches!(kind, "client_stream" | "bidi_stream"),
        answers: matches!(kind, "server_stream" | "bidi_stream"),
    };
    let mut kinds: HashMap<String, Kind> =
        methods()?.into_iter().map(|(path, method)| (path, kind(method.kind))).collect();
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    kinds.insert(reflection.to_owned(), Kind { requests: true, answers: true });
    Ok(kinds)
}

/// A call in progress. If it is dropped before its end, the client cancelled it.
#[derive(Debug)]
struct Call {
    calls: Calls,
    path: String,
    since: Instant,
    is_started: bool,
    is_over: bool,
}

impl Call {
    fn started(&mut self) {
        if !self.is_started {
            self.is_started = true;
            self.calls.0.started.with_label_values(&self.calls.labels(&self.path)).inc();
        }
    }

    fn ended(&mut self, code: Code) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.started();
        let [kind, service, method] = self.calls.labels(&self.path);
        self.calls.0.handled.with_label_values(&[kind, service, method, name(code)]).inc();
        let took = self.since.elapsed().as_secs_f64();
        self.calls.0.seconds.with_label_values(&[kind, service, method]).observe(took);
    }

    /// The leader counts this call.
    fn disown(&mut self) {
        self.is_over = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.ended(Code::Cancelled);
    }
}

impl EndObserver for Call {
    fn ended(&mut self, code: Code) {
        Self::ended(self, code);
    }
}

/// Go's names of codes, which existing dashboards use.
pub(super) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

impl<S> Layer<S> for Calls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, calls: self.clone() }
    }
}

/// A service whose calls are counted.
#[derive(Debug, Clone)]
pub struct Counted<S> {
    inner: S,
    calls: Calls,
}

impl<S> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut call = self.calls.begin(request.uri().path());
        // A panic leaves a call like a cancelled one: nobody waits for it, and its locks are released.
        let answer = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        Box::pin(async move {
            let Ok(answer) = answer.await else {
                tracing::error!(method = call.path, "the handler of a call panicked");
                call.ended(Code::Internal);
                return Ok(Status::internal("internal error; details are in the server log").into_http());
            };
            let response = answer?;
            if response.extensions().get::<PassedOn>().is_some() {
                call.disown();
                return Ok(response);
            }
            call.started();
            // A response with a status in its headers has no body.
            if let Some(code) = status(response.headers()) {
                call.ended(code);
                return Ok(response);
            }
            Ok(response.map(|body| ObservedBody::body(body, call)))
        })
    }
}

#[cfg(test)]
mod tests;
