//! Server-side apply of YAML with objects of any kind.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams},
    discovery::{ApiCapabilities, ApiResource, Discovery, Scope},
    runtime::{conditions::is_crd_established, wait::await_condition},
};
use tokio::time::{Instant, sleep, timeout};

const ESTABLISHED: Duration = Duration::from_secs(20);
const SERVED: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(100);

/// Applies every document of a YAML file.
pub async fn apply_file(client: &Client, path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    apply_text(client, &text).await.with_context(|| format!("cannot apply {}", path.display()))
}

/// Applies every document of a YAML text, in order. Returns once each CustomResourceDefinition among them is served.
pub async fn apply_text(client: &Client, text: &str) -> Result<()> {
    let documents: Vec<Option<DynamicObject>> =
        serde_saphyr::from_multiple(text).context("not YAML of objects")?;
    let mut discovery = None;
    for object in documents.into_iter().flatten() {
        let name = object.name_any();
        let kind = object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
        let what = format!("{kind} {name}");
        let (resource, capabilities) =
            resolve(client, &mut discovery, &object).await.with_context(|| what.clone())?;
        let api = api_for(client, &resource, &capabilities, object.namespace().as_deref());
        let params = PatchParams::apply("e2e").force();
        api.patch(&name, &params, &Patch::Apply(&object))
            .await
            .with_context(|| format!("cannot apply {what}"))?;
        if kind == "CustomResourceDefinition" {
            await_established(client, &name).await?;
            discovery = None;
        }
    }
    Ok(())
}

/// Discovers the kind; retries for a while, because a new CRD is listed shortly after it is established.
async fn resolve(
    client: &Client,
    discovery: &mut Option<Discovery>,
    object: &DynamicObject,
) -> Result<(ApiResource, ApiCapabilities)> {
    let until = Instant::now() + SERVED;
    loop {
        let known = match discovery.take() {
            Some(known) => known,
            None => Discovery::new(client.clone())
                .run_aggregated()
                .await
                .context("cannot list the API's kinds")?,
        };
        if let Some(found) = known.resolve_object(object) {
            *discovery = Some(known);
            return Ok(found);
        }
        if Instant::now() > until {
            bail!("the API server does not know {:?}", object.types);
        }
        sleep(AGAIN).await;
    }
}

fn api_for(
    client: &Client,
    resource: &ApiResource,
    can: &ApiCapabilities,
    namespace: Option<&str>,
) -> Api<DynamicObject> {
    match can.scope {
        Scope::Cluster => Api::all_with(client.clone(), resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace.unwrap_or("default"), resource),
    }
}

async fn await_established(client: &Client, name: &str) -> Result<()> {
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    timeout(ESTABLISHED, await_condition(crds, name, is_crd_established()))
        .await
        .map_err(|_| anyhow!("CustomResourceDefinition {name} is not established after {ESTABLISHED:?}"))?
        .with_context(|| format!("cannot watch CustomResourceDefinition {name}"))?;
    Ok(())
}
