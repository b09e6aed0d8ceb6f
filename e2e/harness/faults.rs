//! A proxy in front of an apiserver or etcd that injects faults.
//!
//! Connection faults ([`Fault`]) apply to all callers or to one process, switch while connections are open, and are in
//! effect when the call returns. In front of a cluster the proxy terminates TLS with a certificate of the cluster's own
//! CA, so that single calls can be answered with 429 or 500, delayed, or lose their response ([`Rule`]). It does not
//! lose or reorder packets. A black hole buffers what it receives, like a frozen peer.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Cluster, Etcd};

mod caller;
mod calls;
mod flood;
mod pipe;

pub use calls::{Answer, Carried, Rule};
pub use flood::Flood;

use caller::Caller;

/// Timeout of closing or opening the listener.
const SWITCH: Duration = Duration::from_secs(10);

/// Fault of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// None.
    #[default]
    None,
    /// Open connections are reset. New ones are refused by the system if the fault applies to all, and reset if it
    /// applies to one process.
    Refuse,
    /// Connections stay open, new ones are accepted, and no bytes pass.
    BlackHole,
    /// No bytes pass in this direction; the other one works.
    Cut(Way),
    /// Every chunk is delayed by a random time in a range.
    Delay {
        /// Minimum.
        by: Duration,
        /// Maximum beyond the minimum.
        jitter: Duration,
    },
    /// Few bytes pass in each direction, with breaks between them.
    Drip {
        /// Bytes at a time.
        bytes: usize,
        /// Interval.
        every: Duration,
    },
}

/// Direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From clients.
    ToServer,
    /// To clients.
    ToClient,
}

/// Faults in effect.
#[derive(Clone, Debug, Default)]
struct Plan {
    all: Fault,
    of: BTreeMap<u32, Fault>,
    resets: u64,
    resets_of: BTreeMap<u32, u64>,
}

impl Plan {
    fn fault(&self, caller: &Caller) -> Fault {
        caller.among(self.of.keys()).and_then(|pid| self.of.get(&pid)).copied().unwrap_or(self.all)
    }

    fn resets(&self, caller: &Caller) -> u64 {
        let of = caller.among(self.resets_of.keys()).and_then(|pid| self.resets_of.get(&pid));
        self.resets + of.copied().unwrap_or(0)
    }

    /// Whether connections of the caller must be reset.
    fn breaks(&self, caller: &Caller) -> bool {
        self.fault(caller) == Fault::Refuse || self.resets(caller) != caller.resets
    }
}

struct Shared {
    upstream: SocketAddr,
    here: SocketAddr,
    plan: watch::Sender<Plan>,
    calls: Option<calls::Calls>,
    open: watch::Sender<usize>,
    accepted: AtomicUsize,
}

/// A proxy. Dropping it closes its connections.
pub struct Proxy {
    shared: Arc<Shared>,
    listening: watch::Receiver<bool>,
    // Bound but never listening: it reserves the port while connections are refused.
    _port: TcpSocket,
    _ends: DropGuard,
}

impl Proxy {
    /// In front of a cluster's apiserver. Tokens pass; client certificates do not.
    pub async fn of_cluster(cluster: &Cluster) -> Result<Self> {
        let upstream = address(&cluster.api())?;
        Self::start(
            upstream,
            Some(calls::Calls::new(&cluster.serving("proxy")?, cluster.ca_pem(), upstream)?),
        )
        .await
    }

    /// In front of etcd, with its TLS passed through.
    pub async fn of_etcd(etcd: &Etcd) -> Result<Self> {
        Self::start(address(&etcd.endpoint())?, None).await
    }

    /// In front of any server on this machine.
    pub async fn of(upstream: SocketAddr) -> Result<Self> {
        Self::start(upstream, None).await
    }

    /// The same, at another address of this machine, for clients in another network.
    pub async fn at(ip: IpAddr, upstream: SocketAddr) -> Result<Self> {
        Self::listen(ip, upstream, None).await
    }

    async fn start(upstream: SocketAddr, calls: Option<calls::Calls>) -> Result<Self> {
        Self::listen(Ipv4Addr::LOCALHOST.into(), upstream, calls).await
    }

    async fn listen(ip: IpAddr, upstream: SocketAddr, calls: Option<calls::Calls>) -> Result<Self> {
        let port = bind(SocketAddr::from((ip, 0)))?;
        let here = port.local_addr().context("a socket without an address")?;
        let shared = Arc::new(Shared {
            upstream,
            here,
            plan: watch::Sender::new(Plan::default()),
            calls,
            open: watch::Sender::new(0),
            accepted: AtomicUsize::new(0),
        });
        let (listens, mut listening) = watch::channel(false);
        let end = CancellationToken::new();
        let accepting = accept(Arc::clone(&shared), listens, end.clone());
        tokio::spawn(accepting);
        listening.wait_for(|listens| *listens).await.context("cannot listen")?;
        Ok(Self { shared, listening, _port: port, _ends: end.drop_guard() })
    }

