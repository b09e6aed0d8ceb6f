//! Connects to a server by flags, variables and contexts.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use http::Uri;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tower::service_fn;
use url::Host;

pub use self::files::{Identity, PemFile};

use self::diagnosis::{Failure, Sides, Stage};
use self::link::Dialer;
use self::race::{DELAY, first_success};
use super::address::Address;
use super::failure::{Usage, root_cause};
use super::input::Patience;
use super::terminal::Format;
use domain::backoff::doubling;
use domain::duration::GoDuration;
use proto::spaceport::v1::cluster_manager_client::ClusterManagerClient;
use proto::spaceport::v1::workspace_content_client::WorkspaceContentClient;
use proto::spaceport::v1::workspace_manager_client::WorkspaceManagerClient as UsersClient;
use proto::wsman::workspace_manager_client::WorkspaceManagerClient;

mod diagnosis;
mod files;
mod link;
mod race;

/// What to do where there is no context.
pub const CREATE_CONTEXT: &str = "create one with `spaceport config set-context NAME --endpoint URL`";
/// Largest response of a server.
const LARGEST_ANSWER: usize = 16 << 20;
/// Timeout of one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// First backoff of resuming a stream.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const BACKOFF: ExponentialBuilder = doubling(FIRST_PAUSE, Duration::from_secs(5));

/// Connection and output settings, combined from flags, variables and a context.
#[derive(Debug, Clone)]
pub struct ClientArgs {
    /// Addresses; the first that responds is used.
    pub endpoint: Vec<Address>,
    /// CA of the server's certificate.
    pub ca: Option<PemFile>,
    /// Client certificate and key.
    pub identity: Option<Identity>,
    /// Name in the server's certificate, if it differs from the address.
    pub server_name: Option<String>,
    /// Timeout of one call.
    pub timeout: Duration,
    /// Output format.
    pub output: Format,
    /// Configuration file that has contexts to choose from.
    pub config: Option<PathBuf>,
}

/// A connected server.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    address: Address,
    timeout: Duration,
    /// Deadline of the first call, which includes connecting.
    first: Arc<Mutex<Option<Instant>>>,
    stage: watch::Receiver<Stage>,
}

/// A connection whose server has responded.
type Linked = (Channel, watch::Receiver<Stage>);

impl Client {
    /// Connects to the first address that responds, within `args.timeout` in total. Attempts overlap.
    pub async fn connect(args: &ClientArgs) -> Result<Self> {
        if args.endpoint.is_empty() {
            return Err(args.no_endpoint().into());
        }
        let deadline = Instant::now() + args.timeout;
        let tls = args.tls()?;
        let dialers = args.endpoint.iter().map(|address| Ok((address, args.dialer(address, tls.as_ref())?)));
        let dialers = dialers.collect::<Result<Vec<_>>>()?;
        // All addresses are tried even within a short timeout.
        let delay = DELAY.min(args.timeout / u32::try_from(dialers.len()).unwrap_or(u32::MAX));
        let attempts = dialers.into_iter().map(|(address, dialer)| async move {
            let left = deadline.saturating_duration_since(Instant::now());
            let linked = link(address, dialer, left.min(CONNECT_TIMEOUT)).await;
            linked.map(|linked| (address, linked)).map_err(|(failure, late)| (address, failure, late))
        });
        match first_success(attempts, delay).await {
            Ok((address, (channel, stage))) => {
                let (address, first) = (address.clone(), Arc::new(Mutex::new(Some(deadline))));
                Ok(Self { channel, address, timeout: args.timeout, first, stage })
            }
            Err(failures) => Err(unreachable_servers(&failures).into()),
        }
    }

    /// The same connection with another timeout.
    pub fn patient(&self, timeout: Duration) -> Self {
        Self { timeout, first: Arc::default(), ..self.clone() }
    }

