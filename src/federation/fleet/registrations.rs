//! Registrations come, change and go, and each has a place here whether it can be used or not.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Connected, Fleet, LoginState};
use crate::cluster::probe;
use crate::domain::cluster::ClusterSpec;
use crate::domain::names::ClusterName;
use crate::store::Registration;

/// What became of a registration here.
#[derive(Clone)]
pub(super) enum Slot {
    Connected(Arc<Connected>),
    Broken(Arc<Broken>),
}

/// A registration that cannot be used here.
#[derive(Debug, Clone)]
pub struct Broken {
    /// What the admin wants.
    pub spec: ClusterSpec,
    /// Its API address.
    pub api_server: String,
    /// Of the registration.
    pub version: i64,
    /// Why it cannot be used: a bounded category.
    pub kind: &'static str,
    /// The same as a sentence.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// What is tried again when something changes; absent where it cannot be unsealed.
    pub(super) registration: Option<Registration>,
}

impl Broken {
    /// Whether its kubeconfig is in a Secret that was not read yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.registration.as_ref().is_some_and(|registration| registration.kubeconfig.is_none())
    }
}

impl Fleet {
    /// Takes a registration that is new or changed. What can be changed in place is; anything else connects anew. Where
    /// the kubeconfig is in a Secret, the login in use goes on until that was read.
    pub fn put(self: &Arc<Self>, mut registration: Registration) {
        let name = registration.spec.name.clone();
        let _alone = self.changing.lock();
        let present = self.slot(&name);
        if let Some(Slot::Connected(connected)) = &present
            && connected.version() >= registration.version
        {
            return;
        }
        let known = self.registration(&name).filter(|known| known.is_of_same_cluster(&registration));
        if known.is_none() {
            // What was read before was for another cluster.
            self.logins.forget(&name);
        }
        self.keep_login(&name, registration.spec.kubeconfig_secret.as_ref());
        if let Some(Slot::Connected(connected)) = &present
            && (known.is_some() || registration.kubeconfig.is_some())
            && connected.take(&registration, &self.options.defaults.load())
        {
            connected.tell(&self.index);
            self.changes.send_replace(());
            return;
        }
        if registration.kubeconfig.is_none() {
            registration.kubeconfig = known.and_then(|known| known.kubeconfig);
        }
        self.join(registration);
    }

    /// Takes what was just written of a member in use, as its mirror will in a moment.
    pub fn put_spec(self: &Arc<Self>, spec: ClusterSpec, version: i64) {
        let Some(connected) = self.get(&spec.name) else { return };
        let known = connected.registration();
        let kubeconfig = known.kubeconfig.filter(|_| spec.kubeconfig_secret.is_none());
        self.put(Registration { spec, kubeconfig, version, ..known });
    }

    /// Connects a registration, or shows why that cannot be. To be called while `changing` is held.
    pub(super) fn join(self: &Arc<Self>, registration: Registration) {
        let name = registration.spec.name.clone();
        let (kind, reason) = match registration.kubeconfig {
            None => self.missing_login(&name),
            Some(_) => match self.connect(registration.clone()) {
                Ok(connected) => return self.replace(name, Slot::Connected(connected)),
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
        self.replace(name, Slot::Broken(Arc::new(broken)));
    }

    /// Lets go of a member: its tasks end, its workspaces are no longer shown.
    pub fn remove(&self, name: &ClusterName) {
        let _alone = self.changing.lock();
        self.logins.forget(name);
        let gone = self.slots.write().remove(name);
        if let Some(Slot::Connected(connected)) = gone {
            connected.stop.cancel();
        }
        self.index.cluster_gone(name);
        self.changes.send_replace(());
    }

    /// Lets go of every member but those named.
    pub fn keep_only(&self, names: &[ClusterName]) {
        let gone: Vec<ClusterName> =
            self.slots.read().keys().filter(|name| !names.contains(name)).cloned().collect();
        for name in gone {
            self.remove(&name);
        }
        self.listed.send_replace(true);
        self.changes.send_replace(());
    }

    pub(super) fn slot(&self, name: &ClusterName) -> Option<Slot> {
        self.slots.read().get(name).cloned()
    }

    /// A registration as it is used here, with the login in use.
    pub(super) fn registration(&self, name: &ClusterName) -> Option<Registration> {
        match self.slot(name)? {
            Slot::Connected(connected) => Some(connected.registration()),
            Slot::Broken(broken) => broken.registration.clone(),
        }
    }

    /// Which cluster it must be: what is kept, or else what the cluster in use says now.
    pub(in crate::federation) async fn cluster_uid(&self, name: &ClusterName) -> Option<String> {
        let kept = self.registration(name)?.cluster_uid;
        if !kept.is_empty() {
            return Some(kept);
        }
        probe::uid(self.get(name)?.member.client()).await
    }

    pub(super) fn replace(&self, name: ClusterName, slot: Slot) {
        if let Some(Slot::Connected(old)) = self.slots.write().insert(name, slot) {
            old.stop.cancel();
        }
        self.changes.send_replace(());
    }
}
