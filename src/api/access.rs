//! Authorization of calls, and forwarding of writes to the leader.
//!
//! One layer in front of all services. A standby forwards a write to the leader without decoding it and sends the
//! caller in headers; these headers count only on a connection with a replica's certificate. While there is no leader,
//! a bounded number of writes waits for one, for at most 12 s.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use prost::Message;
use tokio::sync::{Semaphore, watch};
use tonic::Status;
use tonic::body::Body;

use super::audit::Note;
use super::caller::{Caller, Who};
use super::calls::PassedOn;
use super::gate::Gate;
use super::peers::{self, Peers};
use federation::Lead;
use runtime::config::Clients;
use runtime::tls::{ConnectInfo, Role, roles_of};

/// Header that a replica sets on a call that it forwards: the roles of the caller.
const CALLER_ROLES: &str = "x-spaceport-caller-roles";
/// Header with the caller's name, percent-encoded beyond ASCII. For replicas of earlier versions and for people.
const CALLER_NAME: &str = "x-spaceport-caller-name";
/// What is encoded in that name besides characters that are not ASCII.
const NOT_SHOWN: &AsciiSet = &CONTROLS.add(b'%');
/// Header with the whole identity of the caller ([`Who`]). All three headers count only if a replica sent them.
const CALLER: &str = "x-spaceport-caller";
/// How long a write waits for a leader, unless the caller's deadline is shorter.
const LEADER_WAIT: Duration = Duration::from_secs(12);
/// Writes that may wait for a leader at once; further ones get UNAVAILABLE.
const WAITING_MOST: usize = 4096;

/// Methods that only the leader may serve.
pub(super) const WRITES: [&str; 24] = [
    "/wsman.WorkspaceManager/StartWorkspace",
    "/wsman.WorkspaceManager/StopWorkspace",
    "/wsman.WorkspaceManager/MarkActive",
    "/wsman.WorkspaceManager/SetTimeout",
    "/wsman.WorkspaceManager/ControlPort",
    "/wsman.WorkspaceManager/ControlAdmission",
    "/wsman.WorkspaceManager/TakeSnapshot",
    "/wsman.WorkspaceManager/UpdateSSHKey",
    "/spaceport.v1.ClusterManager/Register",
    "/spaceport.v1.ClusterManager/Deregister",
    "/spaceport.v1.ClusterManager/Cordon",
    "/spaceport.v1.ClusterManager/Uncordon",
    "/spaceport.v1.ClusterManager/SetMaintenance",
    "/spaceport.v1.ClusterManager/OpenIncarnation",
    "/spaceport.v1.ClusterManager/RotateSecret",
    "/spaceport.v1.ClusterManager/Update",
    "/spaceport.v1.ClusterManager/Install",
    "/spaceport.v1.ClusterManager/StartDrain",
    "/spaceport.v1.ClusterManager/ChangeDrain",
    "/spaceport.v1.ClusterManager/Adopt",
    "/spaceport.v1.ClusterManager/Discard",
    "/spaceport.v1.ClusterManager/Forget",
    "/workspacemanagerbridge.ClusterService/Update",
    "/workspacemanagerbridge.ClusterService/Deregister",
];

/// Authorizes every request; see the module.
#[derive(Debug)]
pub struct Access {
    lead: watch::Receiver<Lead>,
    peers: Peers,
    rules: Clients,
    waiting: Semaphore,
}

impl Access {
    /// `peers` connects to other replicas, `rules` say which clients are let in and which owners they may act for.
    pub fn new(lead: watch::Receiver<Lead>, peers: Peers, rules: Clients) -> Arc<Self> {
        Arc::new(Self { lead, peers, rules, waiting: Semaphore::new(WAITING_MOST) })
    }

    /// The role that a method needs; none for health and reflection.
    fn needed(path: &str) -> Option<Role> {
        let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        match service {
            "spaceport.v1.ClusterManager" | "workspacemanagerbridge.ClusterService" => Some(Role::Admin),
            service if service.starts_with("grpc.") => None,
            _ => Some(Role::Client),
        }
    }

