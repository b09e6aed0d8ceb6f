//! Kubeconfigs in Secrets of the host cluster: read once, or followed by one watch of that name.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Secret as K8sSecret;
use kube::Api;
use kube::api::{WatchEvent, WatchParams};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::Host;
use domain::kubeconfig::{LARGEST, encoding};
use domain::secret::Secret;
use domain::secret_ref::SecretRef;
use member::error::Error;
use member::watch::Backoff;

/// Deadline of one read.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// The apiserver ends a watch after this, so that the Secret is re-read periodically whatever the watch delivered.
const WATCH_SECONDS: u32 = 290;
/// A watch that ends sooner counts as failed.
const SHORT: Duration = Duration::from_secs(5);

/// Why a Secret gives no kubeconfig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is no such Secret.
    SecretNotFound,
    /// It lacks the key.
    KeyNotFound,
    /// What the key holds is no text of a sensible size.
    NotText,
    /// The host does not let the manager read it.
    NotAllowed,
    /// The host does not answer, or fails.
    HostUnreachable,
    /// The manager knows no host.
    NoHost,
}

/// A Secret that gives no kubeconfig.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Secret {reference} of the manager's own cluster {problem}")]
pub struct Unread {
    /// Which.
    pub reference: SecretRef,
    /// A category.
    pub why: Why,
    /// The rest of the sentence. Never holds what is in the Secret.
    pub problem: String,
}

impl Unread {
    /// Of a manager that knows no host.
    pub fn without_host(reference: &SecretRef) -> Self {
        let problem = "cannot be read: this manager knows no cluster of its own; set federation.hostKubeconfig, or run \
                       it in a pod with the token of a service account";
        Self { reference: reference.clone(), why: Why::NoHost, problem: problem.to_owned() }
    }

    /// Whether a retry may succeed.
    pub fn is_passing(&self) -> bool {
        self.why == Why::HostUnreachable
    }
}

/// A kubeconfig that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The kubeconfig.
    pub text: Secret<String>,
    /// Version of the Secret.
    pub version: String,
}

/// Last result of reading a Secret.
pub type Reading = Result<Found, Unread>;

impl Host {
    /// Reads a kubeconfig once, within five seconds.
    pub async fn read(&self, reference: &SecretRef) -> Reading {
        match self.get(reference).await? {
            Some(secret) => content(reference, &secret),
            None => Err(missing(reference)),
        }
    }

    /// Sends the kubeconfig of the Secret now and after each change. Does not end by itself; retries failures with a backoff of
    /// up to 30 seconds.
    pub async fn follow(&self, reference: &SecretRef, readings: &watch::Sender<Option<Reading>>) {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let version = match self.get(reference).await {
                Ok(Some(secret)) => {
                    tell(readings, content(reference, &secret));
                    Some(secret.metadata.resource_version.unwrap_or_default())
                }
                Ok(None) => {
                    tell(readings, Err(missing(reference)));
                    // A watch without a version also delivers a Secret that was created meanwhile.
                    Some(String::new())
                }
                Err(unread) => {
                    tell(readings, Err(unread));
                    None
                }
            };
            if let Some(version) = version {
                self.watch(reference, &version, readings).await;
                if began.elapsed() > SHORT {
                    backoff.reset();
                }
            }
            tokio::time::sleep(backoff.next(Instant::now())).await;
        }
    }

    async fn get(&self, reference: &SecretRef) -> Result<Option<K8sSecret>, Unread> {
        match tokio::time::timeout(READ_WITHIN, self.secrets(reference).get_opt(reference.name.as_str()))
            .await
        {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(self.failed(reference, error)),
            Err(_) => Err(Unread {
                reference: reference.clone(),
                why: Why::HostUnreachable,
                problem: format!("was not read within {READ_WITHIN:?}"),
            }),
        }
    }

    fn failed(&self, reference: &SecretRef, error: kube::Error) -> Unread {
        let error = Error::from_kube(&self.name, "get Secret", error);
        let why = match error.code() {
            Some(401 | 403) => Why::NotAllowed,
            _ => Why::HostUnreachable,
        };
        Unread { reference: reference.clone(), why, problem: format!("cannot be read: {}", error.cause()) }
    }

    /// Sends changes until the watch ends.
    async fn watch(&self, reference: &SecretRef, version: &str, readings: &watch::Sender<Option<Reading>>) {
        let only = format!("metadata.name={}", reference.name);
        let params = WatchParams::default().fields(&only).timeout(WATCH_SECONDS);
        let events = match self.secrets(reference).watch(&params, version).await {
            Ok(events) => events,
            Err(error) => {
                let problem = Error::from_kube(&self.name, "watch Secret", error).cause();
                tracing::warn!(%reference, problem, "a Secret cannot be watched, and is read again and again");
                return;
            }
        };
        take(reference, std::pin::pin!(events), readings).await;
    }

    fn secrets(&self, reference: &SecretRef) -> Api<K8sSecret> {
        Api::namespaced(self.client.clone(), reference.namespace.as_str())
    }
}

