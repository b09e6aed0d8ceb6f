//! Resources, as the watches of member clusters report them.

use std::cmp::Ordering;
use std::sync::Arc;

use super::ends::last_was_the_end;
use super::state::{Index, Inner, Key, LOOK, Resource, Session};
use crate::view::events::Event;
use domain::names::{ClusterName, Namespace, WorkspaceId};
use domain::record::status_version;
use domain::workspace::{Phase, View};

impl Index {
    /// Takes a resource as a cluster's watch shows it. A known version is not published, even if the view differs, as it
    /// does after the configuration changed: clients take equal versions for equal states. Neither is an older one.
    pub fn resource(&self, session: &Session, view: View) {
        self.change(|inner| {
            if inner.is_current(session) {
                self.take_view(inner, session, view);
            }
        });
    }

    fn take_view(&self, inner: &mut Inner, session: &Session, view: View) {
        let cluster = session.cluster();
        let key = (view.id.clone(), cluster.clone(), view.namespace.clone());
        let rewinds = inner.rewinds_on(cluster);
        let known = inner.resources.get_mut(&key);
        if let Some(known) = known {
            let is_first = std::mem::replace(&mut known.session, session.number()) != session.number();
            if known.view.uid == view.uid && known.rewinds >= rewinds {
                match view.resource_version.cmp(&known.view.resource_version) {
                    Ordering::Less => return inner.park(key, view, is_first),
                    Ordering::Equal => return,
                    Ordering::Greater => {}
                }
            }
        }
        let known = inner.resources.get(&key);
        let silent = known.is_some_and(|known| known.view.same_but_for_activity(&view));
        let sequence = known.map_or(0, |known| known.sequence);
        let is_ending = matches!(view.phase, Phase::Stopping | Phase::Stopped | Phase::Unknown);
        let reached = known.filter(|_| is_ending).map_or(view.phase, |known| known.reached);
        let session = session.number();
        let resource = Resource { view: Arc::new(view.into()), sequence, rewinds, reached, session };
        inner.resources.insert(key.clone(), resource);
        // It is there again.
        inner.endings.remove(&key.0);
        inner.note_stray(&key);
        inner.parked.remove(&key);
        if !silent {
            self.stir(inner, &key.1);
            self.announce(inner, &key);
        }
    }

    /// Takes the disappearance of a resource. Where its end was not shown yet, it is shown now, with this message.
    pub fn resource_gone(&self, session: &Session, namespace: &Namespace, id: &WorkspaceId, message: String) {
        self.change(|inner| {
            if inner.is_current(session) {
                self.end(inner, &(id.clone(), session.cluster().clone(), namespace.clone()), message);
            }
        });
    }

    pub(super) fn end(&self, inner: &mut Inner, key: &Key, message: String) {
        let Some(last) = inner.take_resource(key) else { return };
        inner.obstacles.remove(key);
        inner.note_stray(key);
        inner.parked.remove(key);
        self.stir(inner, &key.1);
        let Some(generation) = inner.generation_at(key, &last) else { return };
        inner.note_ending(&key.0, &last, &message);
        let (version, view) = if last.view.phase == Phase::Stopped {
            (status_version(generation, last.view.resource_version), last.view)
        } else {
            // Above all versions of this generation and the same on every replica.
            let held = String::new();
            let ended =
                View { phase: Phase::Stopped, deleting: true, message, held, ..View::clone(&last.view) };
            (status_version(generation, u64::MAX), Arc::new(ended.into()))
        };
        let seen = inner.seen(&key.1, view, version);
        let shown = last.sequence != 0 && last_was_the_end(&seen, version, generation);
        let event = inner.ended(seen);
        if shown {
            self.events.publish_again(event, last.sequence);
        } else {
            self.events.publish(event);
        }
    }

    /// Publishes the present state of every workspace of a cluster again, a few under one lock.
    pub(super) fn announce_all(&self, cluster: &ClusterName) {
        let mut after = None;
        loop {
            let keys = self.change(|inner| {
                let keys = inner.keys_after(after.as_ref());
                for key in keys.iter().filter(|(_, at, _)| at == cluster) {
                    self.announce(inner, key);
                }
                keys
            });
            match keys.into_iter().nth(LOOK - 1) {
                Some(last) => after = Some(last),
                None => return,
            }
        }
    }

    /// Publishes the present state of a resource, where it belongs.
    pub(super) fn announce(&self, inner: &mut Inner, key: &Key) {
        let Some(seen) = inner.visible(key) else { return };
        inner.sequence += 1;
        let sequence = inner.sequence;
        if let Some(resource) = inner.resources.get_mut(key) {
            let before = std::mem::replace(&mut resource.sequence, sequence);
            inner.by_sequence.remove(&before);
            inner.by_sequence.insert(sequence, key.clone());
        }
        self.events.publish(Event { sequence, seen });
    }
}
