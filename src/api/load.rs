//! Load limits: streams, and bytes of requests in flight and of responses that clients have not read.
//!
//! Runs in front of access and of every service. A request is read completely here, within a deadline and a budget, so
//! that unauthorized bytes are held nowhere else. No call waits for a limit: above it, a call ends at once with
//! RESOURCE_EXHAUSTED, which names the limit. A caller is the name in a certificate, otherwise an address ([`Caller`]).

mod answer;
mod budget;
mod caller;
mod layer;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt as _, Full as Whole};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, Opts};
use tonic::Status;
use tonic::body::Body;

pub use self::layer::LoadLayer;

use self::budget::{Budget, Full, Held, Share};
use self::caller::Caller;
use super::calls::{self, Kind};
use super::peers::{MESSAGE_MAX, deadline};
use runtime::config::{SessionCaps, StreamCaps};

/// Streams logs of member clusters; each cluster allows only a number of them at a time.
const LOGS: &str = "/spaceport.v1.WorkspaceManager/Logs";
/// Shells, copies and forwarded connections: each costs a connection to a member cluster.
const SESSIONS: [&str; 2] = ["/spaceport.v1.WorkspaceManager/Exec", "/spaceport.v1.WorkspaceManager/Forward"];
/// Logs that one caller may read at once, so that it leaves some of every cluster to others.
const LOGS_OF_CALLER: u64 = 32;
/// Bytes of all requests in flight; one caller gets half of it.
const REQUESTS: u64 = 256 * 1024 * 1024;
/// Bytes of all responses that clients have not read.
const ANSWERS: u64 = 256 * 1024 * 1024;
/// What a request costs besides its message: headers and processing.
const BASE: u64 = 16 * 1024;
/// Time for a whole request to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);
/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// Why a call is rejected here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Streams(Full),
    Logs,
    Sessions(Full),
    Request(Full),
    Answer(Full),
    Slow,
}

/// Counter of rejected calls. Clones share it.
#[derive(Debug, Clone)]
pub struct Refusals(IntCounterVec);

impl Refusals {
    const REASONS: [&str; 10] = [
        "caller_logs",
        "caller_sessions",
        "sessions",
        "caller_streams",
        "streams",
        "caller_request_bytes",
        "request_bytes",
        "caller_answer_bytes",
        "answer_bytes",
        "request_timeout",
    ];

    /// With every reason at zero.
    pub fn new() -> Result<Self, prometheus::Error> {
        let refused = Opts::new(
            "spaceport_calls_refused_total",
            "Calls rejected by a limit on concurrent load: open `streams`, `logs` being read, `sessions` of shells and forwarded ports, \
             `request_bytes` in flight, `answer_bytes` that clients have not read; with the prefix \
             `caller_`, the limit of one caller; `request_timeout`: the request did not arrive \
             within 30 s.",
        );
        let refused = IntCounterVec::new(refused, &["reason"])?;
        for reason in Self::REASONS {
            refused.with_label_values(&[reason]);
        }
        Ok(Self(refused))
    }

    fn count(&self, why: Refused) {
        let reason = match why {
            Refused::Logs => "caller_logs",
            Refused::Sessions(Full::Share) => "caller_sessions",
            Refused::Sessions(Full::Total) => "sessions",
            Refused::Streams(Full::Share) => "caller_streams",
            Refused::Streams(Full::Total) => "streams",
            Refused::Request(Full::Share) => "caller_request_bytes",
            Refused::Request(Full::Total) => "request_bytes",
            Refused::Answer(Full::Share) => "caller_answer_bytes",
            Refused::Answer(Full::Total) => "answer_bytes",
            Refused::Slow => "request_timeout",
        };
        self.0.with_label_values(&[reason]).inc();
    }
}

impl Collector for Refusals {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect()
    }
}

/// What all callers use now, and their limits.
#[derive(Debug)]
pub struct Load {
    stream_caps: StreamCaps,
    session_caps: (u64, u64),
    streams: Arc<Budget<Caller>>,
    logs: Arc<Budget<Caller>>,
    sessions: Arc<Budget<Caller>>,
    requests: Arc<Budget<Caller>>,
    answers: Arc<Budget<Caller>>,
    /// Paths of server-streaming and bidirectional methods.
    streaming: HashSet<String>,
    talking: HashSet<String>,
    refusals: Refusals,
}

impl Load {
    /// With no calls in progress.
    pub fn new(
        streams: StreamCaps,
        sessions: &SessionCaps,
        refusals: Refusals,
    ) -> Result<Arc<Self>, prost::DecodeError> {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let kinds = calls::kinds()?;
        let paths = |wanted: fn(&Kind) -> bool| {
            kinds.iter().filter(|(_, kind)| wanted(kind)).map(|(path, _)| path.clone()).collect()
        };
        let (all_sessions, own_sessions) = (count(sessions.total), count(sessions.per_caller));
        Ok(Arc::new(Self {
            stream_caps: streams,
            session_caps: (all_sessions, own_sessions),
            sessions: Budget::new(all_sessions, Share::Fixed(own_sessions)),
            streams: Budget::new(count(streams.total), Share::Fixed(count(streams.per_caller))),
            logs: Budget::new(count(streams.total), Share::Fixed(LOGS_OF_CALLER)),
            requests: Budget::new(REQUESTS, Share::AsMuchAsIsLeft),
            answers: Budget::new(ANSWERS, Share::AsMuchAsIsLeft),
            streaming: paths(|kind| kind.answers),
            talking: paths(|kind| kind.requests),
            refusals,
        }))
    }

