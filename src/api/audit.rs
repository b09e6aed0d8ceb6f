//! Audit log: one JSON line for each call that changes something, whatever its outcome.
//!
//! Only the count of calls is further out, so rejected calls are recorded too; [`Reader`] runs behind the limits of
//! bytes and reads the fields. The replica that serves a call records it: the leader records a forwarded call with its
//! first caller, and a standby records what it answers itself (rejected, or no leader). If the leader's response is
//! lost on the way, both record it. [`methods`] is the allow-list of methods and fields.

mod fields;
mod line;
mod methods;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use jiff::Timestamp;
use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use serde_json::{Map, Value};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use self::fields::Field;
use self::methods::{Entry, METHODS};
use super::call_end::{EndObserver, ObservedBody, status};
use super::caller::{Caller, Who};
use super::calls::PassedOn;
use super::gate::Gate;
use super::peers::MESSAGE_MAX;
use domain::names::WorkspaceId;
use federation::workspaces::queries::Queries;
use proto::{FILE_DESCRIPTOR_SET, codes};
use runtime::audit::AuditSink;
use runtime::tls::ConnectInfo;

/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;
/// Requests from this size on are searched for fields on other threads than those that serve.
const LARGE: usize = 64 * 1024;

/// What inner layers report about a call to the audit. Every recorded request carries one in its extensions.
#[derive(Debug, Clone)]
pub struct Note(Arc<Noted>);

#[derive(Debug)]
struct Noted {
    recorded: Arc<Recorded>,
    caller: OnceLock<Arc<Caller>>,
    denied: OnceLock<&'static str>,
    request: OnceLock<Parts>,
}

/// `object` and `arguments` of an audit line.
type Parts = (Map<String, Value>, Map<String, Value>);

impl Note {
    fn new(recorded: Arc<Recorded>) -> Self {
        let (caller, denied, request) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self(Arc::new(Noted { recorded, caller, denied, request }))
    }

    /// Sets the caller, once access has identified it.
    pub fn made_by(&self, caller: Arc<Caller>) {
        let _ = self.0.caller.set(caller);
    }

    /// Sets what the call acts on, for a stream: the service reads its requests.
    pub fn concerns(&self, workspace: &WorkspaceId, arguments: Map<String, Value>) {
        let object = std::iter::once(("workspace".to_owned(), workspace.as_str().into()));
        let _ = self.0.request.set((object.collect(), arguments));
    }

    /// Records a denial that happens before the caller is identified.
    pub fn deny(&self, why: &'static str) {
        let _ = self.0.denied.set(why);
    }
}

/// Layer that reads the recorded fields, where the request is complete and within its byte budget.
#[derive(Debug)]
pub struct Reader;

impl Gate for Reader {
    async fn pass(self: Arc<Self>, request: Request<Body>) -> Result<Request<Body>, Response<Body>> {
        let Some(note) = request.extensions().get::<Note>().cloned() else { return Ok(request) };
        if note.0.recorded.is_stream {
            return Ok(request);
        }
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, MESSAGE_MAX + HEAD).collect().await;
        let body =
            body.map_err(|error| Status::resource_exhausted(error.to_string()).into_http())?.to_bytes();
        let _ = note.0.request.set(read(&note.0.recorded, &body).await);
        Ok(Request::from_parts(parts, Body::new(Full::new(body))))
    }
}

