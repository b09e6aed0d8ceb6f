//! Wires the node agent together.

pub mod metrics;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use content::store::{Format as ArchiveFormat, PrunePolicy, Store};
use node::agent::{Agent, Cluster, Meters, TokenSecrets, install_tls};
use node::config::Config;
use node::helper::Helper;
use node::operations::{Deadlines, Excludes, Operations, Retry, Settings};
use runtime::admin::Admin;
use runtime::config::{ContentFormat, EXIT_CODE};
use runtime::connections::ConnectionMeters;
use runtime::readiness::Readiness;
use runtime::shutdown::{Supervisor, signals};
use runtime::telemetry::{self, Format};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

/// Grace period for everything after the operations have ended or were interrupted.
const DRAIN: Duration = Duration::from_secs(15);
/// Grace period for threads that cannot be interrupted.
const LAST: Duration = Duration::from_secs(1);

/// Runs the agent until a signal. Exit code 64: the configuration is invalid.
pub fn run(path: &Path, json_log: bool, verbose: bool) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("spaceport: {:#}", anyhow!(error));
            return ExitCode::from(EXIT_CODE);
        }
    };
    let outcome =
        Builder::new_multi_thread().enable_all().build().context("cannot start the runtime").and_then(
            |runtime| {
                let outcome = runtime.block_on(serve(config, json_log, verbose));
                runtime.shutdown_timeout(LAST);
                outcome
            },
        );
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spaceport: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config, json_log: bool, verbose: bool) -> anyhow::Result<()> {
    let filter = if verbose { "info,spaceport=debug" } else { "info" };
    let log_filter = telemetry::init(if json_log { Format::Json } else { Format::Text }, filter)?;
    install_tls();
    let (readiness, meters, connections) = (Readiness::default(), Meters::new()?, ConnectionMeters::new()?);
    let registry = metrics::registry(&meters, &readiness, &connections)?;
    let admin = Admin { readiness: readiness.clone(), registry, log_filter, meters: connections };
    let admin = admin.bind(config.health, config.prometheus).await?;
    let admin_token = CancellationToken::new();
    let admin = tokio::spawn(admin.serve(admin_token.clone()));
    let cluster = Cluster::connect(&config).await?;
    let operations = operations(&config, &cluster).await?;
    let shutdown = CancellationToken::new();
    let signals = signals()?;
    let mut supervisor = Supervisor::new(shutdown.clone());
    tracing::info!(node = config.node, "spaceport node agent");
    let grace = config.deadlines.shutdown + DRAIN;
    let closing = readiness.clone();
    Agent { config, cluster, operations, meters, readiness }.spawn(&mut supervisor);
    let token = shutdown.clone();
    tokio::spawn(async move {
        token.cancelled().await;
        closing.close();
    });
    let outcome = supervisor.run(grace, signals).await;
    admin_token.cancel();
    if admin.await.is_err() {
        tracing::error!("the admin server panicked");
    }
    Ok(outcome?)
}

async fn operations(config: &Config, cluster: &Cluster) -> anyhow::Result<Operations> {
    let store = Store::open(&config.storage).await.context("content.storage")?.with_limits(config.upload);
    let secrets = Arc::new(TokenSecrets::new(cluster.clone(), &config.namespaces));
    let (deadlines, retry) = (config.deadlines, config.backup_retry);
    let settings = Settings {
        host_path: config.host_path.clone(),
        node: config.node.clone(),
        quota: config.quota.backend,
        format: match config.format {
            ContentFormat::Tar => ArchiveFormat::Tar,
            ContentFormat::Zst => ArchiveFormat::Zst,
        },
        excludes: Excludes { all: config.excludes.all.clone(), classes: config.excludes.classes.clone() },
        deadlines: Deadlines {
            initialize: deadlines.initialize,
            backup: deadlines.backup,
            snapshot: deadlines.snapshot,
        },
        retry: Retry { first: retry.first, most: retry.most, give_up: retry.give_up },
        pruning: PrunePolicy { keep: config.pruning.keep, age: config.pruning.age },
    };
    Ok(Operations::open(settings, Helper::new(config.helper.clone()), store, secrets).await?)
}