async fn take(
    reference: &SecretRef,
    mut events: impl Stream<Item = kube::Result<WatchEvent<K8sSecret>>> + Unpin,
    readings: &watch::Sender<Option<Reading>>,
) {
    while let Some(Ok(event)) = events.next().await {
        match event {
            WatchEvent::Added(secret) | WatchEvent::Modified(secret) => {
                tell(readings, content(reference, &secret));
            }
            WatchEvent::Deleted(_) => tell(readings, Err(missing(reference))),
            WatchEvent::Bookmark(_) => {}
            // Whatever it is, the Secret is re-read.
            WatchEvent::Error(_) => return,
        }
    }
}

/// Sends a reading if it differs from the last one.
fn tell(readings: &watch::Sender<Option<Reading>>, reading: Reading) {
    readings.send_if_modified(|before| {
        let same = match (before.as_ref(), &reading) {
            (Some(Ok(before)), Ok(now)) => {
                before.version == now.version && before.text.expose() == now.text.expose()
            }
            (Some(Err(before)), Err(now)) => before == now,
            _ => false,
        };
        if !same {
            *before = Some(reading);
        }
        !same
    });
}

fn content(reference: &SecretRef, secret: &K8sSecret) -> Reading {
    let unread = |why, problem: String| Unread { reference: reference.clone(), why, problem };
    let data = secret.data.as_ref().and_then(|data| data.get(reference.key.as_str()));
    let Some(data) = data else {
        return Err(unread(Why::KeyNotFound, format!("lacks the key {}", reference.key)));
    };
    if data.0.len() > LARGEST {
        return Err(unread(Why::NotText, format!("holds more than {LARGEST} bytes under its key")));
    }
    match encoding::decode(&data.0) {
        Ok(text) if !text.trim().is_empty() => {
            let version = secret.metadata.resource_version.clone().unwrap_or_default();
            Ok(Found { text: Secret::new(text), version })
        }
        _ => Err(unread(Why::NotText, "holds no text under its key".to_owned())),
    }
}

fn missing(reference: &SecretRef) -> Unread {
    Unread { reference: reference.clone(), why: Why::SecretNotFound, problem: "is not there".to_owned() }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(data: &[(&str, &[u8])]) -> K8sSecret {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.to_vec())));
        K8sSecret { data: Some(data.collect()), ..K8sSecret::default() }
    }

    #[test]
    fn a_secret_without_a_kubeconfig_is_told_by_kind_and_without_its_content() {
        let reference: SecretRef = "spaceport/eu".parse().unwrap();
        let why = |data: &[(&str, &[u8])]| {
            let unread = content(&reference, &secret(data)).unwrap_err();
            assert!(!unread.to_string().contains("hunter2"), "{unread}");
            unread.why
        };
        assert_eq!(why(&[("other", b"hunter2")]), Why::KeyNotFound);
        assert_eq!(why(&[("kubeconfig", b"hunter2\xff")]), Why::NotText);
        assert_eq!(why(&[("kubeconfig", b" \n")]), Why::NotText);
        assert_eq!(why(&[("kubeconfig", &vec![b'a'; LARGEST + 1])]), Why::NotText);
        let found = content(&reference, &secret(&[("kubeconfig", b"clusters: []")])).unwrap();
        assert_eq!(found.text.expose(), "clusters: []");
    }

    #[tokio::test]
    async fn only_what_differs_wakes_a_reader() {
        let reference: SecretRef = "spaceport/eu".parse().unwrap();
        let (sender, mut reader) = watch::channel(None);
        tell(&sender, Err(missing(&reference)));
        assert!(reader.has_changed().unwrap());
        reader.mark_unchanged();
        tell(&sender, Err(missing(&reference)));
        assert!(!reader.has_changed().unwrap());
        tell(&sender, content(&reference, &secret(&[("kubeconfig", b"a")])));
        assert!(reader.has_changed().unwrap());
    }
}