/// Label and field of everything that is recorded of a method.
#[derive(Debug)]
struct Recorded {
    object: Vec<(&'static str, Field)>,
    arguments: Vec<(&'static str, Field)>,
    /// The client streams: the service reports what is recorded ([`Note::concerns`]).
    is_stream: bool,
}

/// Layer that writes the audit log.
#[derive(Debug, Clone)]
pub struct Audit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// This replica's name.
    replica: String,
    queries: Arc<Queries>,
    sink: AuditSink,
    methods: HashMap<&'static str, Arc<Recorded>>,
}

impl Audit {
    /// Records into `sink`. Fails if the program's own descriptors lack a field that [`methods`] lists.
    pub fn new(replica: String, queries: Arc<Queries>, sink: AuditSink) -> Result<Self, String> {
        let methods = if sink.is_on() { recorded()? } else { HashMap::new() };
        Ok(Self(Arc::new(Shared { replica, queries, sink, methods })))
    }
}

fn recorded() -> Result<HashMap<&'static str, Arc<Recorded>>, String> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).map_err(|error| error.to_string())?;
    let mut all = HashMap::new();
    for (path, entry) in METHODS {
        if *entry == Entry::Stream {
            let recorded = Recorded { object: Vec::new(), arguments: Vec::new(), is_stream: true };
            all.insert(*path, Arc::new(recorded));
            continue;
        }
        let Entry::Recorded { object, arguments } = entry else { continue };
        let message = request_of(&files, path).ok_or_else(|| format!("{path} is no method"))?;
        let find = |field: &'static str| Field::find(&files, message, field);
        let object = object.iter().map(|(label, field)| Ok((*label, find(field)?)));
        let arguments = arguments.iter().map(|field| Ok((*field, find(field)?)));
        let recorded = Recorded {
            object: object.collect::<Result<_, String>>()?,
            arguments: arguments.collect::<Result<_, String>>()?,
            is_stream: false,
        };
        all.insert(*path, Arc::new(recorded));
    }
    Ok(all)
}

/// Type of a method's request, as descriptors name it.
fn request_of<'a>(files: &'a FileDescriptorSet, path: &str) -> Option<&'a str> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    files.file.iter().find_map(|file| {
        let name = service.strip_prefix(file.package())?.strip_prefix('.')?;
        let service = file.service.iter().find(|service| service.name() == name)?;
        service.method.iter().find(|found| found.name() == method).map(MethodDescriptorProto::input_type)
    })
}

impl Recorded {
    /// `object` and `arguments`, read from a request.
    fn read(&self, body: &Bytes) -> Parts {
        // Services refuse compressed messages, so they are not read here either.
        let message = body.get(HEAD..).filter(|_| body.first() == Some(&0)).unwrap_or_default();
        let values = |fields: &[(&'static str, Field)]| {
            let found =
                fields.iter().filter_map(|(name, field)| Some(((*name).to_owned(), field.value(message)?)));
            found.collect()
        };
        (values(&self.object), values(&self.arguments))
    }
}

/// A call in progress, recorded when it ends. If it is dropped before, the client cancelled it.
struct Call {
    shared: Arc<Shared>,
    method: &'static str,
    note: Note,
    connection: Who,
    began: Timestamp,
    since: Instant,
    is_over: bool,
}

impl EndObserver for Call {
    fn ended(&mut self, code: Code) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let noted = &self.note.0;
        let (mut object, arguments) = noted.request.get().cloned().unwrap_or_default();
        self.complete(&mut object);
        let caller = noted.caller.get();
        let denied = noted.denied.get().copied().or_else(|| caller.and_then(|caller| caller.denied()));
        let denied = match (denied, caller, code) {
            (None, None, Code::Unauthenticated | Code::PermissionDenied) => Some("nobody known"),
            (denied, ..) => denied,
        };
        self.shared.sink.write(line::line(&line::Facts {
            began: self.began,
            replica: &self.shared.replica,
            who: caller.map_or(&self.connection, |caller| &caller.who),
            via: caller.and_then(|caller| caller.via.as_deref()),
            method: self.method,
            object: &object,
            arguments: &arguments,
            denied,
            outcome: codes::name(code),
            took: self.since.elapsed(),
        }));
    }
}

impl Call {
    /// The leader records this call.
    fn disown(&mut self) {
        self.is_over = true;
    }

    /// Adds owner and cluster of a workspace from its record.
    fn complete(&self, object: &mut Map<String, Value>) {
        let id = object.get("workspace").and_then(Value::as_str).and_then(|id| id.parse().ok());
        let Some((owner, cluster)) = id.and_then(|id| self.shared.queries.place_of(&id)) else {
            return;
        };
        object.entry("owner").or_insert(owner.into());
        object.entry("cluster").or_insert(cluster.into());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.ended(if std::thread::panicking() { Code::Internal } else { Code::Cancelled });
    }
}

