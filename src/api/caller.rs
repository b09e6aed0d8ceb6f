//! Who made a call, and whose workspaces it may act for. Every request behind [`super::access`] has it in its
//! extensions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Extensions, HeaderValue};
use serde::{Deserialize, Serialize};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use super::error;
use domain::names::WorkspaceId;
use federation::Error;
use federation::workspaces::queries::Queries;
use runtime::config::Clients;
use runtime::tls::{ConnectInfo, PeerIdentity, Role, roles_of, roles_of_certificate};

/// Identity of the peer of a connection. Replicas send it to each other with forwarded calls.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Who {
    /// Names in its certificate; `None` if it sent none.
    pub certificate: Option<PeerIdentity>,
    /// Its address.
    pub peer: Option<SocketAddr>,
    /// Plaintext on this machine: allowed everything.
    pub is_local: bool,
    /// TLS without a certificate, where the configuration permits that.
    pub is_anonymous: bool,
}

impl Who {
    /// Identity that a connection proves.
    pub fn of(info: &ConnectInfo) -> Self {
        let is_local = !info.encrypted && roles_of(info).contains(Role::Client);
        let is_anonymous = info.encrypted && info.peer.is_none();
        Self { certificate: info.peer.clone(), peer: info.remote_addr, is_local, is_anonymous }
    }

    /// Encodes it as a header. Names stay as they are, whatever their alphabet.
    pub fn header(&self) -> Option<HeaderValue> {
        let text = serde_json::to_vec(self).ok()?;
        HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(text)).ok()
    }

    /// Decodes a header that another replica sent.
    pub fn from_header(header: &HeaderValue) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()
    }

    /// The common name, or a substitute.
    pub fn name(&self) -> &str {
        match &self.certificate {
            Some(identity) => &identity.common_name,
            None if self.is_local => "local",
            None => "unknown",
        }
    }
}

/// Whose workspaces a caller may act for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    /// All owners; and whether it sees owner tokens.
    All { tokens: bool },
    /// These owners, each with whether it sees the owner tokens.
    Owners(Arc<BTreeMap<String, bool>>),
}

/// The caller of a call.
#[derive(Debug)]
pub struct Caller {
    pub who: Who,
    /// The replica that forwarded the call, by the name in its certificate.
    pub via: Option<String>,
    client: bool,
    admin: bool,
    scope: Scope,
    denied: OnceLock<&'static str>,
}

impl Caller {
    /// Applies the rules of this replica.
    pub fn new(who: Who, rules: &Clients) -> Self {
        let (client, admin, scope) = judge(&who, rules);
        Self { who, via: None, client, admin, scope, denied: OnceLock::new() }
    }

    /// A caller that may do nothing.
    fn nobody() -> Self {
        let scope = Scope::Owners(Arc::default());
        let who = Who::default();
        Self { who, via: None, client: false, admin: false, scope, denied: OnceLock::new() }
    }

    /// For a call that a replica of an earlier version forwards; it names only roles and common name.
    pub fn of_earlier_version(name: &str, roles: &str, rules: &Clients) -> Result<Self, Status> {
        if !rules.scopes.is_empty() {
            return Err(error::not_served(
                "the call was forwarded by a manager of an earlier version, which does not send the caller's identity",
            ));
        }
        let identity = PeerIdentity { common_name: name.to_owned(), ..PeerIdentity::default() };
        let who = Who { certificate: Some(identity), ..Who::default() };
        let (client, admin) = (roles.contains("client"), roles.contains("admin"));
        let scope = Scope::All { tokens: client };
        Ok(Self { who, via: None, client, admin, scope, denied: OnceLock::new() })
    }

    /// Whether it has a role. Replicas only forward calls and have none of their own.
    pub const fn is(&self, role: Role) -> bool {
        match role {
            Role::Client => self.client,
            Role::Admin => self.admin,
            Role::Replica => false,
        }
    }

    /// Whether it may act for all owners.
    pub const fn is_unscoped(&self) -> bool {
        matches!(self.scope, Scope::All { .. })
    }

    pub fn acts_for(&self, owner: &str) -> bool {
        match &self.scope {
            Scope::All { .. } => true,
            Scope::Owners(owners) => owners.contains_key(owner),
        }
    }

