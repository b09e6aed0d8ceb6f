//! `federation`: how the replicas of one installation work together, and how they judge clusters.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use data_encoding::HEXLOWER_PERMISSIVE;
use url::Url;

use super::reader::Group;
use super::servers::RpcServer;
use crate::tls::{ClientFiles, Transport, is_loopback};
use domain::names::Namespace;
use domain::secret::Secret;

/// `federation`.
#[derive(Debug, Clone)]
pub struct Federation {
    /// Name of this replica.
    pub replica: String,
    /// gRPC address for other replicas.
    pub advertise_address: Url,
    /// Keys that seal secrets in etcd.
    pub sealing: Sealing,
    /// Times of the leader's lease.
    pub leader: LeaderTimes,
    /// When a cluster is suspect, lost and available again.
    pub health: HealthTimes,
    /// Deadline of placing one workspace, including all attempts.
    pub placement_deadline: Duration,
    /// How long the record of an ended workspace is kept, so that its id cannot be used again.
    pub tombstone_life: Duration,
    /// Age at which a Secret without a workspace is deleted.
    pub leftover_age: Duration,
    /// Transport to other replicas; plaintext only if `rpcServer.plaintext` is set. `None`: there is no authority to verify
    /// them, so calls are not forwarded.
    pub peers: Option<Transport>,
    /// Events that a subscriber may lag behind.
    pub subscriber_buffer: usize,
    /// Bytes of objects, as text, that are cached of one cluster.
    pub object_bytes: u64,
    /// Kubeconfig file of the host cluster; `None` means the pod's service account, if it has one.
    pub host_kubeconfig: Option<PathBuf>,
    /// Namespace in the host cluster for events; `None` means the pod's own.
    pub host_namespace: Option<Namespace>,
}

/// Keys: the first seals, all unseal.
#[derive(Debug, Clone)]
pub struct Sealing {
    /// The key that seals.
    pub first: SealingKey,
    /// Older keys, which only unseal.
    pub rest: Vec<SealingKey>,
}

/// A key of 256 bits.
#[derive(Debug, Clone)]
pub struct SealingKey {
    /// Id, stored with each sealed text.
    pub id: String,
    /// The key.
    pub key: Secret<[u8; 32]>,
}

/// Times of the leader's lease: `renew < stop_after < lease < stalled_after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderTimes {
    /// TTL of the lease in whole seconds, as etcd requires.
    pub lease: Duration,
    /// Interval of renewals.
    pub renew: Duration,
    /// The leader stops writing so long after the last confirmed renewal was sent.
    pub stop_after: Duration,
    /// The leader revokes its lease after the process has stalled for so long.
    pub stalled_after: Duration,
}

/// Times of a cluster's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthTimes {
    /// Interval of probes.
    pub probe: Duration,
    /// Deadline of a probe.
    pub deadline: Duration,
    /// Interval of the canary's renewals.
    pub canary: Duration,
    /// Missed probes in a row until it is suspect.
    pub suspect_after: u32,
    /// Time without an answered probe until it is lost.
    pub lost_after: Duration,
    /// Clean time until it is available again.
    pub recover_after: Duration,
    /// Upper bound of the clean time of a flapping cluster.
    pub hold_down_max: Duration,
}

/// `federation.hostKubeconfig`.
pub(super) fn read_host_kubeconfig(group: &mut Group<'_>) -> Option<PathBuf> {
    group.file("hostKubeconfig")
}