    /// Its URL, with the scheme of the server behind it: `https` for a cluster, `http` without TLS.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.shared.here)
    }

    /// Writes a copy of a cluster's kubeconfig that uses the proxy.
    pub fn kubeconfig(&self, of: &Path, to: &Path) -> Result<PathBuf> {
        let text = std::fs::read_to_string(of).with_context(|| format!("cannot read {}", of.display()))?;
        let direct = format!("https://{}", self.shared.upstream);
        anyhow::ensure!(text.contains(&direct), "{} does not name {direct}", of.display());
        std::fs::write(to, text.replace(&direct, &self.url("https")))
            .with_context(|| format!("cannot write {}", to.display()))?;
        Ok(to.to_path_buf())
    }

    /// Sets the fault for all callers without one of their own.
    pub async fn set(&self, fault: Fault) -> Result<()> {
        self.shared.plan.send_modify(|plan| plan.all = fault);
        let listens = fault != Fault::Refuse;
        let mut listening = self.listening.clone();
        tokio::time::timeout(SWITCH, listening.wait_for(|now| *now == listens))
            .await
            .context("the proxy's listener does not follow")??;
        Ok(())
    }

    /// Sets the fault for the connections of one process.
    pub fn set_for(&self, pid: u32, fault: Fault) {
        self.shared.plan.send_modify(|plan| {
            plan.of.insert(pid, fault);
        });
    }

    /// Removes all faults and rules.
    pub async fn heal(&self) -> Result<()> {
        self.rules(Vec::new());
        self.shared.plan.send_modify(|plan| plan.of.clear());
        self.set(Fault::None).await
    }

    /// Resets all open connections once.
    pub fn reset(&self) {
        self.shared.plan.send_modify(|plan| plan.resets += 1);
    }

    /// Resets the open connections of one process once.
    pub fn reset_for(&self, pid: u32) {
        self.shared.plan.send_modify(|plan| *plan.resets_of.entry(pid).or_default() += 1);
    }

    /// Replaces the rules for single calls; the first match counts. For clusters only.
    pub fn rules(&self, rules: Vec<Rule>) {
        if let Some(calls) = &self.shared.calls {
            calls.rules(rules);
        }
    }

    /// Number of calls that rules hold at the moment.
    pub fn held(&self) -> watch::Receiver<usize> {
        match &self.shared.calls {
            Some(calls) => calls.held(),
            None => watch::channel(0).1,
        }
    }

    /// Number of calls that a rule answered, or dropped the response of.
    pub fn injected(&self) -> watch::Receiver<usize> {
        match &self.shared.calls {
            Some(calls) => calls.injected(),
            None => watch::channel(0).1,
        }
    }

    /// Forwards the calls kept as [`Answer::Late`]; returns the status code of each, once all have one.
    pub async fn let_late_go(&self) -> Result<Vec<u16>> {
        match &self.shared.calls {
            Some(calls) => calls.let_late_go().await,
            None => Ok(Vec::new()),
        }
    }

    /// Number of open connections.
    pub fn open(&self) -> watch::Receiver<usize> {
        self.shared.open.subscribe()
    }

    /// Number of connections ever accepted.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }
}

/// Accepts connections unless they are refused, until the proxy is dropped.
async fn accept(shared: Arc<Shared>, listens: watch::Sender<bool>, end: CancellationToken) {
    let mut plan = shared.plan.subscribe();
    let mut connections = JoinSet::new();
    while !end.is_cancelled() {
        listens.send_replace(false);
        let open = plan.wait_for(|plan| plan.all != Fault::Refuse);
        let waited = tokio::select! {
            () = end.cancelled() => return,
            open = open => open.is_ok(),
        };
        let listener = match bind(shared.here).and_then(|socket| Ok(socket.listen(1024)?)) {
            Ok(listener) if waited => listener,
            Ok(_) => return,
            Err(error) => {
                eprintln!("proxy at {}: {error:#}", shared.here);
                return;
            }
        };
        listens.send_replace(true);
        let refused = async {
            let _ = plan.wait_for(|plan| plan.all == Fault::Refuse).await;
        };
        tokio::select! {
            () = end.cancelled() => return,
            () = refused => {}
            () = take(&shared, &listener, &mut connections) => {}
        }
    }
}

async fn take(shared: &Arc<Shared>, listener: &TcpListener, connections: &mut JoinSet<()>) {
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((client, _)) => {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                shared.open.send_modify(|open| *open += 1);
                let counted = Counted(Arc::clone(shared));
                connections.spawn(async move { counted.serve(client).await });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Counts an open connection until dropped.
struct Counted(Arc<Shared>);

impl Counted {
    async fn serve(&self, client: TcpStream) {
        pipe::serve(&self.0, client).await;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

fn bind(address: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4().context("no socket")?;
    socket.set_reuseaddr(true).context("cannot share the port")?;
    socket.bind(address).with_context(|| format!("cannot bind {address}"))?;
    Ok(socket)
}

/// Address of `scheme://127.0.0.1:port`.
fn address(url: &str) -> Result<SocketAddr> {
    let (_, address) = url.split_once("://").with_context(|| format!("{url} is no URL"))?;
    address.parse().with_context(|| format!("{address} is no address"))
}
