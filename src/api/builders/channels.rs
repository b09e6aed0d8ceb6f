//! Connections to image builders.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::error_trim;
use crate::peers::lasting;
use runtime::files;
use runtime::tls::{self, Transport};

/// Name in the certificate of existing builders.
const SERVER_NAME: &str = "image-builder-mk3";
/// Timeout of connecting.
const CONNECT: Duration = Duration::from_secs(5);
/// Connections that are kept. One cluster has one builder; connections to old addresses are evicted with the rest.
const MOST: usize = 256;

/// Connections by address, made on first use.
#[derive(Debug)]
pub struct Channels {
    transport: Option<Transport>,
    open: Mutex<HashMap<String, Channel>>,
}

impl Channels {
    /// `transport`: how builders are connected to; `None` if they are not.
    pub fn new(transport: Option<Transport>) -> Self {
        Self { transport, open: Mutex::default() }
    }

    /// The connection to an address.
    pub async fn get(&self, target: &str) -> Result<Channel, Status> {
        if let Some(channel) = self.open.lock().get(target) {
            return Ok(channel.clone());
        }
        let unusable = |reason: &dyn std::fmt::Display| {
            Status::failed_precondition(format!("{target} cannot be used: {reason}"))
        };
        let (scheme, files) = match &self.transport {
            Some(Transport::Tls(files)) => ("https", Some(files)),
            Some(Transport::Plaintext) => ("http", None),
            None => {
                return Err(unusable(&"imageBuilderProxy.tls is not configured, nor plaintext: true there"));
            }
        };
        let host = target.strip_prefix("dns:///").unwrap_or(target);
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{host}"))
            .map_err(|error| unusable(&error))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_max_header_list_size(error_trim::READ_MAX)
            // A build may be silent for long; keepalive distinguishes a quiet builder from a dead one.
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10));
        endpoint = lasting(endpoint);
        if let Some(files) = files {
            let files = files.clone();
            let late = |error: std::io::Error| Status::unavailable(format!("imageBuilderProxy.tls: {error}"));
            let read = files::apart(move || tls::client_config(&files, Some(SERVER_NAME)));
            let config = read.await.map_err(late)?.map_err(|error| unusable(&error))?;
            endpoint = endpoint.tls_config(config).map_err(|error| unusable(&error))?;
        }
        let channel = endpoint.connect_lazy();
        let mut open = self.open.lock();
        if open.len() >= MOST {
            open.clear();
        }
        Ok(open.entry(target.to_owned()).or_insert(channel).clone())
    }

    /// Closes the connection: the next call reconnects, with the certificates that the files then hold.
    pub fn forget(&self, target: &str) {
        self.open.lock().remove(target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_builder_is_not_called_without_configured_transport() {
        let refused = Channels::new(None).get("builder:8080").await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        assert!(refused.message().contains("imageBuilderProxy.tls"), "{refused}");
    }

    #[tokio::test]
    async fn plaintext_is_used_where_it_is_asked_for() {
        Channels::new(Some(Transport::Plaintext)).get("builder:8080").await.unwrap();
    }
}
