//! Reads the configuration file, and derives what the crates need from it.

use std::path::{Path, PathBuf};

use super::options::{content_settings, defaults, host_source};
use super::templates;
use content::store::Settings;
use federation::Defaults;
use host::Source;
use runtime::config::{self, Config, Follower, Reading};

/// A configuration and what was read with it.
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) defaults: Defaults,
    pub(super) limits: api::Limits,
    pub(super) host: Option<Source>,
    /// The object store, if there is one.
    pub(super) content: Option<Settings>,
    pub(super) follower: Follower,
}

pub(super) fn load(path: &Path) -> Result<Loaded, config::Error> {
    let mut follower = Follower::new(path);
    let (config, (defaults, limits, (host, content))) = read(path, |reading| {
        let host = reading.check(host_source(reading.host_kubeconfig.clone()));
        // Where a key has a problem already, the whole would have another one.
        let storage = reading.storage.clone().filter(|_| reading.is_flawless());
        let content = reading.check(content_settings(storage.as_ref()));
        host.zip(content)
    })?;
    follower.also(template_files(&config));
    follower.below(config.manager.template_folder.as_deref());
    let limits = api::Limits::new(limits).map_err(|problems| config::Error::Invalid { problems })?;
    Ok(Loaded { config, defaults, limits, host, content, follower })
}

/// Reads the configuration, what crates derive from it, and what is needed `besides`; or returns all problems together.
pub(super) fn read<T>(
    path: &Path,
    besides: impl FnOnce(&mut Reading) -> Option<T>,
) -> Result<(Config, (Defaults, api::CheckedLimits, T)), config::Error> {
    let mut reading = Config::read(path, templates::check)?;
    let made = reading.manager.clone().map(|manager| defaults(&manager, reading.is_flawless()));
    let defaults = made.and_then(|made| reading.check(made));
    let limits = reading.check(api::CheckedLimits::new(&reading.rate_limits));
    let besides = besides(&mut reading);
    let made = defaults.zip(limits).zip(besides);
    reading.finish(made.map(|((defaults, limits), besides)| (defaults, limits, besides)))
}

pub(super) fn template_files(config: &Config) -> Vec<PathBuf> {
    config.manager.classes.values().flat_map(|class| class.templates.files().cloned()).collect()
}

#[cfg(test)]
mod tests;