    /// The caller: the peer of the connection, or the caller that a forwarding replica names.
    fn identify(&self, request: &Request<Body>) -> Result<Caller, Status> {
        let Some(info) = request.extensions().get::<ConnectInfo>() else {
            return Err(Status::unauthenticated("a client certificate is required"));
        };
        let text = |header| request.headers().get(header).and_then(|value| value.to_str().ok());
        let is_replica = info.encrypted && roles_of(info).contains(Role::Replica);
        let Some(roles) = text(CALLER_ROLES).filter(|_| is_replica) else {
            return Ok(Caller::new(Who::of(info), &self.rules));
        };
        let mut caller = match request.headers().get(CALLER) {
            Some(header) => {
                let who = Who::from_header(header).ok_or_else(|| {
                    Status::internal("a replica forwarded a call without a readable caller")
                })?;
                Caller::new(who, &self.rules)
            }
            None => Caller::of_earlier_version(text(CALLER_NAME).unwrap_or("unknown"), roles, &self.rules)?,
        };
        caller.via = Some(Who::of(info).name().to_owned());
        Ok(caller)
    }

    /// Checks that the caller has the role that a method needs.
    fn admit(caller: &Caller, path: &str) -> Result<(), Status> {
        let allowed = Self::needed(path).is_none_or(|role| caller.is(role));
        if allowed {
            return Ok(());
        }
        if !caller.is(Role::Client) {
            caller.deny("no certificate of a client");
            return Err(Status::unauthenticated(if caller.who.certificate.is_some() {
                "the client certificate is not one of those that rpcServer.clients lets in"
            } else {
                "a client certificate is required"
            }));
        }
        caller.deny("needs the role admin");
        Err(Status::permission_denied(
            "the method needs the role admin: a client certificate of organization spaceport:admin",
        ))
    }

    /// Forwards a write to the leader; returns `None` if this replica is the leader.
    async fn lead_or_pass_on(
        &self,
        mut request: Request<Body>,
        caller: &Caller,
    ) -> Result<Request<Body>, Response<Body>> {
        if matches!(*self.lead.borrow(), Lead::Us) {
            return Ok(request);
        }
        if request.headers().contains_key(CALLER_ROLES) {
            // It was forwarded once already. The sender has learned of a newer leader, or is about to.
            return self.await_own_lead(request).await;
        }
        let Ok(_turn) = self.waiting.try_acquire() else {
            return Err(not_served("too many calls wait for a leader"));
        };
        let patience = peers::deadline(request.headers()).map_or(LEADER_WAIT, |d| d.min(LEADER_WAIT));
        let give_up = tokio::time::Instant::now() + patience;
        name_caller(&mut request, caller);
        let roles = HeaderValue::from_static(if caller.is(Role::Admin) { "client,admin" } else { "client" });
        let mut held = match peers::Held::of(request, roles, CALLER_ROLES).await {
            Ok(held) => held,
            Err(status) => return Err(status.into_http()),
        };
        let mut lead = self.lead.clone();
        let mut unsent = None;
        loop {
            let current = lead.borrow_and_update().clone();
            match current {
                Lead::Us => return Ok(held.into_own()),
                Lead::Other { address, .. } => match self.peers.send(&address, held).await {
                    Ok(mut response) => {
                        response.extensions_mut().insert(PassedOn);
                        return Err(response);
                    }
                    Err(peers::Failed::Unsent(back, reason)) => {
                        held = *back;
                        unsent = Some(format!("cannot connect to the leader at {address}: {reason}"));
                    }
                    Err(peers::Failed::Ambiguous(reason)) => {
                        let open = "what was asked for may or may not have happened";
                        return Err(unavailable(&format!("the leader did not answer: {reason}; {open}")));
                    }
                    Err(peers::Failed::Unusable(reason)) => {
                        tracing::warn!(reason, "cannot forward calls to the leader");
                        return Err(not_served(&format!("cannot forward the call to the leader: {reason}")));
                    }
                },
                Lead::Nobody => {}
            }
            // A leader that refuses connections may restart without losing its lease: retry it, too.
            let pause = tokio::time::sleep(Duration::from_millis(250));
            tokio::select! {
                changed = lead.changed() => if changed.is_err() {
                    return Err(not_served("this replica is shutting down"));
                },
                () = pause => {}
            }
            if tokio::time::Instant::now() >= give_up {
                let unsent =
                    unsent.inspect(|reason| tracing::warn!(reason, "failed to forward a call to the leader"));
                return Err(not_served(unsent.as_deref().unwrap_or("there is no leader at the moment")));
            }
        }
    }

