//! `Exec` and `Forward` of `spaceport.v1.WorkspaceManager`: parse, open, convert. The audit log has the kind of a session
//! and its workspace, never what is run, sent or received.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use serde_json::{Map, Value};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::access::Access;
use super::audit::Note;
use super::caller::{self, Caller};
use super::{error, parse};
use domain::names::WorkspaceId;
use federation::Workspaces;
use federation::workspaces::changes::Changes;
use federation::workspaces::queries::Queries;
use federation::workspaces::sessions::{
    self, Event, Events, Gone, Limits, MarkActive, Requests, Sessions, Terms,
};
use proto::spaceport::v1::exec_request::Request as ExecMessage;
use proto::spaceport::v1::exec_response::Response as ExecAnswer;
use proto::spaceport::v1::forward_request::Request as ForwardMessage;
use proto::spaceport::v1::{self, ExecRequest, ExecResponse, ForwardRequest, ForwardResponse};
use proto::wsman::MarkActiveRequest;
use runtime::config::SessionCaps;

/// A request of these services, at most: a piece of input, or the arguments of a command.
pub const MESSAGE_MAX: usize = 128 * 1024;
/// Until the first request.
const FIRST: Duration = Duration::from_secs(10);
const MARK_ACTIVE: &str = "/wsman.WorkspaceManager/MarkActive";

/// Responses of `Exec`.
pub type Outputs = Pin<Box<dyn Stream<Item = Result<ExecResponse, Status>> + Send>>;
/// Responses of `Forward`.
pub type Connected = Pin<Box<dyn Stream<Item = Result<ForwardResponse, Status>> + Send>>;

/// Opens sessions for callers.
#[derive(Clone)]
pub struct Entering {
    queries: Arc<Queries>,
    changes: Arc<Changes>,
    sessions: Arc<Sessions>,
    access: Arc<Access>,
    limits: Limits,
    shutdown: CancellationToken,
}

impl Entering {
    /// Activity is recorded through `access`, by the leader. Sessions end when `shutdown` is cancelled.
    pub fn new(of: &Workspaces, access: Arc<Access>, caps: SessionCaps, shutdown: CancellationToken) -> Self {
        Self {
            queries: Arc::clone(&of.queries),
            changes: Arc::clone(&of.changes),
            sessions: Arc::clone(&of.sessions),
            access,
            limits: Limits { idle: caps.idle, longest: caps.longest },
            shutdown,
        }
    }

    pub async fn exec(&self, request: Request<Streaming<ExecRequest>>) -> Result<Response<Outputs>, Status> {
        let (caller, note) = from(&request);
        let mut requests = request.into_inner();
        let Some(ExecMessage::Start(start)) = first(&mut requests).await?.request else {
            return Err(Status::invalid_argument("the first request must be start"));
        };
        let started = parse::exec(start)?;
        let (id, terminal) = (started.id, started.terminal);
        let facts = [("kind", Value::from(started.kind)), ("terminal", terminal.is_some().into())];
        self.admit(&caller, note.as_ref(), &id, facts)?;
        let requests: Requests = exec_requests(requests);
        let terms = self.terms(&caller);
        let events = self.sessions.exec(&id, &started.run, terminal.as_ref(), requests, terms).await;
        let events = events.map_err(|error| error::status(&error))?;
        Ok(Response::new(Box::pin(answers(events, |event| {
            let answer = match event {
                Event::Out(bytes) => ExecAnswer::Stdout(bytes.into()),
                Event::Err(bytes) => ExecAnswer::Stderr(bytes.into()),
                Event::Exit(code) => ExecAnswer::Exit(v1::ExecExit { code }),
                Event::Failed(failed) => return Err(error::status(&failed)),
            };
            Ok(ExecResponse { response: Some(answer) })
        }))))
    }

