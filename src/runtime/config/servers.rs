//! `rpcServer` and `imageBuilderProxy`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use http::uri::Authority;

use super::clients::{self, Clients};
use super::reader::Group;
use crate::connections::Caps;
use crate::tls::{Age, ClientFiles, ServerFiles, Transport, check_client_authorities, check_revocations};

/// `rpcServer`.
#[derive(Debug, Clone)]
pub struct RpcServer {
    /// Address of the gRPC server.
    pub address: SocketAddr,
    /// `None` means plaintext, which must be configured and is on loopback only. Without a client CA, anonymous clients are
    /// configured.
    pub tls: Option<ServerFiles>,
    /// Which certificates may use workspaces, and of which owners.
    pub clients: Clients,
    /// Maximum age of a connection.
    pub age: Age,
    /// Rate limits by full method, such as `/wsman.WorkspaceManager/StartWorkspace`.
    pub rate_limits: BTreeMap<String, RateLimit>,
    /// Maximum number of connections.
    pub connections: Caps,
    /// Maximum number of streams.
    pub streams: StreamCaps,
    /// Limits of shells and forwarded ports.
    pub sessions: SessionCaps,
}

/// Limits of shells and forwarded ports, which count as streams too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCaps {
    /// In total.
    pub total: usize,
    /// For each caller.
    pub per_caller: usize,
    /// How long one stays open without a byte in either direction.
    pub idle: Duration,
    /// How long one stays open.
    pub longest: Duration,
}

/// Maximum numbers of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamCaps {
    /// In total.
    pub total: usize,
    /// For each caller.
    pub per_caller: usize,
}

/// A token bucket for one method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Whether calls wait for a token instead of being rejected.
    pub block: bool,
    /// Capacity in tokens.
    pub bucket_size: u32,
    /// Interval at which one token is added.
    pub refill_interval: Duration,
    /// A separate bucket for each value of these fields.
    pub keyed: Option<KeyedLimit>,
}

/// Buckets by fields of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedLimit {
    /// Paths of fields, each as a list of names.
    pub fields: Vec<Vec<String>>,
    /// Maximum number of buckets.
    pub buckets: NonZeroUsize,
}

/// `imageBuilderProxy`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageBuilderProxy {
    /// Default host and port of the image builder.
    pub target: Option<Authority>,
    /// Transport to all image builders; `None` means that none may be called.
    pub transport: Option<Transport>,
}

/// `rpcServer.ratelimits`.
pub(super) fn read_rate_limits(group: &mut Group<'_>) -> BTreeMap<String, RateLimit> {
    rate_limits(group.named_groups("ratelimits"))
}

pub(super) fn read_rpc_server(
    mut group: Group<'_>,
    rate_limits: BTreeMap<String, RateLimit>,
) -> Option<RpcServer> {
    let address = group.required("addr", |group, key| group.address(key, Some("127.0.0.1:8080")));
    let plaintext = group.flag("plaintext").unwrap_or(false);
    let anonymous = group.flag("anonymousClients").unwrap_or(false);
    let tls = server_tls(&mut group);
    check_anonymous(&group, &tls, anonymous);
    let has_client_ca = !matches!(&tls, Tls::Absent) && !anonymous;
    let clients = clients::read(group.group("clients"), has_client_ca);
    let mut connections = group.group("connections");
    let age = age(&mut connections);
    let (total, per_address) = caps(connections, "perAddress", (4096, 1024));
    let connections = Caps { total, per_address };
    let (total, per_caller) = caps(group.group("streams"), "perCaller", (4096, 1024));
    let streams = StreamCaps { total, per_caller };
    let sessions = sessions(group.group("sessions"));
    match (&tls, plaintext) {
        (Tls::Absent, false) => group.problem("tls", "is required, or plaintext: true on a loopback address"),
        (Tls::Absent, true) if address.is_some_and(|address| !address.ip().to_canonical().is_loopback()) => {
            group.problem("addr", "must be a loopback address with plaintext");
        }
        (Tls::Files(_) | Tls::Broken, true) => group.problem("plaintext", "cannot be used together with tls"),
        _ => {}
    }
    let tls = match tls {
        Tls::Files(files) => Some(files),
        Tls::Absent => None,
        // Not plaintext, so the checks for plaintext do not apply.
        Tls::Broken => return None,
    };
    Some(RpcServer { address: address?, tls, clients, age, rate_limits, connections, streams, sessions })
}

/// A total cap, and one for each address or caller.
fn caps(mut group: Group<'_>, each: &str, (total, per_each): (usize, usize)) -> (usize, usize) {
    let total = group.count("total", 1..=1_000_000).unwrap_or(total);
    let is_compared = group.unread().has_neither("total", each);
    let per_each = match group.count(each, 1..=1_000_000) {
        Some(count) if is_compared && count > total => {
            group.problem(each, "must be at most total");
            count
        }
        Some(count) => count,
        None => per_each.min(total),
    };
    (total, per_each)
}

fn sessions(mut group: Group<'_>) -> SessionCaps {
    let idle = group.duration("idle", Duration::from_hours(1));
    let longest = group.duration("maxAge", Duration::from_hours(12));
    let (total, per_caller) = caps(group, "perCaller", (512, 64));
    SessionCaps { total, per_caller, idle, longest }
}