pub(super) fn read(
    mut group: Group<'_>,
    rpc_server: Option<&RpcServer>,
    host_kubeconfig: Option<PathBuf>,
) -> Option<Federation> {
    let host = host_name();
    let replica = group.text("replica").unwrap_or_else(|| format!("{host}-{}", std::process::id()));
    if replica.len() > 253 || !replica.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c)) {
        group.problem("replica", "must be at most 253 letters, digits, '-', '_', '.' or ':'");
    }
    let sealing = sealing(group.group("sealing"));
    let leader = leader(group.group("leader"));
    let health = health(group.group("health"));
    let placement_deadline = group.group("placement").duration("deadline", Duration::from_secs(10));
    let tombstone_life = group.duration("tombstoneLife", Duration::from_hours(24));
    let leftover_age = group.duration("leftoverAge", Duration::from_mins(10));
    if leftover_age < Duration::from_secs(1) {
        group.problem("leftoverAge", "must be at least one second");
    }
    let peers = peers(group.group("peerTls"), rpc_server);
    let advertise_address = advertise_address(&mut group, rpc_server, &host);
    if let (Some(url), Some(server)) = (&advertise_address, rpc_server) {
        check_scheme(&group, url, server, peers.as_ref());
    }
    let subscriber_buffer = group.count("subscriberBuffer", 1..=1_000_000).unwrap_or(1024);
    let object_bytes = group.count("objectMebibytes", 16..=1_000_000).unwrap_or(1024) * 1024 * 1024;
    let host_namespace = group.parsed::<Namespace>("hostNamespace");
    Some(Federation {
        replica,
        advertise_address: advertise_address?,
        sealing: sealing?,
        leader,
        health,
        placement_deadline,
        tombstone_life,
        leftover_age,
        peers,
        subscriber_buffer,
        object_bytes,
        host_kubeconfig,
        host_namespace,
    })
}

/// Transport to other replicas. By default it uses the server's certificate, which replicas usually share.
fn peers(mut group: Group<'_>, rpc_server: Option<&RpcServer>) -> Option<Transport> {
    let before = group.problems_so_far();
    let files = group.client_tls();
    // Empty values count as absent, so emptiness is checked after reading.
    if files != ClientFiles::default() || group.problems_so_far() != before {
        if files.ca.is_none() {
            group.problem("ca", "is required: other managers prove themselves with a certificate of it");
        }
        return Some(Transport::Tls(files));
    }
    match &rpc_server?.tls {
        None => Some(Transport::Plaintext),
        Some(tls) => {
            let ca = Some(tls.client_ca.clone()?);
            Some(Transport::Tls(ClientFiles { ca, identity: Some(tls.identity.clone()) }))
        }
    }
}

/// Forwarded calls contain secrets: they need TLS, or loopback addresses if plaintext is configured.
fn check_scheme(group: &Group<'_>, url: &Url, server: &RpcServer, peers: Option<&Transport>) {
    const KEY: &str = "advertiseAddr";
    // Plaintext to other machines is a problem of rpcServer.addr.
    let is_local = is_loopback(url) || (server.tls.is_none() && !server.address.ip().is_loopback());
    match (url.scheme(), peers) {
        ("http", _) if server.tls.is_some() => group.problem(KEY, "must be https with rpcServer.tls"),
        ("http", Some(Transport::Tls(_))) => group.problem(KEY, "must be https with peerTls"),
        ("http", _) if !is_local => {
            group.problem(KEY, "must be on loopback, or https with peerTls: plaintext stays on the machine");
        }
        ("https", Some(Transport::Plaintext)) => group.problem(KEY, "must be http, or peerTls is required"),
        _ => {}
    }
}

fn advertise_address(group: &mut Group<'_>, rpc_server: Option<&RpcServer>, host: &str) -> Option<Url> {
    const KEY: &str = "advertiseAddr";
    if let Some(url) = group.parsed::<Url>(KEY) {
        let plain = url.has_host() && matches!(url.path(), "" | "/") && url.query().is_none();
        if !plain || !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() {
            group.problem(KEY, "must be a URL such as https://manager-0:8080");
        }
        return Some(url);
    }
    // Without a server there are other problems.
    let server = rpc_server?;
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    let derived = if server.address.ip().is_unspecified() {
        format!("{scheme}://{host}:{}", server.address.port())
    } else {
        format!("{scheme}://{}", server.address)
    };
    Url::parse(&derived)
        .map_err(|_| {
            group.problem(
                KEY,
                format_args!("is required: {derived:?}, taken from rpcServer.addr, is not a URL"),
            );
        })
        .ok()
}