    /// Makes a call of a client at the leader. `None` if that is this replica: then the caller does it itself.
    pub async fn at_leader<M: Message>(
        &self,
        path: &'static str,
        message: &M,
        caller: &Caller,
    ) -> Option<Status> {
        let content = message.encode_to_vec();
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
        let framed = [[0].as_slice(), &length, &content].concat();
        let request = Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .header(http::header::TE, "trailers")
            .body(Body::new(Full::new(Bytes::from(framed))));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Some(Status::internal(error.to_string())),
        };
        let response = self.lead_or_pass_on(request, caller).await.err()?;
        let in_headers = Status::from_header_map(response.headers());
        let trailers = match in_headers {
            Some(status) => return Some(status),
            None => response.into_body().collect().await,
        };
        let status = trailers.ok().and_then(|whole| whole.trailers().and_then(Status::from_header_map));
        Some(status.unwrap_or_else(|| Status::unknown("the leader gave no status")))
    }

    async fn await_own_lead(&self, request: Request<Body>) -> Result<Request<Body>, Response<Body>> {
        let mut lead = self.lead.clone();
        let waited =
            tokio::time::timeout(Duration::from_secs(2), lead.wait_for(|lead| matches!(lead, Lead::Us)));
        match waited.await {
            Ok(Ok(_)) => Ok(request),
            _ => Err(not_served("this replica is not the leader")),
        }
    }
}

/// Name of the caller of a forwarded call, from its headers.
pub(super) fn passed_on_for(headers: &http::HeaderMap) -> Option<String> {
    headers.get(CALLER_ROLES)?;
    Some(String::from_utf8_lossy(headers.get(CALLER_NAME)?.as_bytes()).into_owned())
}

/// Names the caller for the leader; overwrites whatever the caller sent in these headers.
fn name_caller(request: &mut Request<Body>, caller: &Caller) {
    let headers = request.headers_mut();
    headers.remove(CALLER);
    if let Some(who) = caller.who.header() {
        headers.insert(CALLER, who);
    }
    let name = utf8_percent_encode(caller.who.name(), NOT_SHOWN).to_string();
    let name = HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("unknown"));
    headers.insert(CALLER_NAME, name);
}

/// The call may have been served.
fn unavailable(message: &str) -> Response<Body> {
    super::error::unavailable(message).into_http()
}

/// The call was certainly not served.
fn not_served(message: &str) -> Response<Body> {
    super::error::not_served(message).into_http()
}

