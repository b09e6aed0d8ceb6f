//! `rpcServer.clients`: which certificates may use workspaces, and of which owners.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::reader::{Group, Report};
use crate::tls::PeerIdentity;

/// `rpcServer.clients`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clients {
    /// The organization that a client certificate must have.
    pub organization: Option<String>,
    /// Whether certificates without a scope are rejected.
    pub scoped_only: bool,
    /// Scopes, which restrict certificates to owners.
    pub scopes: Vec<Scope>,
}

/// Restricts certificates to owners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    common_name: Option<String>,
    organization: Option<String>,
    alternative_name: Option<String>,
    /// Owners whose workspaces they may use; at least one.
    pub owners: BTreeSet<String>,
    /// Whether responses contain owner tokens.
    pub owner_tokens: bool,
}

impl Scope {
    /// Whether the certificate has all attributes of the scope.
    pub fn names(&self, identity: &PeerIdentity) -> bool {
        let has = |wanted: &Option<String>, has: &dyn Fn(&str) -> bool| {
            wanted.as_ref().is_none_or(|wanted| has(wanted))
        };
        has(&self.common_name, &|name| identity.common_name == name)
            && has(&self.organization, &|name| identity.belongs_to(name))
            && has(&self.alternative_name, &|name| identity.names.iter().any(|known| known == name))
    }
}

impl Clients {
    /// Parses rules without a configuration; `None` if they are invalid.
    pub fn of_rules(rules: &Value) -> Option<Self> {
        let report = Report::new(Path::new(""), |_| Ok(()));
        let clients = read(Group::root(&report, rules.clone()), true);
        report.take_problems().is_empty().then_some(clients)
    }
}

pub(super) fn read(mut group: Group<'_>, has_client_ca: bool) -> Clients {
    let organization = group.text("organization");
    let scoped_only = group.flag("scopedOnly").unwrap_or(false);
    let given = group.groups("scopes");
    let has_scopes = !given.is_empty();
    let scopes: Vec<Scope> = given.into_iter().filter_map(scope).collect();
    let clients = Clients { organization, scoped_only, scopes };
    if !has_client_ca && clients != Clients::default() {
        group.problem("", "has no effect without rpcServer.tls.ca: clients prove nothing");
    }
    if clients.scoped_only && !has_scopes {
        group.problem("scopes", "is required with scopedOnly: no client would be let in");
    }
    clients
}

fn scope(mut group: Group<'_>) -> Option<Scope> {
    let common_name = group.text("commonName");
    let organization = group.text("organization");
    let alternative_name = group.text("alternativeName");
    let owner_tokens = group.flag("ownerTokens").unwrap_or(true);
    let texts = |group: &mut Group<'_>, key: &str| Some(group.texts(key)).filter(|texts| !texts.is_empty());
    let owners = group.required("owners", texts);
    if owners.iter().flatten().any(String::is_empty) {
        group.problem("owners", "must not hold an empty text");
    }
    if common_name.is_none() && organization.is_none() && alternative_name.is_none() {
        group.problem("", "must name commonName, organization or alternativeName");
    }
    let owners: BTreeSet<String> = owners?.into_iter().collect();
    Some(Scope { common_name, organization, alternative_name, owners, owner_tokens })
}
