//! Recognizes a cluster by its workspaces where its uid is not known.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::{Api, Client};

use domain::names::{ClusterName, Namespace};
use k8s::resources::Workspace;
use member::error::{Error, Result};
use member::pages;

/// Objects a page.
const PAGE: u32 = 500;

/// Whether `wanted` holds for a Workspace in these namespaces. A namespace that does not exist has none.
pub async fn has_workspace(
    cluster: &ClusterName,
    client: &Client,
    namespaces: &[Namespace],
    wanted: impl Fn(&Namespace, &ObjectMeta) -> bool,
) -> Result<bool> {
    for namespace in namespaces {
        let api = Api::<Workspace>::namespaced(client.clone(), namespace.as_str());
        let (mut page, mut count) = (ListParams::default().limit(PAGE), 0);
        loop {
            let listed = loop {
                let answer = api.list_metadata(&page).await;
                if !pages::shrink(&mut page, &answer) {
                    break answer;
                }
            };
            let list = listed.map_err(|error| Error::from_kube(cluster, "list Workspaces", error))?;
            count += list.items.len() + 1;
            if count > pages::MOST {
                let reason = format!("the list has more than {} objects", pages::MOST);
                let action = "list Workspaces".to_owned();
                return Err(Error::Ambiguous { cluster: cluster.clone(), action, reason });
            }
            if list.items.iter().any(|one| wanted(namespace, &one.metadata)) {
                return Ok(true);
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(false)
}