    pub async fn forward(
        &self,
        request: Request<Streaming<ForwardRequest>>,
    ) -> Result<Response<Connected>, Status> {
        let (caller, note) = from(&request);
        let mut requests = request.into_inner();
        let Some(ForwardMessage::Start(start)) = first(&mut requests).await?.request else {
            return Err(Status::invalid_argument("the first request must be start"));
        };
        let (id, port) = parse::forward(&start)?;
        self.admit(&caller, note.as_ref(), &id, [("kind", "forward".into()), ("port", port.into())])?;
        let requests: Requests = forward_requests(requests);
        let events = self.sessions.forward(&id, port, requests, self.terms(&caller)).await;
        let events = events.map_err(|error| error::status(&error))?;
        Ok(Response::new(Box::pin(answers(events, |event| match event {
            Event::Out(bytes) | Event::Err(bytes) => Ok(ForwardResponse { data: bytes.into() }),
            Event::Exit(_) => Ok(ForwardResponse::default()),
            Event::Failed(failed) => Err(error::status(&failed)),
        }))))
    }

    /// Records what is opened, and checks that the caller may.
    fn admit<const N: usize>(
        &self,
        caller: &Caller,
        note: Option<&Note>,
        id: &WorkspaceId,
        facts: [(&str, Value); N],
    ) -> Result<(), Status> {
        if let Some(note) = note {
            let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value));
            note.concerns(id, facts.collect::<Map<_, _>>());
        }
        caller.check(&self.queries, id)
    }

    fn terms(&self, caller: &Arc<Caller>) -> Terms {
        Terms {
            limits: self.limits,
            mark_active: self.mark_active(Arc::clone(caller)),
            closing: self.shutdown.clone(),
        }
    }

    /// Marks a workspace active as its caller would: at the leader, which alone writes.
    fn mark_active(&self, caller: Arc<Caller>) -> MarkActive {
        let (access, changes) = (Arc::clone(&self.access), Arc::clone(&self.changes));
        Arc::new(move |id| {
            let (access, changes, caller) = (Arc::clone(&access), Arc::clone(&changes), Arc::clone(&caller));
            Box::pin(async move {
                let request = MarkActiveRequest { id: id.to_string(), ..MarkActiveRequest::default() };
                let status = match access.at_leader(MARK_ACTIVE, &request, &caller).await {
                    Some(status) => status,
                    None => match changes.mark_active(&id, false, false).await {
                        Ok(()) => return,
                        Err(error) => error::status(&error),
                    },
                };
                if status.code() != tonic::Code::Ok {
                    // A workspace that stops cannot be marked; the next bytes try again.
                    tracing::debug!(workspace = %id, code = ?status.code(), "failed to record the activity of a session");
                }
            })
        })
    }
}

fn from<T>(request: &Request<T>) -> (Arc<Caller>, Option<Note>) {
    (caller::of(request.extensions()), request.extensions().get::<Note>().cloned())
}

async fn first<M>(requests: &mut Streaming<M>) -> Result<M, Status> {
    match timeout(FIRST, requests.message()).await {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) => Err(Status::invalid_argument("the first request must be start")),
        Ok(Err(status)) => Err(status),
        Err(_) => {
            Err(Status::deadline_exceeded(format!("the first request did not arrive within {FIRST:?}")))
        }
    }
}

/// A malformed request ends the session as its client's end does: there is no client that would send one.
fn exec_requests(requests: Streaming<ExecRequest>) -> Requests {
    let requests = requests.map(|request| match request.ok().and_then(|request| request.request) {
        Some(ExecMessage::Stdin(bytes)) => piece(bytes),
        Some(ExecMessage::Resize(size)) => parse::size(size).map(sessions::Request::Resize).ok_or(Gone),
        Some(ExecMessage::Start(_)) | None => Err(Gone),
    });
    requests.boxed()
}

fn forward_requests(requests: Streaming<ForwardRequest>) -> Requests {
    let requests = requests.map(|request| match request.ok().and_then(|request| request.request) {
        Some(ForwardMessage::Data(bytes)) => piece(bytes),
        Some(ForwardMessage::Start(_)) | None => Err(Gone),
    });
    requests.boxed()
}

fn piece(bytes: Vec<u8>) -> Result<sessions::Request, Gone> {
    Some(bytes)
        .filter(|bytes| bytes.len() <= parse::PIECE_MAX)
        .map(Bytes::from)
        .map(sessions::Request::Bytes)
        .ok_or(Gone)
}

/// Events as responses, until the last.
fn answers<T>(
    events: Events,
    convert: impl Fn(Event) -> Result<T, Status> + Send + 'static,
) -> impl Stream<Item = Result<T, Status>> + Send {
    futures::stream::unfold(events, |mut events| async {
        let event = events.recv().await?;
        Some((event, events))
    })
    .map(convert)
}
