//! Follows the Secret that the kubeconfig of one cluster is in.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::callbacks::Login;
use super::logins::{Failure, LoginState};
use super::members::Fleet;
use super::slot::{Broken, Slot};
use domain::backoff::doubling;
use domain::names::ClusterName;
use domain::secret::Secret;
use domain::secret_ref::SecretRef;
use host::{Found, Reading, Unread};
use member::client::Credentials;
use member::tasks::TaskName;
use store::Registration;

/// Backoff before a rejected login is verified again.
const BACKOFF: ExponentialBuilder = doubling(Duration::from_secs(2), Duration::from_secs(30));
/// Checks that a new login must pass. What else may be wrong with a cluster is no reason to let its old login run out.
const OF_LOGINS: [&str; 6] = ["reachable", "ca", "login", "login-end", "identity", "permissions"];

/// The Secret of one cluster, until the cluster goes or its kubeconfig is elsewhere.
struct Following {
    fleet: Arc<Fleet>,
    name: ClusterName,
    reference: SecretRef,
    /// Cancelled while `fleet.changing` is held, or by the shutdown.
    stop: CancellationToken,
}

/// A login that is not put to use.
struct Rejected {
    failure: Failure,
    /// Whether the same one may do later.
    again: bool,
}

impl Following {
    fn new(fleet: Arc<Fleet>, name: ClusterName, reference: SecretRef, stop: CancellationToken) -> Self {
        Self { fleet, name, reference, stop }
    }

    async fn run(&self) {
        tokio::select! {
            () = self.follow() => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn follow(&self) {
        let Some(host) = self.fleet.host() else {
            let unread = Unread::without_host(&self.reference);
            self.tell(&LoginState::Failing(unread.into()));
            return std::future::pending().await;
        };
        let (told, readings) = watch::channel(None);
        tokio::join!(host.follow(&self.reference, &told), self.use_readings(readings));
    }

    async fn use_readings(&self, mut readings: watch::Receiver<Option<Reading>>) {
        let mut delays = BACKOFF.build();
        loop {
            let reading = readings.borrow_and_update().clone();
            let again = match reading {
                None => false,
                Some(reading) => self.use_reading(reading).await,
            };
            let pause = again.then(|| delays.next()).flatten();
            tokio::select! {
                changed = readings.changed() => match changed {
                    Ok(()) => delays = BACKOFF.build(),
                    Err(_) => return,
                },
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    /// Whether to try the same again later.
    async fn use_reading(&self, reading: Reading) -> bool {
        let used = match reading {
            Ok(Found { text, version }) => {
                self.use_login(&text).await.map(|server| LoginState::InUse { server, version })
            }
            // The next reading comes by itself.
            Err(unread) => Err(Rejected { failure: unread.into(), again: false }),
        };
        match used {
            Ok(in_use) => {
                self.tell(&in_use);
                false
            }
            Err(Rejected { failure, again }) => {
                self.tell(&LoginState::Failing(failure));
                again
            }
        }
    }

    fn tell(&self, state: &LoginState) {
        let _alone = self.fleet.changing.lock();
        if self.stop.is_cancelled() || !self.fleet.logins.note(&self.name, state) {
            return;
        }
        if let LoginState::Failing(Failure { reason, message }) = state {
            tracing::warn!(reason, message, "the kubeconfig of a Secret is not in use");
            if let Some(Slot::Broken(broken)) = self.fleet.slots.get(&self.name)
                && broken.is_waiting()
            {
                let told = Broken { kind: reason, reason: message.clone(), ..Broken::clone(&broken) };
                self.fleet.replace(&self.name, Slot::Broken(Arc::new(told)));
            }
        }
        self.fleet.slots.notify();
    }

    /// Verifies a login where that is needed and puts it to use; the address that it names.
    async fn use_login(&self, text: &Secret<String>) -> Result<String, Rejected> {
        let credentials =
            Credentials::parse(&self.name, text.expose()).map_err(|error| self.invalid(&error))?;
        let server = credentials.server().to_owned();
        let Some(known) = self.fleet.slots.registration(&self.name) else { return Ok(server) };
        let in_use = known.kubeconfig.as_ref().map(|kept| kept.expose().as_slice());
        if in_use == Some(text.expose().as_bytes()) {
            return Ok(server);
        }
        if in_use.is_some() || server != known.api_server {
            self.verify(&known, text, &server).await?;
        }
        self.take(text).map_err(|error| self.invalid(&error))?;
        Ok(server)
    }

    fn invalid(&self, error: &member::Error) -> Rejected {
        let message =
            format!("what Secret {} holds is no usable kubeconfig: {}", self.reference, error.cause());
        Rejected { failure: Failure { reason: "Invalid", message }, again: false }
    }

    /// Whether a login leads to the cluster that is registered, and may there do what it must.
    async fn verify(
        &self,
        known: &Registration,
        text: &Secret<String>,
        server: &str,
    ) -> Result<(), Rejected> {
        let refused = |why: String| {
            let message = format!("the login in Secret {} does not do: {why}", self.reference);
            Rejected { failure: Failure { reason: "Refused", message }, again: true }
        };
        let uid = self.fleet.cluster_uid(&self.name).await;
        let login = Login { kubeconfig: text.expose(), uid: uid.as_deref() };
        let deadline = self.fleet.probe_deadline();
        let examined = self.fleet.connector.callbacks.examine(&known.spec, login, deadline).await;
        let examined = examined.map_err(|error| refused(error.to_string()))?;
        let mut failed: Vec<String> = examined
            .checks
            .iter()
            .filter(|check| check.is_failed() && OF_LOGINS.contains(&check.name))
            .map(|check| format!("{}: {}", check.name, check.detail))
            .collect();
        if uid.is_none() && server != known.api_server {
            let told = "identity: the address changed, and it is not known whether it is the same cluster";
            failed.push(told.to_owned());
        }
        if failed.is_empty() { Ok(()) } else { Err(refused(failed.join("; "))) }
    }

    /// Puts a verified login to use, unless the cluster went or its kubeconfig is elsewhere by now.
    fn take(&self, text: &Secret<String>) -> member::Result<()> {
        let _alone = self.fleet.changing.lock();
        if self.stop.is_cancelled() {
            return Ok(());
        }
        match self.fleet.slots.get(&self.name) {
            Some(Slot::Connected(connected)) => {
                connected.use_login(text)?;
                tracing::info!("another kubeconfig is in use");
            }
            Some(Slot::Broken(broken)) => {
                if let Some(registration) = broken.registration.clone() {
                    let kubeconfig = Some(text.clone().map(String::into_bytes));
                    self.fleet.join(Registration { kubeconfig, ..registration });
                }
            }
            Some(Slot::Removed(_)) | None => {}
        }
        Ok(())
    }
}

impl Fleet {
    /// Follows the Secret that a cluster's kubeconfig is in from now on, or none.
    pub(super) fn keep_login(self: &Arc<Self>, name: &ClusterName, reference: Option<&SecretRef>) {
        let Some(reference) = reference else {
            self.logins.forget(name);
            return;
        };
        self.logins.keep(name, reference, || {
            let tasks = self.connector.tasks_of(name);
            let _entered = tracing::info_span!("login", cluster = %name, %reference).entered();
            let stop = tasks.stop().clone();
            let following = Arc::new(Following::new(Arc::clone(self), name.clone(), reference.clone(), stop));
            tasks.spawn(TaskName::one("login"), move || {
                let following = Arc::clone(&following);
                async move { following.run().await }
            });
            tasks
        });
    }
}
