//! Converts the configuration to the options of each crate.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};

use super::templates;
use controller::{ClassSettings, PodTemplates};
use domain::cluster::NamespaceSpec;
use domain::health::Limits as HealthLimits;
use domain::manager::Manager;
use domain::names::Namespace;
use domain::placement::one_try;
use domain::secret::Secret;
use federation::{self, Defaults, Options, vet};
use host::{Host, Source};
use member::MemberOptions;
use member::client::CallMeters;
use member::client::Limits as ClientLimits;
use member::tasks::TaskMeters;
use runtime::config::{self, Config};
use runtime::files;
use store::{Sealer, SealingKey, Tls, User};

/// Namespace of events if neither the configuration nor the pod names one.
const DEFAULT_NAMESPACE: &str = "spaceport";

pub(super) fn store_options(etcd: &config::Etcd) -> anyhow::Result<store::Options> {
    let read = |path: &PathBuf| {
        let reading = || format!("etcd.tls: cannot read {}", path.display());
        files::read_text(path, files::LARGEST).with_context(reading)
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
    Ok(store::Options {
        endpoints: etcd.endpoints.iter().map(|url| url.as_str().trim_end_matches('/').to_owned()).collect(),
        prefix: etcd.prefix.clone(),
        tls,
        user: etcd.login.clone().map(|(name, password)| User { name, password }),
        request_timeout: etcd.request_timeout,
    })
}

pub(super) fn sealer(sealing: &config::Sealing) -> anyhow::Result<Sealer> {
    let keys = std::iter::once(&sealing.first)
        .chain(&sealing.rest)
        .map(|key| SealingKey { id: key.id.clone(), secret: key.key.clone().map(|bytes| bytes.to_vec()) });
    Ok(Sealer::new(keys.collect())?)
}

/// The object store, if there is one. It is opened when it is first used.
pub(super) fn content_settings(
    storage: Option<&config::Storage>,
) -> Result<Option<content::store::Settings>, Vec<config::Problem>> {
    let read = storage.map(|storage| content::store::Settings::read(&storage.settings)).transpose();
    read.map_err(|error| {
        let message = error.to_string();
        let message = message.strip_prefix("content.storage: ").unwrap_or(&message).to_owned();
        vec![config::Problem { path: "content.storage".to_owned(), message }]
    })
}

/// How to reach the host cluster, if there is a way; validated here.
pub(super) fn host_source(file: Option<PathBuf>) -> Result<Option<Source>, Vec<config::Problem>> {
    let absent = if file.is_some() { "" } else { "is absent, and the pod's service account does not do: " };
    let Some(source) = Source::find(file) else { return Ok(None) };
    host::check(&source, files::read).map_err(|error| {
        let path = "federation.hostKubeconfig".to_owned();
        vec![config::Problem { path, message: format!("{absent}{}", error.cause()) }]
    })?;
    Ok(Some(source))
}

/// Events go into the configured namespace, otherwise into the pod's own.
pub(super) fn open_host(config: &Config, source: Source) -> anyhow::Result<Host> {
    let own = source.namespace().and_then(|name| name.parse().ok());
    let namespace = config.federation.host_namespace.clone().or(own);
    let namespace = namespace.map_or_else(|| DEFAULT_NAMESPACE.parse::<Namespace>(), Ok)?;
    Ok(Host::open(source, namespace, files::read)?)
}

pub(super) fn options(config: &Config) -> Options {
    Options {
        placement_deadline: config.federation.placement_deadline,
        tombstone_life: config.federation.tombstone_life,
        leftover_age: config.federation.leftover_age,
        image_builder: config.image_builder_proxy.target.as_ref().map(ToString::to_string),
    }
}

pub(super) fn member_options(config: &Config, calls: CallMeters, tasks: TaskMeters) -> MemberOptions {
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
        canary_period: health.canary,
        try_within: one_try(config.federation.placement_deadline),
        maintenance_name: config.manager.maintenance_config_map.clone(),
        calls: Some(calls),
        tasks: Some(tasks),
        object_bytes: config.federation.object_bytes,
    }
}

/// Defaults of namespaces whose cluster file sets nothing else; reads and checks templates. Templates of classes with
/// problems in the configuration are reported there already.
pub(super) fn defaults(manager: &Manager, is_flawless: bool) -> Result<Defaults, Vec<config::Problem>> {
    let mut problems = Vec::new();
    let mut classes = BTreeMap::new();
    for (id, class) in &manager.classes {
        match PodTemplates::of(&class.templates, templates::read) {
            Ok(templates) => {
                classes.insert(id.to_string(), ClassSettings::new(class.clone(), &templates));
            }
            Err(error) if is_flawless => problems.push(config::Problem {
                path: format!("manager.workspaceClass.{id}.templates"),
                message: error.to_string(),
            }),
            Err(_) => {}
        }
    }
    let templates = templates::read_folder(manager.template_folder.as_deref());
    let templates = templates.map_err(|problem| problems.push(problem)).unwrap_or_default();
    let defaults = Defaults { manager: manager.clone(), classes, templates: Arc::new(templates) };
    problems.extend(unfit_templates(manager, &defaults));
    if problems.is_empty() { Ok(defaults) } else { Err(problems) }
}

/// Classes whose templates make pods that every apiserver rejects.
fn unfit_templates(manager: &Manager, defaults: &Defaults) -> Vec<config::Problem> {
    let (namespace, secrets) = (manager.namespace.clone(), manager.secrets_namespace.clone());
    let problems = vet(&NamespaceSpec::of_defaults(namespace, secrets), defaults).into_iter();
    let of_class = |problem: federation::Problem| {
        let class = problem.field.strip_prefix("classes.")?;
        Some(config::Problem { path: format!("manager.workspaceClass.{class}"), message: problem.message })
    };
    problems.filter_map(of_class).collect()
}
