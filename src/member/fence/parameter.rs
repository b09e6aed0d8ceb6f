//! The parameter of the fence: a ConfigMap in each namespace that holds the epoch.

use k8s_openapi::api::core::v1::ConfigMap;

use domain::epoch::Epoch;
use k8s::resources::names::FENCE;

/// Name of the parameter, a ConfigMap in each namespace, and prefix of the names of the policies.
pub const NAME: &str = FENCE;
/// Key of the epoch in the parameter.
pub(super) const KEY: &str = "epoch";

/// The epoch in a parameter; `None` if it holds none.
pub fn held_by(parameter: &ConfigMap) -> Option<Epoch> {
    parameter.data.as_ref()?.get(KEY)?.parse().ok()
}

/// A ConfigMap that holds an epoch.
pub(super) fn config_map(name: &str, epoch: String) -> ConfigMap {
    let mut object = ConfigMap { data: Some([(KEY.to_owned(), epoch)].into()), ..ConfigMap::default() };
    object.metadata.name = Some(name.to_owned());
    object
}
