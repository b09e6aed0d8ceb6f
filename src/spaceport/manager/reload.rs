//! Reloads the configuration file.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::configuration::{read, template_files};
use federation::fleet::Fleet;
use runtime::config::{self, Follower};
use runtime::files::READ_WITHIN;
use runtime::readiness::Readiness;

/// Poll interval of the configuration file.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Entry of `/readyz` for an invalid configuration.
const CONFIGURATION: &str = "configuration";
/// Entry of `/readyz` for a configuration that cannot be read.
const UNREAD: &str = "configuration-files";

/// Applies changes of the configuration file while the manager runs; an invalid file changes nothing.
pub(super) struct Reload {
    pub(super) follower: Follower,
    pub(super) fleet: Arc<Fleet>,
    pub(super) limits: Arc<api::Limits>,
    pub(super) readiness: Readiness,
    /// Settings that are read only at the start.
    pub(super) at_start: (config::Groups, String),
}

impl Reload {
    pub(super) async fn run(mut self, shutdown: CancellationToken) -> Result<(), tokio::task::JoinError> {
        while shutdown.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await.is_some() {
            let readiness = self.readiness.clone();
            let mut polling = tokio::task::spawn_blocking(move || {
                self.poll();
                self
            });
            let within = tokio::time::timeout(READ_WITHIN, &mut polling);
            let polled = match shutdown.run_until_cancelled(within).await {
                Some(Ok(polled)) => Some(polled),
                Some(Err(_)) => {
                    let problem = "its files were not read in time: does their file system hang?";
                    tracing::error!(within = ?READ_WITHIN, "{problem} Keeping the previous configuration.");
                    readiness.degrade(UNREAD, problem);
                    // Do not start another thread meanwhile: it would hang too.
                    shutdown.run_until_cancelled(polling).await
                }
                None => None,
            };
            readiness.recover(UNREAD);
            match polled {
                Some(polled) => self = polled?,
                None => break,
            }
        }
        Ok(())
    }

    fn poll(&mut self) {
        if !self.follower.changed() {
            return;
        }
        let (config, (defaults, limits, ())) = match read(self.follower.main(), |_| Some(())) {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "invalid configuration; keeping the previous one");
                // Without the problems: a caller of readiness may not be allowed to read them.
                self.readiness
                    .degrade(CONFIGURATION, "invalid configuration, see the log; keeping the previous one");
                return;
            }
        };
        self.follower.also(template_files(&config));
        self.follower.below(config.manager.template_folder.as_deref());
        let (groups, maintenance) = &self.at_start;
        let mut restart = groups.differing(&config.groups);
        restart.retain(|group| !matches!(*group, "manager" | config::RATE_LIMITS));
        if *maintenance != config.manager.maintenance_config_map {
            restart.push("manager.maintenanceConfigMap");
        }
        if !restart.is_empty() {
            tracing::warn!(
                groups = restart.join(", "),
                "changed, and read at the start only: restart this manager"
            );
        }
        self.limits.replace(limits);
        let problems = self.fleet.reload(defaults);
        for problem in &problems {
            tracing::error!(problem, "invalid settings; a namespace keeps its previous ones");
        }
        if problems.is_empty() {
            self.readiness.recover(CONFIGURATION);
        } else {
            self.readiness
                .degrade(CONFIGURATION, "some namespaces keep their previous settings, see the log");
        }
        tracing::info!("a changed configuration is in force");
    }
}
