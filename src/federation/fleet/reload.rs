//! A changed configuration comes into force in members that are in use.

use std::sync::Arc;

use crate::federation::settings::{Defaults, Settings};

use super::{Connected, Fleet};

impl Fleet {
    /// Takes what the configuration says from now on for namespaces, without connecting anew. A namespace whose
    /// settings do not resolve any more keeps those it has; what is wrong with them is answered.
    pub fn reload(&self, defaults: Defaults) -> Vec<String> {
        let _alone = self.changing.lock();
        let defaults = Arc::new(defaults);
        self.options.defaults.store(Arc::clone(&defaults));
        let connected = self.connected();
        let problems = connected.iter().flat_map(|connected| connected.reload(&defaults)).collect();
        self.changes.send_replace(());
        problems
    }
}

impl Connected {
    pub(super) fn reload(&self, defaults: &Defaults) -> Vec<String> {
        let mut problems = Vec::new();
        for spec in &self.spec.load().namespaces {
            let Some(place) = self.places.get(&spec.namespace) else { continue };
            match Settings::resolve(spec, defaults) {
                Ok(settings) => {
                    // The controller first: it must know a class before a workspace of it can come.
                    place.controlled.store(Arc::new(settings.controller.clone()));
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
