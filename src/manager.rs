//! The wiring: the one file that knows every room. It reads in the order of the data.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::cluster::MemberOptions;
use crate::cluster::client::Limits as ClientLimits;
use crate::controller::{ClassSettings, PodTemplates, Recreation, Timeouts};
use crate::domain::health::Limits as HealthLimits;
use crate::domain::secret::Secret;
use crate::federation::{Defaults, Federation, FleetMetrics, FleetOptions, Options, ReplicaName};
use crate::runtime::admin::Admin;
use crate::runtime::config::{self, Config, EXIT_CODE, Follower};
use crate::runtime::readiness::Readiness;
use crate::runtime::shutdown::{Supervisor, signals};
use crate::runtime::telemetry::{self, Format};
use crate::runtime::tls::{self, ServerTls};
use crate::store::{Election, Leadership, Replica, Sealer, SealingKey, Store, Timing, Tls, User};

/// For calls in flight to end after a signal.
const DRAIN: Duration = Duration::from_secs(20);
/// For the caches of members that answer to fill before this replica calls itself ready.
const FIRST_SYNC: Duration = Duration::from_secs(20);
/// Between looks at the configuration file.
const LOOK: Duration = Duration::from_secs(2);
/// Under this name `/readyz` tells of a configuration that is not in force.
const CONFIGURATION: &str = "configuration";

/// This replica's part in the election, and its changes.
type Standing = tokio::sync::watch::Receiver<Leadership>;

/// Runs the manager until a signal. Exit code 64: the configuration cannot be used.
pub fn run(path: &Path, json_log: bool, verbose: bool) -> ExitCode {
    let config = match load(path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("spaceport: {:#}", anyhow!(error));
            return ExitCode::from(EXIT_CODE);
        }
    };
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(serve(config, json_log, verbose)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spaceport: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A configuration and what was read with it.
struct Loaded {
    config: Config,
    defaults: Defaults,
    limits: api::Limits,
    follower: Follower,
}

fn load(path: &Path) -> Result<Loaded, config::Error> {
    let mut follower = Follower::new(path);
    let (config, defaults) = read(path)?;
    follower.also(template_files(&config));
    let limits = api::Limits::new(&config.rpc_server.rate_limits);
    let limits = limits.map_err(|problems| config::Error::Invalid { problems })?;
    Ok(Loaded { config, defaults, limits, follower })
}

fn read(path: &Path) -> Result<(Config, Defaults), config::Error> {
    let config = Config::load(path)?;
    let base = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let defaults = defaults(&config, base).map_err(|problems| config::Error::Invalid { problems })?;
    Ok((config, defaults))
}

fn template_files(config: &Config) -> Vec<PathBuf> {
    config.manager.classes.values().flat_map(|class| class.templates.files().cloned()).collect()
}

/// Takes changes of the configuration file into force while the manager runs; a file that is wrong changes nothing.
struct Reload {
    follower: Follower,
    federation: Arc<Federation>,
    readiness: Readiness,
    /// What is read once.
    at_start: (config::Groups, String),
}

impl Reload {
    async fn run(mut self, shutdown: CancellationToken) -> Result<(), tokio::task::JoinError> {
        while shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let looking = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match shutdown.run_until_cancelled(looking).await {
                Some(looked) => self = looked?,
                None => break,
            }
        }
        Ok(())
    }

    fn look(&mut self) {
        if !self.follower.changed() {
            return;
        }
        let (config, defaults) = match read(self.follower.main()) {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "the changed configuration is of no use; the last good one stays in force");
                // Not the problems themselves: whoever may ask for readiness need not be allowed to read them.
                self.readiness.degrade(
                    CONFIGURATION,
                    "the file has problems, see the log; the last good one is in force",
                );
                return;
            }
        };
        self.follower.also(template_files(&config));
        let (groups, maintenance) = &self.at_start;
        let mut restart = groups.differing(&config.groups);
        restart.retain(|group| *group != "manager");
        if *maintenance != config.manager.maintenance_config_map {
            restart.push("manager.maintenanceConfigMap");
        }
        if !restart.is_empty() {
            tracing::warn!(
                groups = restart.join(", "),
                "changed, and read at the start only: restart this manager"
            );
        }
        let problems = self.federation.fleet().reload(defaults);
        for problem in &problems {
            tracing::error!(problem, "a namespace keeps its last good settings");
        }
        if problems.is_empty() {
            self.readiness.recover(CONFIGURATION);
        } else {
            self.readiness
                .degrade(CONFIGURATION, "some namespaces keep their last good settings, see the log");
        }
        tracing::info!("a changed configuration is in force");
    }
}

