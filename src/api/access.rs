//! The way in: who may call what, and that writes reach the leader.
//!
//! One layer before all services. A replica that does not lead passes a write on as it came, without decoding it, and
//! names the caller's roles; only a replica's certificate is believed on that. While nobody leads, writes wait for a
//! leader for a short, bounded time and in a bounded number.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use tokio::sync::{Semaphore, watch};
use tonic::Status;
use tonic::body::Body;

use super::calls::PassedOn;
use super::gate::Gate;
use super::peers::{self, Peers};
use crate::federation::Lead;
use crate::runtime::tls::{ConnectInfo, Role, roles_of};

/// Header with which a replica names the roles of the caller it passes on.
const CALLER_ROLES: &str = "x-spaceport-caller-roles";
/// Header with the name of the caller; set here, and taken over from a replica only.
const CALLER_NAME: &str = "x-spaceport-caller-name";
/// How long a write waits for a leader where the caller gives no shorter deadline.
const LEADER_WAIT: Duration = Duration::from_secs(12);
/// Writes that wait for a leader at once; more are refused with UNAVAILABLE.
const WAITING_MOST: usize = 4096;

/// Methods that only the leader may serve.
const WRITES: [&str; 23] = [
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

/// What every request passes.
#[derive(Debug)]
pub struct Access {
    lead: watch::Receiver<Lead>,
    peers: Peers,
    waiting: Semaphore,
}

impl Access {
    /// `peers` connects to other replicas.
    pub fn new(lead: watch::Receiver<Lead>, peers: Peers) -> Arc<Self> {
        Arc::new(Self { lead, peers, waiting: Semaphore::new(WAITING_MOST) })
    }

    /// The role a method needs; none for health and reflection.
    fn needed(path: &str) -> Option<Role> {
        let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        match service {
            "spaceport.v1.ClusterManager" | "workspacemanagerbridge.ClusterService" => Some(Role::Admin),
            service if service.starts_with("grpc.") => None,
            _ => Some(Role::Client),
        }
    }

    /// Checks the caller; the roles it has, for passing on.
    fn admit(request: &Request<Body>) -> Result<String, Status> {
        let info = request.extensions().get::<ConnectInfo>();
        let roles = info.map(roles_of).unwrap_or_default();
        let passed_on = request.headers().get(CALLER_ROLES).filter(|_| roles.contains(Role::Replica));
        let (client, admin) = match passed_on.and_then(|header| header.to_str().ok()) {
            Some(named) => (named.contains("client"), named.contains("admin")),
            None => (roles.contains(Role::Client), roles.contains(Role::Admin)),
        };
        let allowed = match Self::needed(request.uri().path()) {
            None => true,
            Some(Role::Admin) => admin,
            Some(Role::Client | Role::Replica) => client,
        };
        if !allowed && !client {
            return Err(Status::unauthenticated("a client certificate is required"));
        }
        if !allowed {
            return Err(Status::permission_denied(
                "the method needs the role admin: a client certificate of organization spaceport:admin",
            ));
        }
        Ok(if admin { "client,admin" } else { "client" }.to_owned())
    }

    /// Sends a write to whoever leads, or answers `None` where this replica does.
    async fn lead_or_pass_on(
        &self,
        request: Request<Body>,
        roles: String,
    ) -> Result<Request<Body>, Response<Body>> {
        if matches!(*self.lead.borrow(), Lead::Us) {
            return Ok(request);
        }
        if request.headers().contains_key(CALLER_ROLES) {
            // Passed on once already: whoever did so learned of a newer leader or will.
            return self.await_own_lead(request).await;
        }
        let Ok(_turn) = self.waiting.try_acquire() else {
            return Err(unavailable("too many calls wait for a leader"));
        };
        let patience = peers::deadline(request.headers()).map_or(LEADER_WAIT, |d| d.min(LEADER_WAIT));
        let give_up = tokio::time::Instant::now() + patience;
        let mut held = match peers::Held::of(request, HeaderValue::from_str(&roles), CALLER_ROLES).await {
            Ok(held) => held,
            Err(status) => return Err(status.into_http()),
        };
        let mut lead = self.lead.clone();
        loop {
            let current = lead.borrow_and_update().clone();
            match current {
                Lead::Us => return Ok(held.into_own()),
                Lead::Other { address, .. } => match self.peers.send(&address, held).await {
                    Ok(mut response) => {
                        response.extensions_mut().insert(PassedOn);
                        return Err(response);
                    }
                    Err(peers::Failed::Unsent(back)) => held = *back,
                    Err(peers::Failed::Ambiguous(reason)) => {
                        return Err(unavailable(&format!("the leader did not answer: {reason}")));
                    }
                },
                Lead::Nobody => {}
            }
            // A leader that refuses connections is not replaced at once: try it again in a while, too.
            let pause = tokio::time::sleep(Duration::from_millis(250));
            tokio::select! {
                changed = lead.changed() => if changed.is_err() {
                    return Err(unavailable("this replica shuts down"));
                },
                () = pause => {}
            }
            if tokio::time::Instant::now() >= give_up {
                return Err(unavailable("nobody leads at the moment"));
            }
        }
    }

    async fn await_own_lead(&self, request: Request<Body>) -> Result<Request<Body>, Response<Body>> {
        let mut lead = self.lead.clone();
        let waited =
            tokio::time::timeout(Duration::from_secs(2), lead.wait_for(|lead| matches!(lead, Lead::Us)));
        match waited.await {
            Ok(Ok(_)) => Ok(request),
            _ => Err(unavailable("this replica does not lead")),
        }
    }
}

/// Who called, for audits: the common name of its certificate.
pub(super) fn caller(metadata: &tonic::metadata::MetadataMap) -> String {
    metadata.get(CALLER_NAME).and_then(|name| name.to_str().ok()).unwrap_or("unknown").to_owned()
}

/// Names the caller, whatever it calls itself.
fn name_caller(request: &mut Request<Body>) {
    let info = request.extensions().get::<ConnectInfo>();
    if info.is_some_and(|info| info.encrypted && roles_of(info).contains(Role::Replica))
        && request.headers().contains_key(CALLER_ROLES)
        && request.headers().contains_key(CALLER_NAME)
    {
        return;
    }
    let name = match info {
        Some(ConnectInfo { peer: Some(peer), .. }) => HeaderValue::from_str(&peer.common_name).ok(),
        Some(ConnectInfo { encrypted: false, .. }) => Some(HeaderValue::from_static("local")),
        _ => None,
    };
    let name = name.unwrap_or(HeaderValue::from_static("unknown"));
    request.headers_mut().insert(CALLER_NAME, name);
}

fn unavailable(message: &str) -> Response<Body> {
    super::error::unavailable(message).into_http()
}

impl Gate for Access {
    async fn pass(self: Arc<Self>, mut request: Request<Body>) -> Result<Request<Body>, Response<Body>> {
        let roles = Self::admit(&request).map_err(Status::into_http)?;
        name_caller(&mut request);
        if !WRITES.contains(&request.uri().path()) {
            return Ok(request);
        }
        self.lead_or_pass_on(request, roles).await
    }
}