fn age(group: &mut Group<'_>) -> Age {
    Age {
        most: group.duration("maxAge", Duration::from_hours(12)),
        grace: group.duration("grace", Duration::from_secs(30)),
    }
}

/// Clients without a certificate must be configured explicitly.
fn check_anonymous(group: &Group<'_>, tls: &Tls, anonymous: bool) {
    match tls {
        Tls::Files(files) if files.client_ca.is_none() && !anonymous => group.problem_below(
            "tls.ca",
            "is required, or anonymousClients: true, which lets every client in that reaches the address",
        ),
        Tls::Files(files) if files.client_ca.is_some() && anonymous => {
            group.problem("anonymousClients", "cannot be used together with tls.ca");
        }
        Tls::Absent if anonymous => group.problem("anonymousClients", "has no effect without tls"),
        _ => {}
    }
}

enum Tls {
    Absent,
    /// Its problems are recorded.
    Broken,
    Files(ServerFiles),
}

fn server_tls(group: &mut Group<'_>) -> Tls {
    let mut tls = group.group("tls");
    let problems = tls.problems_so_far();
    let client_ca = tls.checked_file("ca", check_client_authorities);
    let client_crl = tls.checked_file("crl", check_revocations);
    if client_crl.is_some() && client_ca.is_none() {
        tls.problem("crl", "has no effect without ca");
    }
    let identity = match client_ca {
        Some(_) => tls.required("crt", |tls, _| tls.identity()),
        None => tls.identity(),
    };
    match identity {
        Some(identity) => Tls::Files(ServerFiles { client_ca, client_crl, identity }),
        // Checked after reading, because generated files write empty values.
        None if tls.problems_so_far() == problems => Tls::Absent,
        None => Tls::Broken,
    }
}

fn rate_limits(groups: Vec<(String, Group<'_>)>) -> BTreeMap<String, RateLimit> {
    let mut limits = BTreeMap::new();
    for (name, mut group) in groups {
        let limit = rate_limit(&mut group);
        // Existing files have this prefix, which Gitpod requires by mistake.
        let method = name.replacen("/proxied.", "/", 1);
        let parts: Vec<&str> = method.split('/').collect();
        if !matches!(parts[..], ["", service, method] if !service.is_empty() && !method.is_empty()) {
            group.problem("", "is not a full method such as /wsman.WorkspaceManager/StartWorkspace");
        }
        if let Some(limit) = limit
            && limits.insert(method, limit).is_some()
        {
            group.problem("", "is written twice: with and without the prefix proxied.");
        }
    }
    limits
}

fn rate_limit(group: &mut Group<'_>) -> Option<RateLimit> {
    let block = group.flag("block").unwrap_or(false);
    let bucket_size = group.required("bucketSize", |group, key| group.count(key, 1..=u32::MAX));
    let refill_interval = group.required("refillInterval", Group::duration_or_zero);
    if refill_interval == Some(Duration::ZERO) {
        group.problem("refillInterval", "must be more than zero");
    }
    let key = group.text("key");
    let buckets = NonZeroUsize::new(group.count("keyCacheSize", 0..=1_000_000).unwrap_or(0));
    let fields = key.map(|key| fields(group, &key));
    let keyed = fields.zip(buckets).map(|(fields, buckets)| KeyedLimit { fields, buckets });
    Some(RateLimit { block, bucket_size: bucket_size?, refill_interval: refill_interval?, keyed })
}

fn fields(group: &Group<'_>, key: &str) -> Vec<Vec<String>> {
    let fields: Vec<Vec<String>> =
        key.split(',').map(|field| field.trim().split('.').map(str::to_owned).collect()).collect();
    if fields.iter().flatten().any(String::is_empty) {
        group.problem("key", "must be field names, with dots between levels and commas between fields");
    }
    fields
}

pub(super) fn read_image_builder_proxy(mut group: Group<'_>) -> ImageBuilderProxy {
    // Generated files write an empty target for none.
    let target = group.text("targetAddr");
    let plaintext = group.flag("plaintext").unwrap_or(false);
    let transport = builder_transport(&mut group, plaintext);
    let authority = target.as_deref().and_then(|target| match target.parse::<Authority>() {
        Ok(authority) if authority.port().is_some() && !target.contains('@') => Some(authority),
        _ => {
            group.problem("targetAddr", "is not a host and port such as image-builder-mk3:8080");
            None
        }
    });
    if authority.is_some() && transport.is_none() {
        group.problem("tls", "is required with targetAddr, or plaintext: true");
    }
    ImageBuilderProxy { target: authority, transport }
}

fn builder_transport(group: &mut Group<'_>, plaintext: bool) -> Option<Transport> {
    let mut tls_group = group.group("tls");
    let before = tls_group.problems_so_far();
    let tls = tls_group.client_tls();
    let is_absent = tls == ClientFiles::default() && tls_group.problems_so_far() == before;
    if !is_absent && tls.ca.is_none() {
        tls_group
            .problem("ca", "is required: builders prove themselves with a certificate of this authority");
    }
    drop(tls_group);
    match (is_absent, plaintext) {
        (true, true) => Some(Transport::Plaintext),
        (true, false) => None,
        (false, true) => {
            group.problem("plaintext", "cannot be used together with tls");
            Some(Transport::Plaintext)
        }
        (false, false) => Some(Transport::Tls(tls)),
    }
}