impl Gate for Access {
    async fn pass(self: Arc<Self>, mut request: Request<Body>) -> Result<Request<Body>, Response<Body>> {
        let caller = Arc::new(self.identify(&request).map_err(Status::into_http)?);
        if let Some(note) = request.extensions().get::<Note>() {
            note.made_by(Arc::clone(&caller));
        }
        Self::admit(&caller, request.uri().path()).map_err(Status::into_http)?;
        request.extensions_mut().insert(Arc::clone(&caller));
        if !WRITES.contains(&request.uri().path()) {
            return Ok(request);
        }
        self.lead_or_pass_on(request, &caller).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::tls::{Lifetime, PeerIdentity, Transport};

    fn access() -> Arc<Access> {
        let (_, lead) = watch::channel(Lead::Nobody);
        Access::new(lead, Peers::new(Some(Transport::Plaintext)), Clients::default())
    }

    fn request(
        encrypted: bool,
        organizations: &[&str],
        headers: &[(&'static str, HeaderValue)],
    ) -> Request<Body> {
        let peer = encrypted.then(|| PeerIdentity {
            common_name: "replica-1".to_owned(),
            organizations: organizations.iter().map(|name| (*name).to_owned()).collect(),
            names: Vec::new(),
        });
        let remote_addr = Some("10.0.0.1:9".parse().unwrap());
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(ConnectInfo {
            remote_addr,
            encrypted,
            peer,
            lifetime: Lifetime::default(),
        });
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.clone());
        }
        request
    }

    fn caller_headers(name: &str) -> Vec<(&'static str, HeaderValue)> {
        let identity = PeerIdentity {
            common_name: name.to_owned(),
            organizations: vec!["spaceport:admin".to_owned()],
            names: Vec::new(),
        };
        let who = Who { certificate: Some(identity), ..Who::default() };
        vec![(CALLER_ROLES, HeaderValue::from_static("client,admin")), (CALLER, who.header().unwrap())]
    }

    /// Code, reason and message of what a standby answers to a write within the caller's deadline.
    async fn answered(lead: Lead) -> (tonic::Code, Option<String>, String) {
        let (_sender, lead) = watch::channel(lead);
        let access = Access::new(lead, Peers::new(Some(Transport::Plaintext)), Clients::default());
        let mut write = request(true, &[], &[]);
        write.headers_mut().insert("grpc-timeout", HeaderValue::from_static("300m"));
        let caller = access.identify(&write).unwrap();
        let refused = access.lead_or_pass_on(write, &caller).await.unwrap_err();
        let status = Status::from_header_map(refused.headers()).unwrap();
        let details = tonic_types::StatusExt::get_details_error_info(&status);
        (status.code(), details.map(|info| info.reason), status.message().to_owned())
    }

    #[tokio::test]
    async fn a_write_that_reached_no_leader_says_that_nothing_was_changed() {
        let (code, reason, message) = answered(Lead::Nobody).await;
        assert_eq!((code, reason.as_deref()), (tonic::Code::Unavailable, Some("NOT_SERVED")));
        assert_eq!(message, "there is no leader at the moment; nothing was changed");
        let at = |address: &str| Lead::Other { replica: "r".to_owned(), address: address.to_owned() };
        // Nobody listens at this port.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (_, reason, message) = answered(at(&format!("http://{free}"))).await;
        assert_eq!(reason.as_deref(), Some("NOT_SERVED"), "{message}");
        let (_, reason, _) = answered(at("https://elsewhere")).await;
        assert_eq!(reason.as_deref(), Some("NOT_SERVED"));
    }

    #[tokio::test]
    async fn a_write_that_a_leader_may_have_got_says_that_it_may_have_happened() {
        // A leader that accepts the connection and never answers.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", silent.local_addr().unwrap());
        let (code, reason, message) = answered(Lead::Other { replica: "r".to_owned(), address }).await;
        assert_eq!((code, reason), (tonic::Code::Unavailable, None));
        assert!(message.contains("may or may not have happened"), "{message}");
    }

    #[test]
    fn only_a_replica_can_name_another_caller() {
        let access = access();
        let passed_on =
            access.identify(&request(true, &["spaceport:replica"], &caller_headers("Žofie"))).unwrap();
        assert_eq!((passed_on.who.name(), passed_on.via.as_deref()), ("Žofie", Some("replica-1")));
        assert!(passed_on.is(Role::Admin));
        let forged = access.identify(&request(true, &["staff"], &caller_headers("boss"))).unwrap();
        assert_eq!((forged.who.name(), &forged.via), ("replica-1", &None));
        assert!(!forged.is(Role::Admin));
        let plain = access.identify(&request(false, &[], &caller_headers("boss"))).unwrap();
        assert!(!plain.is(Role::Client), "plaintext from elsewhere");
        let own = access.identify(&request(true, &["spaceport:replica"], &[])).unwrap();
        assert!(own.is(Role::Client) && !own.is(Role::Admin));
    }

    #[test]
    fn caller_headers_of_a_client_are_replaced_before_forwarding() {
        let access = access();
        let mut forged = request(true, &["staff"], &caller_headers("boss"));
        let caller = access.identify(&forged).unwrap();
        name_caller(&mut forged, &caller);
        let who = Who::from_header(&forged.headers()[CALLER]).unwrap();
        assert_eq!((who.name(), forged.headers()[CALLER_NAME].to_str().unwrap()), ("replica-1", "replica-1"));
    }

    #[test]
    fn a_name_beyond_ascii_goes_into_a_header_without_loss() {
        let identity = PeerIdentity { common_name: "Žo 1%\n".to_owned(), ..PeerIdentity::default() };
        let who = Who { certificate: Some(identity), ..Who::default() };
        let mut request = Request::new(Body::empty());
        name_caller(&mut request, &Caller::new(who, &Clients::default()));
        assert_eq!(request.headers()[CALLER_NAME].to_str().unwrap(), "%C5%BDo 1%25%0A");
    }
}
