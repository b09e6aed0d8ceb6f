//! From flags to a server that answers.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use tokio::time::Instant;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};
use url::{Host, Url};

use super::failure::{Usage, root_cause};
use super::terminal::Format;
use crate::domain::duration::GoDuration;
use crate::proto::spaceport::v1::cluster_manager_client::ClusterManagerClient;
use crate::proto::spaceport::v1::workspace_manager_client::WorkspaceManagerClient as LogsClient;
use crate::proto::wsman::workspace_manager_client::WorkspaceManagerClient;
use crate::runtime::tls::{ClientFiles, IdentityFiles, client_config};

/// What servers send at most.
const LARGEST_ANSWER: usize = 16 << 20;
/// How long one address may take, so that a dead one leaves time for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Before a stream that broke is asked for again; the pause doubles with each try.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How to reach the server, and how to write what it says.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection and output")]
pub struct ClientArgs {
    /// The server's address; of several, separated by commas, the first that answers
    #[arg(long, env = "SPACEPORT_ENDPOINT", global = true, value_delimiter = ',', value_name = "URL")]
    pub endpoint: Vec<Address>,
    /// Authority (PEM) that the server's certificate comes from
    #[arg(long, env = "SPACEPORT_CA", global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Client certificate (PEM)
    #[arg(long, env = "SPACEPORT_CERT", global = true, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Private key (PEM) of the client certificate
    #[arg(long, env = "SPACEPORT_KEY", global = true, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Name that the server's certificate is checked against, instead of the address
    #[arg(long, global = true, value_name = "NAME")]
    pub server_name: Option<String>,
    /// How long one call may take
    #[arg(long, global = true, default_value = "30s", value_parser = positive_duration, value_name = "DURATION")]
    pub timeout: Duration,
    /// How the result is written
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// An address that may be talked to: TLS anywhere, plaintext on this machine only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Url);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| format!("{text:?} must be https://HOST:PORT or http://LOOPBACK:PORT"))?;
        let loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
            Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
            None => false,
        };
        if url.scheme() == "http" && !loopback {
            return Err(format!("{text:?} is not on this machine, and plaintext goes no further: use https"));
        }
        Ok(Self(url))
    }
}

/// A Go duration above zero, such as `90s` or `1h30m`.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration =
        text.parse::<GoDuration>().and_then(GoDuration::to_std).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("must be above zero".to_owned()) } else { Ok(duration) }
}

/// A connected server.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    timeout: Duration,
}

impl Client {
    /// Connects to the first address that answers.
    pub async fn connect(args: &ClientArgs) -> Result<Self> {
        if args.endpoint.is_empty() {
            return Err(
                Usage("no server is named: give --endpoint or set SPACEPORT_ENDPOINT".to_owned()).into()
            );
        }
        let mut refusals = Vec::new();
        for address in &args.endpoint {
            match endpoint(args, address)?.connect().await {
                Ok(channel) => return Ok(Self { channel, timeout: args.timeout }),
                Err(error) => refusals.push(format!("{} ({})", address.0, root_cause(&error))),
            }
        }
        bail!("no server can be reached: {}", refusals.join(", "))
    }

    /// The same server, for calls that may take longer.
    pub fn patient(&self, timeout: Duration) -> Self {
        Self { channel: self.channel.clone(), timeout }
    }

    /// The workspace API.
    pub fn workspaces(&self) -> WorkspaceManagerClient<Channel> {
        WorkspaceManagerClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// Workspaces' logs.
    pub fn logs(&self) -> LogsClient<Channel> {
        LogsClient::new(self.channel.clone())
    }

    /// The admin's API.
    pub fn clusters(&self) -> ClusterManagerClient<Channel> {
        ClusterManagerClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// One call within the deadline, which the server is told too.
    pub async fn call<T, R>(
        &self,
        message: T,
        method: impl AsyncFnOnce(Request<T>) -> Result<Response<R>, Status>,
    ) -> Result<R, Status> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        // Boxed, because a call's future is large, and verbs hold several.
        Box::pin(self.within(method(request))).await
    }

    /// Opens a stream: its beginning has the deadline, its life has none.
    pub async fn open<T, R>(
        &self,
        message: T,
        method: impl AsyncFnOnce(Request<T>) -> Result<Response<R>, Status>,
    ) -> Result<R, Status> {
        Box::pin(self.within(method(Request::new(message)))).await
    }

    async fn within<R>(&self, call: impl Future<Output = Result<Response<R>, Status>>) -> Result<R, Status> {
        let late =
            || Status::deadline_exceeded(format!("no answer within {}", GoDuration::from(self.timeout)));
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            // The transport's own timer, which is as long, may be first.
            Ok(Err(status)) if status.code() == Code::Cancelled && status.message() == "Timeout expired" => {
                Err(late())
            }
            Ok(Err(status)) => Err(status),
            Err(_) => Err(late()),
        }
    }
}

/// Asks again at whichever address answers, with growing pauses and for as long as one call may take, unless another try would
/// be refused too.
pub async fn again<T>(
    args: &ClientArgs,
    is_final: impl Fn(&Status) -> bool,
    mut ask: impl AsyncFnMut(&Client) -> Result<T, Status>,
) -> Result<T> {
    let deadline = Instant::now() + args.timeout;
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        let failure = match Client::connect(args).await {
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
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn endpoint(args: &ClientArgs, address: &Address) -> Result<Endpoint> {
    let endpoint = Endpoint::from_shared(address.0.to_string())?
        .connect_timeout(args.timeout.min(CONNECT_TIMEOUT))
        // A stream may be silent for hours: this tells a quiet server from one that is gone.
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    if address.0.scheme() == "http" {
        return Ok(endpoint);
    }
    Ok(endpoint.tls_config(tls(args)?)?)
}

fn tls(args: &ClientArgs) -> Result<ClientTlsConfig> {
    if args.ca.is_none() {
        let text = "https needs --ca or SPACEPORT_CA: the system's authorities are not consulted";
        return Err(Usage(text.to_owned()).into());
    }
    let identity = match (&args.cert, &args.key) {
        (Some(crt), Some(key)) => Some(IdentityFiles { crt: crt.clone(), key: key.clone() }),
        (None, None) => None,
        _ => return Err(Usage("--cert and --key belong together".to_owned()).into()),
    };
    let files = ClientFiles { ca: args.ca.clone(), identity };
    Ok(client_config(&files, args.server_name.as_deref())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_stays_on_this_machine() {
        for good in ["http://127.0.0.1:80", "http://[::1]:80", "http://localhost:1", "https://a.example:443"]
        {
            assert!(good.parse::<Address>().is_ok(), "{good}");
        }
        for bad in [
            "http://10.0.0.1:80",
            "http://a.example",
            "a.example:80",
            "ftp://localhost",
            "",
            "http://127.0.0.1.example",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_timeout_is_a_duration_above_zero() {
        assert_eq!(positive_duration("1m30s"), Ok(Duration::from_secs(90)));
        for bad in ["0s", "-1s", "30", ""] {
            assert!(positive_duration(bad).is_err(), "{bad}");
        }
    }
}
