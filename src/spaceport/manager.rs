//! Wires the manager together: the one file that knows every crate. It reads in the order of the data flow.

mod configuration;
pub mod metrics;
mod options;
mod reload;
mod templates;

use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

use self::configuration::{Loaded, load};
use self::options::{member_options, open_host, options, sealer, store_options};
use self::reload::Reload;
use federation::{Federation, FleetOptions, Meters, Parts, ReplicaName};
use host::Host;
use member::client::CallMeters;
use member::tasks::TaskMeters;
use runtime::admin::Admin;
use runtime::audit::{AuditMeters, AuditSink};
use runtime::config::{Config, EXIT_CODE};
use runtime::connections::ConnectionMeters;
use runtime::readiness::Readiness;
use runtime::shutdown::{Supervisor, signals};
use runtime::telemetry::{self, Format};
use runtime::tls::{self, ServerTls};
use store::{Election, Leadership, Replica, Store, Timing};

/// Threads for large requests, which compute and do not block.
const LARGE_WORKERS: usize = 2;
/// Grace period for tasks that cannot be aborted, after everything else has ended.
const LAST: Duration = Duration::from_secs(1);
/// Grace period for calls in flight after a signal.
const DRAIN: Duration = Duration::from_secs(20);
/// Time to write the last audit lines.
const FLUSH: Duration = Duration::from_secs(2);
/// How long readiness waits for the caches of the reachable member clusters.
const FIRST_SYNC: Duration = Duration::from_secs(20);

/// This replica's leadership, and its changes.
type LeadershipWatch = tokio::sync::watch::Receiver<Leadership>;

