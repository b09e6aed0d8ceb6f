//! Applies a changed configuration to connected member clusters.

use std::sync::Arc;

use super::connected::Connected;
use super::members::Fleet;
use super::settings::{Defaults, Settings};
use super::slot::{Broken, Slot};

impl Fleet {
    /// Takes what the configuration says from now on for namespaces, without connecting anew. A namespace whose
    /// settings do not resolve any more keeps those it has; what is wrong with them is answered. What clients see of a
    /// workspace changes with the workspace's next change: docs/decisions/011-one-state-a-version.md.
    ///
    /// Registrations that could not be used are retried.
    pub fn reload(self: &Arc<Self>, defaults: Defaults) -> Vec<String> {
        let _alone = self.changing.lock();
        let defaults = Arc::new(defaults);
        self.connector.options.defaults.store(Arc::clone(&defaults));
        let connected = self.connected();
        let mut problems: Vec<String> =
            connected.iter().flat_map(|connected| connected.reload(&defaults)).collect();
        problems.extend(self.broken().iter().filter_map(|broken| self.mend(broken).err()));
        self.slots.notify();
        problems
    }

    /// Connects a registration that could not be used before; why it still cannot be.
    fn mend(self: &Arc<Self>, broken: &Broken) -> Result<(), String> {
        // What cannot be unsealed, or was not read yet, does not depend on the configuration of namespaces.
        let registration = broken.registration.clone().filter(|_| !broken.is_waiting());
        let Some(registration) = registration else { return Ok(()) };
        let name = broken.spec.name.clone();
        let connected = self.connector.connect(registration).map_err(|reason| {
            self.index.disconnected(&name, None);
            format!("cluster {name}: {reason}")
        })?;
        tracing::info!(cluster = %name, "its registration can be used now");
        self.replace(&name, Slot::Connected(connected));
        Ok(())
    }
}

impl Connected {
    pub(super) fn reload(&self, defaults: &Defaults) -> Vec<String> {
        let mut problems = Vec::new();
        for spec in &self.spec().namespaces {
            let Some(place) = self.places.get(&spec.namespace) else { continue };
            match Settings::resolve(spec, defaults) {
                Ok(settings) => {
                    // The controller first: it must know a class before a workspace of it can come.
                    place.controlled.store(Arc::new(settings.controller.clone()));
                    self.count_shapes(&spec.namespace, &settings);
                    place.settings.store(Arc::new(settings));
                    place.controller.enqueue_all();
                }
                Err(wrong) => {
                    let of_cluster = |problem| format!("cluster {}, {problem}", self.member.name());
                    problems.extend(wrong.into_iter().map(of_cluster));
                }
            }
        }
        problems
    }
}