async fn serve(loaded: Loaded, json_log: bool, verbose: bool) -> anyhow::Result<()> {
    let Loaded { config, defaults, limits, follower } = loaded;
    let limits = Arc::new(limits);
    let filter = if verbose { "info,spaceport=debug" } else { "info" };
    let log_filter = telemetry::init(if json_log { Format::Json } else { Format::Text }, filter)?;
    let shutdown = CancellationToken::new();
    let signals = signals()?;
    let mut supervisor = Supervisor::new(shutdown.clone());
    // Ports first: whatever is wrong with them ends the start before anything else happens.
    let listener = TcpListener::bind(config.rpc_server.address)
        .await
        .with_context(|| format!("cannot listen on rpcServer.addr {}", config.rpc_server.address))?;
    let server_tls = config.rpc_server.tls.clone().map(ServerTls::load).transpose()?.map(Arc::new);
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
    let federation = Federation::new(
        store,
        sealer,
        installation,
        us,
        options(&config),
        FleetOptions { member: member_options(&config), defaults: Arc::new(ArcSwap::from_pointee(defaults)) },
        config.federation.subscriber_buffer,
    );
    let registry = registry(&federation, &limits)?;
    let admin = Admin { readiness: readiness.clone(), registry, log_filter };
    let admin = admin.bind(config.health, config.prometheus).await?;
    spawn_followers(&mut supervisor, &federation, &readiness, election, leadership);
    let reload = Reload {
        follower,
        federation: Arc::clone(&federation),
        readiness: readiness.clone(),
        at_start: (config.groups.clone(), config.manager.maintenance_config_map.clone()),
    };
    supervisor.spawn("configuration", reload.run(shutdown.clone()));
    if let Some(tls) = server_tls.clone() {
        supervisor.spawn("certificates", tls.follow(shutdown.clone()));
    }
    let connections = tls::incoming(listener, server_tls);
    let peers = config.federation.peer_tls.clone();
    supervisor
        .spawn("grpc", api::serve(Arc::clone(&federation), connections, peers, limits, shutdown.clone()));
    let admin_token = CancellationToken::new();
    let admin = tokio::spawn(admin.serve(admin_token.clone()));
    close_with(shutdown, readiness, Arc::clone(&federation));
    let outcome = supervisor.run(DRAIN, signals).await;
    admin_token.cancel();
    if admin.await.is_err() {
        tracing::error!("the admin server panicked");
    }
    Ok(outcome?)
}

/// Everything that follows etcd: records, registrations, the election and what it brings.
fn spawn_followers(
    supervisor: &mut Supervisor,
    federation: &Arc<Federation>,
    readiness: &Readiness,
    election: Election,
    leadership: Standing,
) {
    let shutdown = supervisor.token();
    let run = |future: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| async {
        future.await;
        Ok::<(), Infallible>(())
    };
    let of = || (Arc::clone(federation), shutdown.clone());
    let (this, token) = of();
    supervisor.spawn("placements", run(Box::pin(this.follow_placements(token))));
    let (this, token) = of();
    supervisor.spawn("clusters", run(Box::pin(this.follow_clusters(token))));
    let (this, token) = of();
    supervisor.spawn("leadership", run(Box::pin(this.lead_when_elected(leadership, token))));
    supervisor.spawn("election", run(Box::pin(election.run(shutdown.clone()))));
    let (records, members) = (readiness.gate("placements"), readiness.gate("members"));
    let (this, token) = of();
    let waiting = async move {
        let known = async {
            this.placements_known().await;
            records.release();
            this.members_known(FIRST_SYNC).await;
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
        federation.close();
    });
}

fn registry(federation: &Arc<Federation>, limits: &api::Limits) -> anyhow::Result<prometheus::Registry> {
    let registry = prometheus::Registry::new();
    registry.register(Box::new(FleetMetrics::new(Arc::clone(federation))?))?;
    registry.register(Box::new(limits.counters()))?;
    Ok(registry)
}

