//! Tests a cluster's fence from outside.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http::{HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::time::{Instant, sleep};

use super::{Cluster, spaceport::NAMESPACE};

/// Timeout until a cluster enforces new policies.
const FENCED: Duration = Duration::from_secs(30);

/// A client that acts as user `spaceport` and sends an epoch, or none.
pub async fn as_spaceport(cluster: &Cluster, epoch: Option<&str>) -> Result<Client> {
    as_user(cluster, "spaceport", epoch).await
}

/// A client that acts as a user and sends an epoch, or none.
pub async fn as_user(cluster: &Cluster, user: &'static str, epoch: Option<&str>) -> Result<Client> {
    let read = Kubeconfig::read_from(cluster.kubeconfig()).context("cannot read the kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    let user = (HeaderName::from_static("impersonate-user"), HeaderValue::from_static(user));
    config.headers.push(user);
    if let Some(epoch) = epoch {
        let name = HeaderName::from_static("impersonate-extra-spaceport.dev%2fepoch");
        config.headers.push((name, HeaderValue::from_str(epoch)?));
    }
    Client::try_from(config).context("cannot make a client")
}

/// Waits until the cluster rejects writes without an epoch: policies take effect some time after their creation.
pub async fn in_force(cluster: &Cluster) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(as_spaceport(cluster, None).await?, NAMESPACE);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let give_up = Instant::now() + FENCED;
    for name in ["probe", "spaceport-fence"] {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.to_owned());
        loop {
            match maps.create(&dry, &map).await {
                Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => {
                    break;
                }
                answer if Instant::now() > give_up => {
                    bail!("the fence of {} is not enforced: {answer:?}", cluster.name());
                }
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
    }
    Ok(())
}
