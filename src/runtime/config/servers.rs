//! `rpcServer` and `imageBuilderProxy`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use http::uri::Authority;

use super::reader::Group;
use crate::runtime::tls::{ClientFiles, ServerFiles};

/// `rpcServer`.
#[derive(Debug, Clone)]
pub struct RpcServer {
    /// Where gRPC is served.
    pub address: SocketAddr,
    /// None means plaintext, which was asked for and listens on loopback only.
    pub tls: Option<ServerFiles>,
    /// By full method, such as `/wsman.WorkspaceManager/StartWorkspace`.
    pub rate_limits: BTreeMap<String, RateLimit>,
}

/// A token bucket for one method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Wait for a token rather than refuse.
    pub block: bool,
    /// Tokens that a full bucket holds.
    pub bucket_size: u32,
    /// Time until one more token is there.
    pub refill_interval: Duration,
    /// A bucket for each value of these fields.
    pub keyed: Option<KeyedLimit>,
}

/// Buckets by the request's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedLimit {
    /// Fields of the request, each as the names that lead to it.
    pub fields: Vec<Vec<String>>,
    /// How many values are remembered.
    pub buckets: NonZeroUsize,
}

/// `imageBuilderProxy`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageBuilderProxy {
    /// Host and port of the builder of namespaces whose cluster file names none.
    pub target: Option<Authority>,
    /// Towards every builder; none means plaintext.
    pub tls: Option<ClientFiles>,
}

pub(super) fn read_rpc_server(mut group: Group<'_>) -> Option<RpcServer> {
    let address = group.required("addr", |group, key| group.address(key, Some("127.0.0.1:8080")));
    let plaintext = group.flag("plaintext").unwrap_or(false);
    let tls = server_tls(&mut group);
    let rate_limits = rate_limits(group.named_groups("ratelimits"));
    match (&tls, plaintext) {
        (Tls::Absent, false) => group.problem("tls", "is required, or plaintext: true on a loopback address"),
        (Tls::Absent, true) if address.is_some_and(|address| !address.ip().to_canonical().is_loopback()) => {
            group.problem("addr", "must be a loopback address with plaintext");
        }
        (Tls::Files(_) | Tls::Broken, true) => group.problem("plaintext", "and tls exclude each other"),
        _ => {}
    }
    let tls = match tls {
        Tls::Files(files) => Some(files),
        Tls::Absent | Tls::Broken => None,
    };
    Some(RpcServer { address: address?, tls, rate_limits })
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
    let client_ca = tls.file("ca");
    let identity = match client_ca {
        Some(_) => tls.required("crt", |tls, _| tls.identity()),
        None => tls.identity(),
    };
    match identity {
        Some(identity) => Tls::Files(ServerFiles { client_ca, identity }),
        // Judged after reading, because generated files write empty values.
        None if tls.problems_so_far() == problems => Tls::Absent,
        None => Tls::Broken,
    }
}

fn rate_limits(groups: Vec<(String, Group<'_>)>) -> BTreeMap<String, RateLimit> {
    let mut limits = BTreeMap::new();
    for (name, mut group) in groups {
        let limit = rate_limit(&mut group);
        // Existing files write the prefix that the original needs by mistake.
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
    // An empty target names none, as generated files write it.
    let target = group.text("targetAddr");
    let tls = group.group("tls").client_tls();
    let authority = target.as_deref().and_then(|target| match target.parse::<Authority>() {
        Ok(authority) if authority.port().is_some() && !target.contains('@') => Some(authority),
        _ => {
            group.problem("targetAddr", "is not a host and port such as image-builder-mk3:8080");
            None
        }
    });
    ImageBuilderProxy { target: authority, tls: (tls != ClientFiles::default()).then_some(tls) }
}