/// Runs the manager until a signal. Exit code 64: the configuration is invalid.
pub fn run(path: &Path, json_log: bool, verbose: bool) -> ExitCode {
    let config = match load(path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("spaceport: {:#}", anyhow!(error));
            return ExitCode::from(EXIT_CODE);
        }
    };
    match runtimes().map(|runtimes| runtimes.run(|large| serve(config, large, json_log, verbose))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) | Err(error) => {
            eprintln!("spaceport: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runtimes of the process, except that of the lease (`store::apart`).
struct Runtimes {
    main: Runtime,
    /// For large requests, so that the main runtime does no long work.
    large: Runtime,
}

fn runtimes() -> anyhow::Result<Runtimes> {
    let main = Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let large = Builder::new_multi_thread()
        .worker_threads(LARGE_WORKERS)
        .thread_name("large-requests")
        .build()
        .context("cannot start the runtime of large requests")?;
    Ok(Runtimes { main, large })
}

impl Runtimes {
    /// Runs to the end. A thread that hangs then, usually in a file system, does not keep the process alive.
    fn run<F: Future>(self, work: impl FnOnce(Handle) -> F) -> F::Output {
        let output = self.main.block_on(work(self.large.handle().clone()));
        self.large.shutdown_timeout(LAST);
        self.main.shutdown_timeout(LAST);
        output
    }
}

async fn serve(loaded: Loaded, large: Handle, json_log: bool, verbose: bool) -> anyhow::Result<()> {
    let Loaded { config, defaults, limits, host, content, follower } = loaded;
    let limits = Arc::new(limits);
    let format = if json_log { Format::Json } else { Format::Text };
    let log_filter = telemetry::init(format, if verbose { "info,spaceport=debug" } else { "info" })?;
    let shutdown = CancellationToken::new();
    let signals = signals()?;
    let mut supervisor = Supervisor::new(shutdown.clone());
    // Bind ports first: a problem with them ends the start before anything else happens.
    let listener = TcpListener::bind(config.rpc_server.address)
        .await
        .with_context(|| format!("cannot listen on rpcServer.addr {}", config.rpc_server.address))?;
    let server_tls = config.rpc_server.tls.clone().map(ServerTls::load).transpose();
    let server_tls = server_tls.context("cannot use rpcServer.tls")?.map(Arc::new);
    let readiness = Readiness::default();
    let store = Store::connect(store_options(&config.etcd)?).await?;
    let sealer = sealer(&config.federation.sealing)?;
    let installation = store.installation(&sealer).await?;
    tracing::info!(
        installation = %installation.id,
        replica = config.federation.replica,
        rpc = %listener.local_addr()?,
        "spaceport manager"
    );
    let us = ReplicaName {
        name: config.federation.replica.clone(),
        address: config.federation.advertise_address.to_string(),
    };
    let (election, leadership) = election(&config, &store, &us)?;
    let host = host.map(|source| open_host(&config, source)).transpose()?.map(Arc::new);
    content::store::install_tls();
    let (members, tasks) = (CallMeters::new()?, TaskMeters::new()?);
    let federation = Federation::new(Parts {
        store,
        sealer,
        installation,
        us,
        options: options(&config),
        fleet: FleetOptions {
            member: member_options(&config, members.clone(), tasks.clone()),
            defaults: Arc::new(ArcSwap::from_pointee(defaults)),
            host: host.clone(),
        },
        meters: Meters::new()?,
        content,
        subscriber_buffer: config.federation.subscriber_buffer,
    });
    let (calls, refusals) = (api::Calls::new()?, api::Refusals::new()?);
    let (connections, audited) = (ConnectionMeters::new()?, AuditMeters::new()?);
    let audit = AuditSink::open(&config.audit.target, audited.clone()).context("cannot open audit.file")?;
    let registry = metrics::registry(&metrics::Sources {
        federation: &federation,
        limits: &limits,
        calls: &calls,
        members: &members,
        tasks: &tasks,
        readiness: &readiness,
        connections: &connections,
        refusals: &refusals,
        audited: &audited,
    })?;
    let admin = Admin { readiness: readiness.clone(), registry, log_filter, meters: connections.clone() };
    let admin = admin.bind(config.health, config.prometheus).await?;
    spawn_followers(&mut supervisor, &federation, &readiness, election, leadership);
    let reload = Reload {
        follower,
        fleet: Arc::clone(&federation.fleet),
        limits: Arc::clone(&limits),
        readiness: readiness.clone(),
        at_start: (config.groups.clone(), config.manager.maintenance_config_map.clone()),
    };
    supervisor.spawn("configuration", reload.run(shutdown.clone()));
    if let Some(tls) = server_tls.clone() {
        supervisor.spawn("certificates", tls.follow(shutdown.clone()));
    }
    spawn_host(&mut supervisor, host);
    let connections = tls::incoming(listener, server_tls, config.rpc_server.connections, connections);
    let guards = api::Guards {
        limits,
        calls,
        streams: config.rpc_server.streams,
        sessions: config.rpc_server.sessions,
        refusals,
        clients: config.rpc_server.clients.clone(),
        age: config.rpc_server.age,
        audit: audit.clone(),
        large,
    };
    let serving = api::serve(Arc::clone(&federation), connections, others(&config), guards, shutdown.clone());
    supervisor.spawn("grpc", serving);
    let admin_token = CancellationToken::new();
    let admin = tokio::spawn(admin.serve(admin_token.clone()));
    close_with(shutdown, readiness, Arc::clone(&federation));
    let outcome = supervisor.run(DRAIN, signals).await;
    // Write the last audit lines before the process ends.
    let _ = tokio::task::spawn_blocking(move || audit.flush(FLUSH)).await;
    admin_token.cancel();
    if admin.await.is_err() {
        tracing::error!("the admin server panicked");
    }
    Ok(outcome?)
}

/// How to connect to other servers.
fn others(config: &Config) -> api::Others {
    api::Others {
        replicas: config.federation.peers.clone(),
        builders: config.image_builder_proxy.transport.clone(),
    }
}

/// Follows the host cluster, if there is one.
fn spawn_host(supervisor: &mut Supervisor, host: Option<Arc<Host>>) {
    let Some(host) = host else { return };
    let shutdown = supervisor.token();
    let following = async move {
        host.run(shutdown).await;
        Ok::<(), Infallible>(())
    };
    supervisor.spawn("host", following);
}

/// Tasks that follow etcd: records, registrations, and the election with the leader's tasks.
fn spawn_followers(
    supervisor: &mut Supervisor,
    federation: &Arc<Federation>,
    readiness: &Readiness,
    election: Election,
    leadership: LeadershipWatch,
) {
    let shutdown = supervisor.token();
    let run = |future: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| async {
        future.await;
        Ok::<(), Infallible>(())
    };
    let (watches, token) = (&federation.watches, || shutdown.clone());
    supervisor.spawn("placements", run(Box::pin(Arc::clone(&watches.placements).run(token()))));
    supervisor.spawn("drains", run(Box::pin(Arc::clone(&watches.drains).run(token()))));
    supervisor.spawn("clusters", run(Box::pin(Arc::clone(&watches.registrations).run(token()))));
    let views = Arc::clone(&federation.clusters.views);
    supervisor.spawn("conditions", run(Box::pin(views.follow_conditions(token()))));
    // A leader's last notes are written before another one may lead.
    let resign = CancellationToken::new();
    let guard = resign.clone().drop_guard();
    let leads = Box::pin(Arc::clone(&federation.leader).lead_when_elected(leadership, token()));
    let leading = async move {
        leads.await;
        drop(guard);
    };
    supervisor.spawn("leadership", run(Box::pin(leading)));
    supervisor.spawn("election", election.run(resign));
    let (records, members) = (readiness.gate("placements"), readiness.gate("members"));
    let (progress, fleet, token) = (Arc::clone(&watches.progress), Arc::clone(&federation.fleet), token());
    let waiting = async move {
        let known = async {
            progress.placements_known().await;
            records.release();
            fleet.members_known(FIRST_SYNC).await;
            members.release();
        };
        tokio::select! {
            () = known => token.cancelled().await,
            () = token.cancelled() => {}
        }
    };
    supervisor.spawn("readiness", run(Box::pin(waiting)));
}

/// What must happen at once when the shutdown begins.
fn close_with(shutdown: CancellationToken, readiness: Readiness, federation: Arc<Federation>) {
    tokio::spawn(async move {
        shutdown.cancelled().await;
        readiness.close();
        federation.closing.cancel();
        federation.index.events().close();
        federation.fleet.close();
    });
}

fn election(config: &Config, store: &Store, us: &ReplicaName) -> anyhow::Result<(Election, LeadershipWatch)> {
    let times = config.federation.leader;
    let timing = Timing {
        ttl: times.lease,
        renew: times.renew,
        stop_after: times.stop_after,
        stalled_after: times.stalled_after,
    };
    let replica = Replica { replica: us.name.clone(), address: us.address.clone() };
    Ok(Election::new(store, replica, timing)?)
}