    /// The timeout of one call.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The workspace API.
    pub fn workspaces(&self) -> WorkspaceManagerClient<Channel> {
        WorkspaceManagerClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// The user API beyond workspaces: logs, sessions and the server's version.
    pub fn logs(&self) -> UsersClient<Channel> {
        UsersClient::new(self.channel.clone())
    }

    /// The stored content of workspaces.
    pub fn contents(&self) -> WorkspaceContentClient<Channel> {
        WorkspaceContentClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// The admin API.
    pub fn clusters(&self) -> ClusterManagerClient<Channel> {
        ClusterManagerClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// Makes one call with a deadline, which the server receives too.
    pub async fn call<T, R>(
        &self,
        message: T,
        method: impl AsyncFnOnce(Request<T>) -> Result<Response<R>, Status>,
    ) -> Result<R, Status> {
        let deadline = self.deadline();
        let mut request = Request::new(message);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        // Boxed, because the future of a call is large and verbs hold several.
        Box::pin(self.within(deadline, method(request))).await
    }

    /// Opens a stream: opening has a deadline, the stream has none.
    pub async fn open<T, R>(
        &self,
        message: T,
        method: impl AsyncFnOnce(Request<T>) -> Result<Response<R>, Status>,
    ) -> Result<R, Status> {
        Box::pin(self.within(self.deadline(), method(Request::new(message)))).await
    }

    fn deadline(&self) -> Instant {
        self.first.lock().take().unwrap_or_else(|| Instant::now() + self.timeout)
    }

    async fn within<R>(
        &self,
        deadline: Instant,
        call: impl Future<Output = Result<Response<R>, Status>>,
    ) -> Result<R, Status> {
        let late = || {
            let limit = GoDuration::from(self.timeout);
            Status::deadline_exceeded(format!("no answer from {} within {limit}", self.address))
        };
        match timeout_at(deadline, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            // The transport's own timer has the same duration and may fire first.
            Ok(Err(status)) if status.code() == Code::Cancelled && status.message() == "Timeout expired" => {
                Err(late())
            }
            Ok(Err(status)) => Err(self.explained(status)),
            Err(_) => Err(late()),
        }
    }

    /// Adds why the connection broke: the transport only reports that it did.
    fn explained(&self, status: Status) -> Status {
        match &*self.stage.borrow() {
            Stage::Failed(failure) if status.source().is_some() => {
                Status::unavailable(format!("{}: {failure}", self.address))
            }
            _ => status,
        }
    }
}

impl ClientArgs {
    /// How long reading one input may take.
    pub fn patience(&self) -> Patience {
        Patience(self.timeout)
    }

    fn no_endpoint(&self) -> Usage {
        let file = self.config.as_ref().map_or_else(
            || format!("use a context: there is none, {CREATE_CONTEXT}"),
            |path| format!("choose a context of {} with `spaceport config use-context`", path.display()),
        );
        Usage(format!("no server is named: give --endpoint, set SPACEPORT_ENDPOINT, or {file}"))
    }

    /// Checks that files, names and addresses fit together.
    pub fn check(&self) -> Result<()> {
        let tls = self.tls()?;
        let settings = [
            ("ca", self.ca.is_some()),
            ("cert and key", self.identity.is_some()),
            ("server-name", self.server_name.is_some()),
        ];
        if tls.is_none()
            && let Some((name, _)) = settings.into_iter().find(|(_, given)| *given)
        {
            let text =
                format!("{name} is for https, and every endpoint is http: correct --endpoint, or --unset it");
            return Err(Usage(text).into());
        }
        self.endpoint.iter().try_for_each(|address| self.dialer(address, tls.as_ref()).map(drop))
    }

    /// Reads the TLS files; `None` if every address is plaintext.
    fn tls(&self) -> Result<Option<Arc<ClientConfig>>> {
        if !self.endpoint.iter().any(Address::is_secure) {
            return Ok(None);
        }
        let Some(ca) = &self.ca else {
            let text = "https needs --ca, SPACEPORT_CA or a context with `ca`: the system's authorities are not consulted";
            return Err(Usage(text.to_owned()).into());
        };
        Ok(Some(files::configuration(ca, self.identity.as_ref(), self.patience())?))
    }

    fn dialer(&self, address: &Address, tls: Option<&Arc<ClientConfig>>) -> Result<Dialer> {
        let url = address.url();
        let host = match url.host() {
            Some(Host::Ipv6(ip)) => ip.to_string(),
            Some(host) => host.to_string(),
            None => return Err(Usage(format!("{address} has no host")).into()),
        };
        let server_name = self.server_name.clone().unwrap_or_else(|| host.clone());
        let tls = match tls.filter(|_| address.is_secure()) {
            Some(config) => {
                let name = ServerName::try_from(server_name.clone()).map_err(|_| {
                    Usage(format!(
                        "{server_name:?} is neither a host name nor an address: correct --server-name"
                    ))
                })?;
                Some((Arc::clone(config), name))
            }
            None => None,
        };
        let encrypted = tls.is_some();
        let path = |file: &PemFile| file.path().to_owned();
        let sides = Sides {
            server_name,
            ca: self.ca.as_ref().filter(|_| encrypted).map(path),
            cert: self.identity.as_ref().filter(|_| encrypted).map(|identity| path(&identity.cert)),
        };
        Ok(Dialer {
            host,
            port: url.port_or_known_default().unwrap_or(443),
            tls,
            sides: Arc::new(sides),
            stage: Arc::new(watch::Sender::new(Stage::Connecting)),
            limit: CONNECT_TIMEOUT,
        })
    }
}

/// Names why each address failed. Late are those that timed out.
fn unreachable_servers(failures: &[(&Address, Failure, bool)]) -> Status {
    let reasons = failures.iter().map(|(address, failure, _)| format!("{address} ({failure})"));
    let text = format!("no server can be reached: {}", reasons.collect::<Vec<_>>().join(", "));
    let all_late = failures.iter().all(|(_, _, late)| *late);
    if all_late { Status::deadline_exceeded(text) } else { Status::unavailable(text) }
}

/// Connects to one address and waits for the first bytes of the server. A failure says whether it timed out.
async fn link(address: &Address, dialer: Dialer, limit: Duration) -> Result<Linked, (Failure, bool)> {
    let endpoint = endpoint(address).map_err(|error| (Failure(root_cause(&error)), false))?;
    let mut stage = dialer.stage.subscribe();
    let connecting = async {
        let dial = service_fn(move |_: Uri| dialer.clone().dial());
        let channel =
            endpoint.connect_with_connector(dial).await.map_err(|error| match &*stage.borrow() {
                Stage::Failed(failure) => failure.clone(),
                _ => Failure(root_cause(&error)),
            })?;
        let over = stage.wait_for(|stage| matches!(stage, Stage::Answered | Stage::Failed(_))).await;
        match over.as_deref() {
            Ok(Stage::Failed(failure)) => Err(failure.clone()),
            _ => Ok(channel),
        }
    };
    match timeout(limit, connecting).await {
        Ok(Ok(channel)) => Ok((channel, stage)),
        Ok(Err(failure)) => Err((failure, false)),
        Err(_) => Err((stage.borrow().late(limit), true)),
    }
}

fn endpoint(address: &Address) -> Result<Endpoint, tonic::transport::Error> {
    let url = address.url().as_str();
    // The dialer encrypts; tonic's own TLS rejects plain addresses.
    let plain = url.strip_prefix("https:").map_or_else(|| url.to_owned(), |rest| format!("http:{rest}"));
    let endpoint = Endpoint::from_shared(plain)?
        // A stream may be silent for hours; keepalive distinguishes a quiet server from a dead one.
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    Ok(match Uri::try_from(url) {
        Ok(origin) => endpoint.origin(origin),
        Err(_) => endpoint,
    })
}

/// Reconnects to whichever address responds, with growing backoff, for as long as one call may take; gives up on an
/// error that a retry does not change.
pub async fn again<T>(
    args: &ClientArgs,
    is_final: impl Fn(&Status) -> bool,
    mut ask: impl AsyncFnMut(&Client) -> Result<T, Status>,
) -> Result<T> {
    let deadline = Instant::now() + args.timeout;
    let mut delays = BACKOFF.build();
    loop {
        let pause = delays.next().unwrap_or_default();
        tokio::time::sleep(pause).await;
        let left = deadline.saturating_duration_since(Instant::now()).max(FIRST_PAUSE);
        let failure = match Client::connect(&ClientArgs { timeout: left, ..args.clone() }).await {
            Ok(client) => match ask(&client).await {
                Ok(answer) => return Ok(answer),
                Err(status) if is_final(&status) => return Err(status.into()),
                Err(status) => status.into(),
            },
            Err(error) => error,
        };
        if Instant::now() + pause >= deadline {
            return Err(failure);
        }
    }
}
