//! Which addresses the URLs of an initializer may reach. A node's link-local addresses hold its cloud's credentials, and what a URL
//! answers ends up in a workspace or as a password at a server of the user's choice.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, ClientBuilder, Url};

/// Redirects that are followed.
const REDIRECTS: usize = 10;
/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(20);
/// Without a byte.
const SILENCE: Duration = Duration::from_mins(1);

/// A client for URLs of users: no address of [`is_closed`], at most 10 redirects, and none from https to http.
pub fn client() -> ClientBuilder {
    // Fails if the process has one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .dns_resolver(Arc::new(Resolver))
        .redirect(Policy::custom(redirect))
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .user_agent(concat!("spaceport/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
}

/// Why a URL must not be requested; its host may also be closed by its resolution, which [`client`] checks.
pub fn refusal(url: &Url) -> Option<&'static str> {
    if !matches!(url.scheme(), "http" | "https") {
        return Some("is not http or https");
    }
    let address = match url.host() {
        Some(url::Host::Ipv4(address)) => IpAddr::V4(address),
        Some(url::Host::Ipv6(address)) => IpAddr::V6(address),
        Some(url::Host::Domain(_)) => return None,
        None => return Some("has no host"),
    };
    is_closed(address).then_some("names a link-local or metadata address of the node")
}

/// Addresses that answer with credentials of the machine, in all clouds and forms.
pub fn is_closed(address: IpAddr) -> bool {
    let address = address.to_canonical();
    match address {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || matches!(v4.octets(), [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16])
        }
        IpAddr::V6(v6) => {
            let parts = v6.segments();
            // IPv4 within NAT64 and 6to4.
            let inner = match parts {
                [0x64, 0xff9b, .., high, low] | [0x2002, high, low, ..] => Some((high, low)),
                _ => None,
            };
            let v4 = |(high, low): (u16, u16)| {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                is_closed(IpAddr::from([a, b, c, d]))
            };
            v6.is_unicast_link_local()
                || v6.is_unspecified()
                || v6.is_multicast()
                || matches!(parts, [0xfd00, 0xec2, 0, 0, 0, 0, 0, _] | [0xfd20, 0xce, 0, 0, 0, 0, 0, _])
                || inner.is_some_and(v4)
        }
    }
}

fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let is_downgrade = attempt.url().scheme() == "http"
        && attempt.previous().last().is_some_and(|previous| previous.scheme() == "https");
    if attempt.previous().len() > REDIRECTS {
        attempt.error("too many redirects")
    } else if is_downgrade {
        attempt.error("a redirect from https to http")
    } else if let Some(why) = refusal(attempt.url()) {
        attempt.error(format!("a redirect to a URL that {why}"))
    } else {
        attempt.follow()
    }
}

/// The system's resolver, without closed addresses.
struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(look_up(name))
    }
}

async fn look_up(name: Name) -> Result<Addrs, Box<dyn std::error::Error + Send + Sync>> {
    let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
    let open: Vec<SocketAddr> = found.filter(|address| !is_closed(address.ip())).collect();
    if open.is_empty() {
        return Err("the host has no address that may be reached".into());
    }
    Ok(Box::new(open.into_iter()))
}