    /// Whether it sees the token of an owner's workspaces.
    pub fn sees_token_of(&self, owner: &str) -> bool {
        match &self.scope {
            Scope::All { tokens } => *tokens,
            Scope::Owners(owners) => owners.get(owner).copied().unwrap_or(false),
        }
    }

    /// The owners that it may act for; `None` means all.
    pub fn owners(&self) -> Option<Arc<BTreeSet<String>>> {
        match &self.scope {
            Scope::All { .. } => None,
            Scope::Owners(owners) => Some(Arc::new(owners.keys().cloned().collect())),
        }
    }

    /// Records for the audit log that the call was denied.
    pub fn deny(&self, why: &'static str) {
        let _ = self.denied.set(why);
    }

    pub fn denied(&self) -> Option<&'static str> {
        self.denied.get().copied()
    }

    /// Rejects a call for an owner that it may not act for. `field` names the owner.
    pub fn check_owner(&self, field: &str, owner: &str) -> Result<(), Status> {
        if self.acts_for(owner) {
            return Ok(());
        }
        self.deny("not an owner of the caller's scope");
        let rule = "the client certificate is limited to other owners; name an owner of its scope, or have an admin add this \
                    one to the scope in rpcServer.clients.scopes";
        let mut details = ErrorDetails::new();
        details.set_bad_request(vec![FieldViolation::new(field, rule)]);
        Err(Status::with_error_details(Code::PermissionDenied, format!("{field}: {rule}"), details))
    }

    /// Rejects an operation on the workspace of an owner outside the scope: to the caller it does not exist.
    pub fn check(&self, queries: &Queries, id: &WorkspaceId) -> Result<(), Status> {
        if self.is_unscoped() {
            return Ok(());
        }
        match queries.owner_of(id) {
            Some(owner) if self.acts_for(&owner) => return Ok(()),
            Some(_) => self.deny("a workspace of an owner outside the caller's scope"),
            None => {}
        }
        Err(error::status(&Error::NoWorkspace(id.clone())))
    }

    /// Rejects callers with a scope: `what`, such as image builds, names no owner.
    pub fn check_unscoped(&self, what: &str) -> Result<(), Status> {
        if self.is_unscoped() {
            return Ok(());
        }
        self.deny("the method is for callers without a scope");
        Err(Status::permission_denied(format!(
            "the client certificate is limited to owners, and {what} name none; use a certificate that no scope in \
             rpcServer.clients.scopes names",
        )))
    }
}

/// Whether it is a client, whether it is an admin, and its scope.
fn judge(who: &Who, rules: &Clients) -> (bool, bool, Scope) {
    if who.is_local {
        return (true, true, Scope::All { tokens: true });
    }
    let Some(identity) = &who.certificate else {
        return if who.is_anonymous {
            // Where clients need no certificate there are no rules either.
            (true, false, Scope::All { tokens: true })
        } else {
            // Plaintext from another machine.
            (false, false, Scope::Owners(Arc::default()))
        };
    };
    let roles = roles_of_certificate(identity);
    let is_client = rules.organization.as_ref().is_none_or(|wanted| identity.belongs_to(wanted));
    if roles.contains(Role::Admin) || roles.contains(Role::Replica) {
        return (true, roles.contains(Role::Admin), Scope::All { tokens: is_client });
    }
    let mut owners: BTreeMap<String, bool> = BTreeMap::new();
    let mut is_named = false;
    for scope in rules.scopes.iter().filter(|scope| scope.names(identity)) {
        is_named = true;
        for owner in &scope.owners {
            *owners.entry(owner.clone()).or_default() |= scope.owner_tokens;
        }
    }
    let is_client = is_client && (is_named || !rules.scoped_only);
    let scope = if is_named { Scope::Owners(Arc::new(owners)) } else { Scope::All { tokens: is_client } };
    (is_client, false, scope)
}

/// The caller of the request with these extensions.
pub fn of(extensions: &Extensions) -> Arc<Caller> {
    extensions.get::<Arc<Caller>>().cloned().unwrap_or_else(|| Arc::new(Caller::nobody()))
}

#[cfg(test)]
mod tests;
