//! The configuration in the terms of each room.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};

use crate::cluster::MemberOptions;
use crate::cluster::client::CallMeters;
use crate::cluster::client::Limits as ClientLimits;
use crate::cluster::host::{self, Host, Source};
use crate::controller::{ClassSettings, PodTemplates, Recreation, Timeouts};
use crate::domain::health::Limits as HealthLimits;
use crate::domain::names::Namespace;
use crate::domain::secret::Secret;
use crate::federation::{Defaults, Options};
use crate::runtime::config::{self, Config};
use crate::store::{Sealer, SealingKey, Tls, User};

/// For events where neither the configuration nor the pod names a namespace.
const DEFAULT_NAMESPACE: &str = "spaceport";

pub(super) fn store_options(etcd: &config::Etcd) -> anyhow::Result<crate::store::Options> {
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

pub(super) fn sealer(sealing: &config::Sealing) -> anyhow::Result<Sealer> {
    let keys = std::iter::once(&sealing.first)
        .chain(&sealing.rest)
        .map(|key| SealingKey { id: key.id.clone(), secret: key.key.clone().map(|bytes| bytes.to_vec()) });
    Ok(Sealer::new(keys.collect())?)
}

/// How the cluster is reached that the manager runs in, where there is a way; checked here.
pub(super) fn host_source(config: &Config) -> Result<Option<Source>, Vec<config::Problem>> {
    let file = config.federation.host_kubeconfig.clone();
    let absent = if file.is_some() { "" } else { "is absent, and the pod's service account does not do: " };
    let Some(source) = Source::find(file) else { return Ok(None) };
    host::check(&source).map_err(|error| {
        let path = "federation.hostKubeconfig".to_owned();
        vec![config::Problem { path, message: format!("{absent}{}", error.cause()) }]
    })?;
    Ok(Some(source))
}

/// Events go into the namespace that is configured, or else the pod's own.
pub(super) fn open_host(config: &Config, source: Source) -> anyhow::Result<Host> {
    let own = source.namespace().and_then(|name| name.parse().ok());
    let namespace = config.federation.host_namespace.clone().or(own);
    let namespace = namespace.map_or_else(|| DEFAULT_NAMESPACE.parse::<Namespace>(), Ok)?;
    Ok(Host::open(source, namespace)?)
}

pub(super) fn options(config: &Config) -> Options {
    Options {
        placement_deadline: config.federation.placement_deadline,
        tombstone_life: config.federation.tombstone_life,
        leftover_age: config.federation.leftover_age,
        image_builder: config.image_builder_proxy.target.as_ref().map(ToString::to_string),
    }
}

pub(super) fn member_options(config: &Config, calls: CallMeters) -> MemberOptions {
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
        maintenance_name: config.manager.maintenance_config_map.clone(),
        calls: Some(calls),
    }
}

/// What namespaces get whose cluster file says nothing else; templates are read and checked here.
pub(super) fn defaults(config: &Config, base: PathBuf) -> Result<Defaults, Vec<config::Problem>> {
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