fn election(config: &Config, store: &Store, us: &ReplicaName) -> anyhow::Result<(Election, Standing)> {
    let times = config.federation.leader;
    let timing = Timing { ttl: times.lease, renew: times.renew, stop_after: times.stop_after };
    let replica = Replica { replica: us.name.clone(), address: us.address.clone() };
    Ok(Election::new(store, replica, timing)?)
}

fn store_options(etcd: &config::Etcd) -> anyhow::Result<crate::store::Options> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let tls = match &etcd.tls {
        None => None,
        Some(files) => {
            let ca = files.ca.as_ref().ok_or_else(|| anyhow!("etcd.tls.ca is required"))?;
            let identity = files.identity.as_ref();
            Some(Tls {
                ca_pem: read(ca)?,
                cert_pem: identity.map(|identity| read(&identity.crt)).transpose()?,
                key_pem: identity.map(|identity| read(&identity.key)).transpose()?.map(Secret::new),
            })
        }
    };
    Ok(crate::store::Options {
        endpoints: etcd.endpoints.iter().map(|url| url.as_str().trim_end_matches('/').to_owned()).collect(),
        prefix: etcd.prefix.clone(),
        tls,
        user: etcd.login.clone().map(|(name, password)| User { name, password }),
        request_timeout: etcd.request_timeout,
    })
}

fn sealer(sealing: &config::Sealing) -> anyhow::Result<Sealer> {
    let keys = std::iter::once(&sealing.first)
        .chain(&sealing.rest)
        .map(|key| SealingKey { id: key.id.clone(), secret: key.key.clone().map(|bytes| bytes.to_vec()) });
    Ok(Sealer::new(keys.collect())?)
}

fn options(config: &Config) -> Options {
    Options {
        placement_deadline: config.federation.placement_deadline,
        tombstone_life: config.federation.tombstone_life,
    }
}

fn member_options(config: &Config) -> MemberOptions {
    let health = config.federation.health;
    MemberOptions {
        limits: ClientLimits::default(),
        health: HealthLimits {
            suspect_after: health.suspect_after,
            lost_after: health.lost_after,
            recover_after: health.recover_after,
            hold_down_max: health.hold_down_max,
        },
        probe_period: health.probe,
        probe_deadline: health.deadline,
        maintenance_name: config.manager.maintenance_config_map.clone(),
        ..MemberOptions::default()
    }
}

/// What namespaces get whose cluster file says nothing else; templates are read and checked here.
fn defaults(config: &Config, base: PathBuf) -> Result<Defaults, Vec<config::Problem>> {
    let manager = &config.manager;
    let mut problems = Vec::new();
    let mut classes = BTreeMap::new();
    for (id, class) in &manager.classes {
        match PodTemplates::read(&class.templates) {
            Ok(templates) => {
                classes.insert(id.to_string(), ClassSettings::new(class.clone(), &templates));
            }
            Err(error) => problems.push(config::Problem {
                path: format!("manager.workspaceClass.{id}.templates"),
                message: error.to_string(),
            }),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let timeouts = manager.timeouts;
    Ok(Defaults {
        classes,
        preferred_class: manager.preferred_class.clone(),
        url: manager.workspace_url.clone(),
        port_url: manager.port_url.clone(),
        host_url: manager.host_url.to_string(),
        workspace_cluster_host: manager.workspace_cluster_host.clone().unwrap_or_default(),
        workspace_host_path: manager.workspace_host_path.clone(),
        scheduler_name: manager.scheduler_name.clone().unwrap_or_default(),
        seccomp_profile: manager.seccomp_profile.clone(),
        registry_facade_host: manager.registry_facade_host.clone(),
        workspacekit: manager.workspacekit,
        heartbeat_interval: manager.heartbeat_interval,
        custom_ca: manager.custom_ssl_certificate,
        ssh_gateway_ca_public_key: manager.ssh_gateway_ca_public_key.clone(),
        timeouts: Timeouts {
            startup: timeouts.startup,
            initialization: timeouts.initialization,
            regular_workspace: timeouts.regular_workspace,
            max_lifetime: timeouts.max_lifetime,
            headless_workspace: timeouts.headless_workspace,
            after_close: timeouts.after_close,
            content_finalization: timeouts.content_finalization,
            stopping: timeouts.stopping,
            interrupted: timeouts.interrupted,
        },
        recreation: Recreation {
            max_retries: manager.pod_recreation.max_retries,
            backoff: manager.pod_recreation.backoff,
        },
        concurrency: manager.workspace_reconcilers,
        base,
    })
}
