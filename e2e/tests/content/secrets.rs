//! Planted secrets are found in no output, no process list and no file.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use base64::Engine as _;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, ResourceExt as _};

use super::stage::{PASSWORD, Stage, USER};

/// A place and its text.
pub type Text = (String, Vec<u8>);

/// Arguments and environment of all processes of a node.
pub fn processes(stage: &Stage, cluster: usize) -> Result<Vec<Text>> {
    let mut found = Vec::new();
    for (pid, name) in stage.cluster(cluster)?.real_node()?.traces().processes() {
        for file in ["cmdline", "environ"] {
            // It may have ended meanwhile.
            if let Ok(text) = fs::read(format!("/proc/{pid}/{file}")) {
                found.push((format!("{file} of process {pid} ({name})"), text));
            }
        }
    }
    Ok(found)
}

/// Logs, metrics, the agents' files on their nodes, the files of all workspaces that are there, resources and events.
pub async fn everything(stage: &Stage) -> Result<Vec<Text>> {
    let mut found = Vec::new();
    for (at, agent) in stage.agents.iter().enumerate() {
        found.push((format!("log of agent {at}"), fs::read(agent.log())?));
        found.push((format!("metrics of agent {at}"), agent.metrics().await?.into_bytes()));
        files(&agent.path("")?, &mut found);
        for (group, version, kind) in [
            ("workspace.gitpod.io", "v1", "Workspace"),
            ("workspace.gitpod.io", "v1", "Snapshot"),
            ("", "v1", "Event"),
        ] {
            let resource = ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, kind));
            let api = Api::<DynamicObject>::namespaced_with(
                agent.cluster().client(),
                &stage.story.namespace,
                &resource,
            );
            for object in api.list(&ListParams::default()).await? {
                found.push((format!("{kind} {}", object.name_any()), serde_json::to_vec(&object)?));
            }
        }
    }
    for replica in &stage.story.replicas {
        found.push((format!("log of {}", replica.name), fs::read(replica.process.log())?));
    }
    Ok(found)
}

fn files(folder: &Path, found: &mut Vec<Text>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            // The random files are nobody's text.
            Ok(kind) if kind.is_file() && entry.metadata().is_ok_and(|meta| meta.len() < 1 << 20) => {
                found.extend(fs::read(&path).ok().map(|text| (path.display().to_string(), text)));
            }
            _ => {}
        }
    }
}

/// Fails if a text has the password of the git server or the secret key of the store, plain or encoded.
pub fn planted(stage: &Stage, texts: &[Text]) -> Result<()> {
    let secret_key = &stage.server.login().secret_key;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let percent = PASSWORD.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
    for secret in [PASSWORD, secret_key, &encoded, &percent] {
        for (place, text) in texts {
            if text.windows(secret.len()).any(|part| part == secret.as_bytes()) {
                bail!("{place} has a secret");
            }
        }
    }
    Ok(())
}
