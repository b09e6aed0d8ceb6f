//! Connection to etcd: to one member at a time, with failover to the next one, and a deadline for every call.

use std::{
    fmt,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use etcd_client::{
    Certificate, Client, ConnectOptions, GetOptions, GetResponse, Identity, TlsOptions, Txn, TxnResponse,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

use super::{
    Error, Result,
    error::Cause,
    failure::Failure,
    keys::Keys,
    meter::{Asked, EtcdMeter},
};
use domain::secret::Secret;

/// Keepalive interval. etcd closes connections with more than one ping in 5 s, or with pings without a stream.
const PING_EVERY: Duration = Duration::from_secs(6);
const PING_ANSWER: Duration = Duration::from_secs(3);
/// Bytes of the longest accepted response: a list or a batch of events.
const LONGEST_ANSWER: usize = 64 << 20;
/// Maximum attempts of a repeatable call.
const TRIES: u32 = 3;

/// How to reach etcd.
#[derive(Debug, Clone)]
pub struct Options {
    /// `http://host:port` or `https://host:port` of each member, at least one.
    pub endpoints: Vec<String>,
    /// Prefix of all keys; `/spaceport/` by default.
    pub prefix: String,
    /// Required for `https` endpoints.
    pub tls: Option<Tls>,
    /// Required if etcd's authentication is enabled.
    pub user: Option<User>,
    /// Deadline of every call; at least 100 ms.
    pub request_timeout: Duration,
}

/// TLS files as PEM.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Certificate authority of etcd's certificate.
    pub ca_pem: String,
    /// Client certificate, if etcd requires one.
    pub cert_pem: Option<String>,
    /// Private key of the client certificate.
    pub key_pem: Option<Secret<String>>,
}

/// A user of etcd.
#[derive(Debug, Clone)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: Secret<String>,
}

/// The store. Cloning is cheap and shares the connection.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    connect: ConnectOptions,
    keys: Keys,
    meter: EtcdMeter,
    link: ArcSwap<Link>,
    /// Held while a new link is established; has the last failure for calls that waited for it.
    dialing: Mutex<Option<(Instant, Cause)>>,
}

/// A connection to one member.
pub(super) struct Link {
    client: Client,
    /// Index of the endpoint.
    endpoint: usize,
    /// Set after a failure: the next call establishes a new link.
    suspect: AtomicBool,
}

impl Store {
    /// Connects, and checks by a read that etcd answers and grants access. Ends within `request_timeout`.
    pub async fn connect(options: Options) -> Result<Self> {
        let connect = connect_options(&options)?;
        let keys = Keys::new(&options.prefix);
        let meter =
            EtcdMeter::new().map_err(|error| Error::Options { field: "metrics", rule: error.to_string() })?;
        let link = first_link(&options, &connect, &keys).await?;
        Ok(Self::over(options, connect, keys, meter, link))
    }

    /// The same store with a new connection, which belongs to the calling runtime.
    pub(super) async fn reconnected(&self) -> Result<Self> {
        let Inner { options, connect, keys, meter, .. } = &*self.inner;
        let link = first_link(options, connect, keys).await?;
        Ok(Self::over(options.clone(), connect.clone(), keys.clone(), meter.clone(), link))
    }

    fn over(options: Options, connect: ConnectOptions, keys: Keys, meter: EtcdMeter, link: Link) -> Self {
        let link = ArcSwap::from_pointee(link);
        Self { inner: Arc::new(Inner { options, connect, keys, meter, link, dialing: Mutex::new(None) }) }
    }