fn sealing(mut group: Group<'_>) -> Option<Sealing> {
    let entries = group.groups("keys");
    if entries.is_empty() {
        group.problem("keys", "must hold at least one key: 32 random bytes in a file");
    }
    let mut keys: Vec<SealingKey> = Vec::new();
    for mut entry in entries {
        let id = entry.required("id", Group::text);
        let content = entry.required("file", Group::secret_file);
        let key = content.and_then(|content| {
            decode_key(content.expose()).map(Secret::new).or_else(|| {
                entry.problem(
                    "file",
                    "must hold 32 bytes: as they are, as 64 hexadecimal digits, or as base64",
                );
                None
            })
        });
        let Some((id, key)) = id.zip(key) else { continue };
        if keys.iter().any(|earlier| earlier.id == id) {
            entry.problem("id", format_args!("{id:?} is used by an earlier key"));
        }
        keys.push(SealingKey { id, key });
    }
    let mut keys = keys.into_iter();
    keys.next().map(|first| Sealing { first, rest: keys.collect() })
}

fn decode_key(content: &[u8]) -> Option<[u8; 32]> {
    if let Ok(key) = content.try_into() {
        return Some(key);
    }
    let text = content.trim_ascii();
    let decoded = if text.len() == 64 {
        HEXLOWER_PERMISSIVE.decode(text).ok()
    } else {
        STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()
    };
    decoded?.try_into().ok()
}

fn leader(mut group: Group<'_>) -> LeaderTimes {
    let lease = group.duration("lease", Duration::from_secs(6));
    let times = LeaderTimes {
        lease,
        renew: group.duration("renew", Duration::from_secs(2)),
        stop_after: group.duration("stopAfter", Duration::from_secs(4)),
        stalled_after: group.duration("stalledAfter", Duration::from_secs(30).max(lease.saturating_mul(3))),
    };
    let unread = group.unread();
    if times.lease.subsec_nanos() != 0 || times.lease < Duration::from_secs(2) {
        group.problem("lease", "must be whole seconds, at least two");
    }
    if times.renew >= times.stop_after && unread.has_neither("renew", "stopAfter") {
        group.problem("renew", "must be less than stopAfter");
    }
    if times.stop_after >= times.lease && unread.has_neither("stopAfter", "lease") {
        group.problem("stopAfter", "must be less than lease");
    }
    if times.stalled_after <= times.lease && unread.has_neither("stalledAfter", "lease") {
        group.problem("stalledAfter", "must be more than lease");
    }
    times
}

fn health(mut group: Group<'_>) -> HealthTimes {
    let times = HealthTimes {
        probe: group.duration("probe", Duration::from_secs(2)),
        deadline: group.duration("deadline", Duration::from_secs(1)),
        canary: group.duration("canary", Duration::from_secs(10)),
        suspect_after: group.count("suspectAfter", 1..=100).unwrap_or(3),
        lost_after: group.duration("lostAfter", Duration::from_secs(40)),
        recover_after: group.duration("recoverAfter", Duration::from_secs(30)),
        hold_down_max: group.duration("holdDownMax", Duration::from_mins(10)),
    };
    let unread = group.unread();
    if times.canary < Duration::from_secs(1) {
        group.problem("canary", "must be at least 1s");
    }
    if times.deadline > times.probe && unread.has_neither("deadline", "probe") {
        group.problem("deadline", "must be at most probe");
    }
    let is_lost_compared =
        unread.has_neither("lostAfter", "suspectAfter") && unread.has_neither("lostAfter", "probe");
    if is_lost_compared && times.lost_after <= times.probe.saturating_mul(times.suspect_after) {
        group.problem("lostAfter", "must be more than suspectAfter times probe");
    }
    if times.hold_down_max < times.recover_after && unread.has_neither("holdDownMax", "recoverAfter") {
        group.problem("holdDownMax", "must be at least recoverAfter");
    }
    times
}

fn host_name() -> String {
    let from_kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = from_kernel.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    name.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_else(|| "spaceport".to_owned())
}
