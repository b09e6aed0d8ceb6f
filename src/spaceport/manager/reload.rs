//! Following the configuration file.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{read, template_files};
use federation::fleet::Fleet;
use runtime::config::{self, Follower};
use runtime::files::READ_WITHIN;
use runtime::readiness::Readiness;

/// Between looks at the configuration file.
const LOOK: Duration = Duration::from_secs(2);
/// Under this name `/readyz` tells of a configuration that is not in force.
const CONFIGURATION: &str = "configuration";
/// And of one that cannot be read now.
const UNREAD: &str = "configuration-files";

/// Takes changes of the configuration file into force while the manager runs; a file that is wrong changes nothing.
pub(super) struct Reload {
    pub(super) follower: Follower,
    pub(super) fleet: Arc<Fleet>,
    pub(super) limits: Arc<api::Limits>,
    pub(super) readiness: Readiness,
    /// What is read once.
    pub(super) at_start: (config::Groups, String),
}

impl Reload {
    pub(super) async fn run(mut self, shutdown: CancellationToken) -> Result<(), tokio::task::JoinError> {
        while shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let readiness = self.readiness.clone();
            let mut looking = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            let within = tokio::time::timeout(READ_WITHIN, &mut looking);
            let looked = match shutdown.run_until_cancelled(within).await {
                Some(Ok(looked)) => Some(looked),
                Some(Err(_)) => {
                    let told = "its files were not read in time: does their file system hang?";
                    tracing::error!(within = ?READ_WITHIN, "{told} The last good configuration stays in force");
                    readiness.degrade(UNREAD, told);
                    // Not read by another thread meanwhile, which would hang as well.
                    shutdown.run_until_cancelled(looking).await
                }
                None => None,
            };
            readiness.recover(UNREAD);
            match looked {
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
        let (config, (defaults, limits, ())) = match read(self.follower.main(), |_| Some(())) {
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