    /// Metrics of requests.
    pub fn meter(&self) -> &EtcdMeter {
        &self.inner.meter
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    pub(super) fn request_timeout(&self) -> Duration {
        self.inner.options.request_timeout
    }

    /// Reads a key, or a range of keys.
    pub(super) async fn get(&self, doing: &str, key: String, options: GetOptions) -> Result<GetResponse> {
        let read = |client: Client| {
            let (key, options) = (key.clone(), options.clone());
            async move { big(&client).get(key, Some(options)).await }
        };
        self.call(Kind::Repeatable, doing, read).await
    }

    /// Runs a transaction that must not run twice.
    pub(super) async fn txn(&self, doing: &str, txn: Txn) -> Result<TxnResponse> {
        let write = |client: Client| {
            let txn = txn.clone();
            async move { big(&client).txn(txn).await }
        };
        self.call(Kind::Once, doing, write).await
    }

    /// Sends a call with a deadline; the head comment of the crate documents its errors.
    pub(super) async fn call<T, F>(&self, kind: Kind, doing: &str, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let began = Instant::now();
        let outcome = Box::pin(self.tried(kind, doing, call)).await;
        let asked = if kind == Kind::Once { Asked::Write } else { Asked::Read };
        self.inner.meter.took(asked, began.elapsed(), &outcome);
        outcome
    }

    async fn tried<T, F>(&self, kind: Kind, doing: &str, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let within = self.request_timeout();
        let deadline = Instant::now() + within;
        let unavailable = |cause| Error::Unavailable {
            doing: doing.to_owned(),
            endpoints: self.inner.options.endpoints.join(","),
            within,
            cause,
        };
        for tries_left in (0..TRIES).rev() {
            let link = self.link(deadline).await.map_err(unavailable)?;
            let until = if kind == Kind::Once { deadline } else { self.patience(deadline) };
            let (failure, cause) = match timeout_at(until, call(link.client.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => (Failure::of(&error), Cause::Client(error)),
                Err(_) => (Failure::Unknown, Cause::Silence(within)),
            };
            self.recover(&link, failure, deadline).await;
            let over = tries_left == 0 || Instant::now() >= deadline;
            match (failure, kind) {
                (Failure::Refused, _) => return Err(Error::Refused { doing: doing.to_owned(), cause }),
                (Failure::Token, _) if over => return Err(Error::Refused { doing: doing.to_owned(), cause }),
                (Failure::Unknown, Kind::Once) => {
                    return Err(Error::Ambiguous { doing: doing.to_owned(), cause });
                }
                _ if over => return Err(unavailable(cause)),
                _ => {}
            }
        }
        Err(unavailable(Cause::Silence(within)))
    }

    /// The current connection, replaced if it is suspect.
    pub(super) async fn link(&self, deadline: Instant) -> Result<Arc<Link>, Cause> {
        let link = self.inner.link.load_full();
        if !link.suspect.load(Ordering::Relaxed) {
            return Ok(link);
        }
        timeout_at(deadline, self.redial(deadline))
            .await
            .unwrap_or(Err(Cause::Silence(self.request_timeout())))
    }

    async fn redial(&self, deadline: Instant) -> Result<Arc<Link>, Cause> {
        let asked = Instant::now();
        let mut last_failure = self.inner.dialing.lock().await;
        let link = self.inner.link.load_full();
        if !link.suspect.load(Ordering::Relaxed) {
            return Ok(link);
        }
        match &*last_failure {
            Some((at, why)) if *at >= asked => return Err(why.known()),
            _ => {}
        }
        let Inner { options, connect, keys, .. } = &*self.inner;
        match dial_any(options, connect, keys, link.endpoint + 1, deadline).await {
            Ok(link) => {
                let link = Arc::new(link);
                self.inner.link.store(Arc::clone(&link));
                Ok(link)
            }
            Err(cause) => {
                *last_failure = Some((Instant::now(), cause.known()));
                Err(cause)
            }
        }
    }

    /// Prepares a retry: a new token, or another connection.
    pub(super) async fn recover(&self, link: &Link, failure: Failure, deadline: Instant) {
        match failure {
            Failure::Refused => {}
            Failure::NotSent | Failure::Unknown => link.suspect.store(true, Ordering::Relaxed),
            Failure::Token => {
                let refreshed = timeout_at(deadline, link.client.refresh_token()).await;
                if !matches!(refreshed, Ok(Ok(()))) {
                    link.suspect.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// When to stop waiting for one member, so that another can still answer.
    fn patience(&self, deadline: Instant) -> Instant {
        let share = share(&self.inner.options);
        deadline.min(Instant::now() + share)
    }
}

impl Link {
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.inner.options.endpoints).finish()
    }
}

/// Whether a call may be sent again after it may have been applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A read, or an idempotent write.
    Repeatable,
    /// Any other write.
    Once,
}

/// A KV client with the limit for long responses.
fn big(client: &Client) -> etcd_client::KvClient {
    client.kv_client().max_decoding_message_size(LONGEST_ANSWER)
}

/// A watch client with the limit for long responses.
pub(super) fn watch_client(link: &Link) -> etcd_client::WatchClient {
    link.client.watch_client().max_decoding_message_size(LONGEST_ANSWER)
}

/// Deadline for one of several members.
fn share(options: &Options) -> Duration {
    let members = u32::try_from(options.endpoints.len()).unwrap_or(TRIES).clamp(1, TRIES);
    options.request_timeout / members
}

/// Connects within `request_timeout`.
async fn first_link(options: &Options, connect: &ConnectOptions, keys: &Keys) -> Result<Link> {
    let deadline = Instant::now() + options.request_timeout;
    dial_any(options, connect, keys, 0, deadline).await.map_err(|cause| Error::Unavailable {
        doing: "connect".to_owned(),
        endpoints: options.endpoints.join(","),
        within: options.request_timeout,
        cause,
    })
}

/// Connects to the first endpoint that answers, starting with index `from`.
async fn dial_any(
    options: &Options,
    connect: &ConnectOptions,
    keys: &Keys,
    from: usize,
    deadline: Instant,
) -> Result<Link, Cause> {
    let count = options.endpoints.len();
    let mut cause = Cause::Silence(options.request_timeout);
    for endpoint in (from..from + count).map(|n| n % count) {
        let until = deadline.min(Instant::now() + share(options));
        match timeout_at(until, dial(&options.endpoints[endpoint], connect, keys)).await {
            Ok(Ok(client)) => return Ok(Link { client, endpoint, suspect: AtomicBool::new(false) }),
            Ok(Err(error)) => cause = Cause::Client(error),
            Err(_) => {}
        }
    }
    Err(cause)
}

async fn dial(endpoint: &str, connect: &ConnectOptions, keys: &Keys) -> Result<Client, etcd_client::Error> {
    let client = Client::connect([endpoint], Some(connect.clone())).await?;
    client.kv_client().get(keys.installation(), Some(GetOptions::new().with_count_only())).await?;
    Ok(client)
}

fn connect_options(options: &Options) -> Result<ConnectOptions> {
    let bad = |field, rule: &str| Err(Error::Options { field, rule: rule.to_owned() });
    if options.endpoints.is_empty() {
        return bad("endpoints", "must name at least one");
    }
    if options.prefix.trim_matches('/').is_empty() {
        return bad("prefix", "must not be empty");
    }
    if options.request_timeout < Duration::from_millis(100) {
        return bad("requestTimeout", "must be at least 100 ms");
    }
    for endpoint in &options.endpoints {
        let scheme = url::Url::parse(endpoint).map(|url| url.scheme().to_owned()).unwrap_or_default();
        match (scheme.as_str(), &options.tls) {
            ("https", Some(_)) | ("http", None) => {}
            ("https", None) => return bad("tls", "must be given for an https endpoint"),
            ("http", Some(_)) => return bad("endpoints", "must all be https where tls is given"),
            _ => return bad("endpoints", "must each be http://host:port or https://host:port"),
        }
    }
    let mut connect = ConnectOptions::new()
        .with_connect_timeout(share(options))
        .with_keep_alive(PING_EVERY, PING_ANSWER)
        .with_keep_alive_while_idle(false)
        .with_tcp_keepalive(Duration::from_secs(10))
        .with_require_leader(true)
        .with_auto_token_refresh(true);
    if let Some(User { name, password }) = &options.user {
        connect = connect.with_user(name, password.expose());
    }
    if let Some(tls) = &options.tls {
        connect = connect.with_tls(tls_options(tls)?);
    }
    Ok(connect)
}

fn tls_options(tls: &Tls) -> Result<TlsOptions> {
    let ready = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca_pem));
    match (&tls.cert_pem, &tls.key_pem) {
        (None, None) => Ok(ready),
        (Some(cert), Some(key)) => Ok(ready.identity(Identity::from_pem(cert, key.expose()))),
        _ => Err(Error::Options {
            field: "tls",
            rule: "must have both a certificate and a key, or neither".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(endpoints: &[&str]) -> Options {
        Options {
            endpoints: endpoints.iter().map(|&e| e.to_owned()).collect(),
            prefix: "/spaceport/".to_owned(),
            tls: None,
            user: None,
            request_timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn options_that_cannot_work_are_refused_by_name() {
        let check = |options: Options, message: &str| {
            assert_eq!(connect_options(&options).unwrap_err().to_string(), message);
        };
        check(options(&[]), "etcd endpoints: must name at least one");
        check(options(&["https://a:1"]), "etcd tls: must be given for an https endpoint");
        check(options(&["a:1"]), "etcd endpoints: must each be http://host:port or https://host:port");
        check(
            Options { prefix: "/".to_owned(), ..options(&["http://a:1"]) },
            "etcd prefix: must not be empty",
        );
    }

    #[test]
    fn a_password_and_a_key_are_not_printed() {
        let user = Some(User { name: "u".to_owned(), password: Secret::new("hunter2".to_owned()) });
        let tls = Some(Tls {
            ca_pem: String::new(),
            cert_pem: None,
            key_pem: Some(Secret::new("hunter2".to_owned())),
        });
        assert!(!format!("{:?}", Options { tls, user, ..options(&[]) }).contains("hunter2"));
    }
}