    fn refuse(&self, why: Refused) -> Status {
        self.refusals.count(why);
        let StreamCaps { total, per_caller } = self.stream_caps;
        let mebibytes = |bytes: u64| bytes / (1024 * 1024);
        Status::resource_exhausted(match why {
            Refused::Logs => {
                format!("this caller reads {LOGS_OF_CALLER} logs, as many as one may at a time")
            }
            Refused::Sessions(Full::Share) => {
                let most = self.session_caps.1;
                format!(
                    "this caller has {most} shells and forwarded connections open, as many as one may have"
                )
            }
            Refused::Sessions(Full::Total) => {
                let most = self.session_caps.0;
                format!("{most} shells and forwarded connections are open, as many as there may be in all")
            }
            Refused::Streams(Full::Share) => {
                format!("this caller has {per_caller} streams open, as many as one may have")
            }
            Refused::Streams(Full::Total) => {
                format!("{total} streams are open, as many as there may be in all")
            }
            Refused::Request(Full::Share) => {
                let most = mebibytes(REQUESTS / 2);
                format!(
                    "this caller has too many bytes of requests in flight: its share is at most {most} MiB"
                )
            }
            Refused::Request(Full::Total) => {
                format!(
                    "{} MiB of requests are in flight, as many as there may be in all",
                    mebibytes(REQUESTS)
                )
            }
            Refused::Answer(Full::Share) => {
                let most = mebibytes(ANSWERS / 2);
                format!(
                    "this caller leaves too many bytes of answers unread: its share is at most {most} MiB"
                )
            }
            Refused::Answer(Full::Total) => {
                let most = mebibytes(ANSWERS);
                format!("{most} MiB of answers are not read yet, as many as there may be in all")
            }
            Refused::Slow => {
                return Status::deadline_exceeded(format!("the request did not arrive within {ARRIVAL:?}"));
            }
        })
    }

    /// Reads the whole request and accounts for its call.
    async fn admit(self: &Arc<Self>, request: Request<Body>) -> Result<(Request<Body>, Account), Status> {
        let (caller, path) = (Caller::of(&request), request.uri().path());
        let mut account = Account {
            stream: self.streams.hold(caller.clone()),
            log: self.logs.hold(caller.clone()),
            session: self.sessions.hold(caller.clone()),
            request: self.requests.hold(caller.clone()),
            answer: self.answers.hold(caller),
            load: Arc::clone(self),
        };
        if self.streaming.contains(path) {
            account.stream.grow(1).map_err(|full| self.refuse(Refused::Streams(full)))?;
        }
        if path == LOGS {
            account.log.grow(1).map_err(|_| self.refuse(Refused::Logs))?;
        }
        if SESSIONS.contains(&path) {
            account.session.grow(1).map_err(|full| self.refuse(Refused::Sessions(full)))?;
        }
        account.receiving(BASE)?;
        if self.talking.contains(path) {
            return Ok((request, account));
        }
        let (parts, body) = request.into_parts();
        let within = deadline(&parts.headers).map_or(ARRIVAL, |deadline| deadline.min(ARRIVAL));
        let read = tokio::time::timeout(within, read(body, &mut account)).await;
        let body = read.map_err(|_| self.refuse(Refused::Slow))??;
        Ok((Request::from_parts(parts, Body::new(Whole::new(body))), account))
    }
}

async fn read(mut body: Body, account: &mut Account) -> Result<Bytes, Status> {
    let (mut first, mut all) = (None::<Bytes>, BytesMut::new());
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        length += data.remaining();
        if length > MESSAGE_MAX + HEAD {
            return Err(Status::resource_exhausted("the request is larger than 16 MiB"));
        }
        account.receiving(u64::try_from(data.remaining()).unwrap_or(u64::MAX))?;
        // Most requests come in one piece, which is not copied.
        match first.take() {
            None if all.is_empty() => first = Some(data),
            Some(before) => {
                all.extend_from_slice(&before);
                all.extend_from_slice(&data);
            }
            None => all.extend_from_slice(&data),
        }
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}

/// What one call holds until it ends.
#[derive(Debug)]
struct Account {
    stream: Held<Caller>,
    log: Held<Caller>,
    session: Held<Caller>,
    request: Held<Caller>,
    answer: Held<Caller>,
    load: Arc<Load>,
}

impl Account {
    fn receiving(&mut self, bytes: u64) -> Result<(), Status> {
        self.request.grow(bytes).map_err(|full| self.load.refuse(Refused::Request(full)))
    }

    /// The response has begun: the request is not needed any more.
    fn answered(&mut self) {
        self.request.release();
    }

    fn sending(&mut self, bytes: usize) -> Result<(), Status> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.answer.grow(bytes).map_err(|full| self.load.refuse(Refused::Answer(full)))
    }

    fn sent(&mut self) {
        self.answer.release();
    }
}

#[cfg(test)]
mod tests;
