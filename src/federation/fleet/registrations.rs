//! Takes registrations as etcd has them: new, changed and removed ones.

use std::sync::Arc;

use jiff::Timestamp;

use super::logins::LoginState;
use super::members::Fleet;
use super::slot::{Broken, Slot};
use domain::cluster::ClusterSpec;
use domain::names::ClusterName;
use domain::secret::Secret;
use onboarding::checks;
use store::{NewCluster, Registration};

impl Fleet {
    /// Takes a registration that is new or changed, as the mirror reports it. What can be changed in place is; anything else
    /// connects anew. Where the kubeconfig is in a Secret, the login in use goes on until that was read.
    pub fn put(self: &Arc<Self>, registration: Registration) {
        let _alone = self.changing.lock();
        self.take(registration);
    }

    /// Takes what was just written of a member in use, as its mirror will in a moment. `login`: what was written with another
    /// kubeconfig. One that is gone by now stays so.
    pub fn put_written(self: &Arc<Self>, spec: ClusterSpec, version: i64, login: Option<NewCluster>) {
        let _alone = self.changing.lock();
        let Some(Slot::Connected(connected)) = self.slots.get(&spec.name) else { return };
        let known = Registration::from(&*connected.in_use());
        self.take(if let Some(NewCluster { api_server, kubeconfig, cluster_uid, .. }) = login {
            Registration { spec, api_server, kubeconfig, cluster_uid, version }
        } else {
            let kubeconfig = known.kubeconfig.filter(|_| spec.kubeconfig_secret.is_none());
            Registration { spec, kubeconfig, version, ..known }
        });
    }

    /// To be called while `changing` is held.
    fn take(self: &Arc<Self>, mut registration: Registration) {
        let name = registration.spec.name.clone();
        let present = self.slots.get(&name);
        if present.as_ref().is_some_and(|slot| slot.is_ahead_of(registration.version)) {
            return;
        }
        let known = self.slots.registration(&name).filter(|known| known.is_of_same_cluster(&registration));
        if known.is_none() {
            // What was read before was for another cluster.
            self.logins.forget(&name);
        }
        self.keep_login(&name, registration.spec.kubeconfig_secret.as_ref());
        if let Some(Slot::Connected(connected)) = &present
            && (known.is_some() || registration.kubeconfig.is_some())
            && connected.take(&registration, &self.connector.options.defaults.load())
        {
            connected.tell();
            self.slots.notify();
            return;
        }
        if registration.kubeconfig.is_none() {
            registration.kubeconfig = known.and_then(|known| known.kubeconfig);
        }
        self.join(registration);
    }

    /// Connects a registration, or shows why that cannot be. To be called while `changing` is held.
    pub(super) fn join(self: &Arc<Self>, registration: Registration) {
        let name = registration.spec.name.clone();
        let (kind, reason) = match registration.kubeconfig {
            None => self.missing_login(&name),
            Some(_) => match self.connector.connect(registration.clone()) {
                Ok(connected) => return self.replace(&name, Slot::Connected(connected)),
                Err(reason) => ("Registration", reason),
            },
        };
        let (spec, api_server) = (registration.spec.clone(), registration.api_server.clone());
        let (version, since, registration) = (registration.version, Timestamp::now(), Some(registration));
        self.break_down(Broken { spec, api_server, version, kind, reason, since, registration });
    }

    fn missing_login(&self, name: &ClusterName) -> (&'static str, String) {
        match self.login(name) {
            Some(LoginState::Failing(failure)) => (failure.reason, failure.message),
            _ => ("Reading", "the Secret with its kubeconfig was not read yet".to_owned()),
        }
    }

    /// Takes a registration that cannot be used, so that it is shown.
    pub fn put_broken(&self, spec: ClusterSpec, api_server: String, version: i64, reason: String) {
        let _alone = self.changing.lock();
        if self.slots.get(&spec.name).is_some_and(|slot| slot.is_ahead_of(version)) {
            return;
        }
        self.logins.forget(&spec.name);
        let (kind, since) = ("Registration", Timestamp::now());
        self.break_down(Broken { spec, api_server, version, kind, reason, since, registration: None });
    }

    fn break_down(&self, broken: Broken) {
        let (name, reason) = (broken.spec.name.clone(), broken.reason.as_str());
        if broken.is_waiting() {
            tracing::info!(cluster = %name, reason, "a registration waits for its login");
        } else {
            tracing::error!(cluster = %name, reason, "a registration cannot be used");
        }
        // However often it is tried again.
        let since = match self.slots.get(&name) {
            Some(Slot::Broken(before)) => before.since,
            _ => broken.since,
        };
        self.replace(&name, Slot::Broken(Arc::new(Broken { since, ..broken })));
    }

    /// Removes a registration that this replica deleted in etcd, ahead of the mirror. One that was made since stays.
    pub fn remove(&self, name: &ClusterName, version: i64) {
        let _alone = self.changing.lock();
        if self.slots.get(name).is_some_and(|slot| slot.version() <= version) {
            self.slots.put(name, Some(Slot::Removed(version)));
            self.forget(name);
        }
    }

    /// Removes a registration that the mirror reports as deleted.
    pub fn removed(&self, name: &ClusterName) {
        let _alone = self.changing.lock();
        self.slots.put(name, None);
        self.forget(name);
    }

    /// Its tasks were cancelled; nothing of it is shown any more.
    fn forget(&self, name: &ClusterName) {
        self.logins.forget(name);
        self.index.cluster_gone(name);
        self.slots.notify();
    }

    /// Removes every registration but those named: the mirror lists them all.
    pub fn keep_only(&self, names: &[ClusterName]) {
        for name in self.slots.others_than(names) {
            self.removed(&name);
        }
        self.slots.mark_listed();
        self.slots.notify();
    }

    /// The kubeconfig that a registration has; none where it cannot be unsealed or was not read yet.
    pub(crate) fn kubeconfig(&self, name: &ClusterName) -> Option<Secret<Vec<u8>>> {
        self.slots.registration(name)?.kubeconfig
    }

    /// Which cluster it must be: what is kept, or else what the cluster in use says now.
    pub(crate) async fn cluster_uid(&self, name: &ClusterName) -> Option<String> {
        let kept = self.slots.registration(name)?.cluster_uid;
        if !kept.is_empty() {
            return Some(kept);
        }
        checks::uid(self.get(name)?.member.client()).await
    }

    pub(super) fn replace(&self, name: &ClusterName, slot: Slot) {
        let is_broken = matches!(slot, Slot::Broken(_));
        let answered = self.slots.put(name, Some(slot));
        if is_broken {
            self.index.disconnected(name, answered);
        }
        self.slots.notify();
    }
}