impl<S> Layer<S> for Audit {
    type Service = Audited<S>;

    fn layer(&self, inner: S) -> Audited<S> {
        Audited { inner, audit: self.clone() }
    }
}

/// A service whose calls are recorded.
#[derive(Debug, Clone)]
pub struct Audited<S> {
    inner: S,
    audit: Audit,
}

impl<S> Service<Request<Body>> for Audited<S>
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
        let path = request.uri().path();
        let Some((method, recorded)) = self.audit.0.methods.get_key_value(path) else {
            return Box::pin(self.inner.call(request));
        };
        let mut call = Call {
            shared: Arc::clone(&self.audit.0),
            method,
            note: Note::new(Arc::clone(recorded)),
            connection: request.extensions().get::<ConnectInfo>().map(Who::of).unwrap_or_default(),
            began: Timestamp::now(),
            since: Instant::now(),
            is_over: false,
        };
        let mut request = request;
        request.extensions_mut().insert(call.note.clone());
        let answering = self.inner.call(request);
        Box::pin(async move {
            let response = answering.await?;
            if response.extensions().get::<PassedOn>().is_some() {
                call.disown();
                return Ok(response);
            }
            if let Some(code) = status(response.headers()) {
                call.ended(code);
                return Ok(response);
            }
            Ok(response.map(|body| ObservedBody::body(body, call)))
        })
    }
}

async fn read(recorded: &Arc<Recorded>, body: &Bytes) -> Parts {
    if body.len() < LARGE {
        return recorded.read(body);
    }
    let (recorded, body) = (Arc::clone(recorded), body.clone());
    tokio::task::spawn_blocking(move || recorded.read(&body)).await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::access::WRITES;
    use proto::wsman;

    /// Every served method of the program's descriptors.
    fn served() -> BTreeSet<String> {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut methods = BTreeSet::new();
        for file in &files.file {
            for service in &file.service {
                let service_name = format!("{}.{}", file.package(), service.name());
                methods
                    .extend(service.method.iter().map(|method| format!("/{service_name}/{}", method.name())));
            }
        }
        methods
    }

    #[test]
    fn every_method_that_is_served_has_an_entry_and_every_field_of_it_exists() {
        let listed: BTreeSet<String> = METHODS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(listed, served());
        assert_eq!(listed.len(), METHODS.len(), "one entry each");
        recorded().unwrap();
    }

    #[test]
    fn every_method_that_only_the_leader_serves_is_recorded_or_counted() {
        for path in WRITES {
            let entry = METHODS.iter().find(|(listed, _)| *listed == path).unwrap().1;
            assert_ne!(entry, Entry::Reads, "{path}");
        }
        let counted = METHODS.iter().filter(|(_, entry)| *entry == Entry::Counted).map(|(path, _)| *path);
        assert_eq!(counted.collect::<Vec<_>>(), ["/wsman.WorkspaceManager/MarkActive"]);
    }

    #[test]
    fn secrets_of_a_request_are_not_recorded() {
        let secret = "hunter2";
        let variable = wsman::EnvironmentVariable { name: secret.into(), value: secret.into(), secret: None };
        let start = wsman::StartWorkspaceRequest {
            id: "ws".to_owned(),
            spec: Some(wsman::StartWorkspaceSpec {
                workspace_image: format!("https://u:{secret}@registry/image"),
                envvars: vec![variable.clone()],
                sys_envvars: vec![variable],
                class: "g1".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut body = vec![0; HEAD];
        body.extend(start.encode_to_vec());
        let (object, arguments) =
            recorded().unwrap()["/wsman.WorkspaceManager/StartWorkspace"].read(&body.into());
        let all = format!("{object:?} {arguments:?}");
        assert!(all.contains("ws") && all.contains("g1") && !all.contains(secret), "{all}");
    }
}
