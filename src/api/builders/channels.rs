//! Connections to image builders.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::runtime::tls::{self, ClientFiles};

/// The name in the certificate of existing builders.
const SERVER_NAME: &str = "image-builder-mk3";
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Connections kept; there are as many builders as clusters, and old addresses are forgotten with the rest.
const MOST: usize = 256;

/// Connections by address, made when they are first used.
#[derive(Debug)]
pub struct Channels {
    tls: Option<ClientFiles>,
    open: Mutex<HashMap<String, Channel>>,
}

impl Channels {
    /// `tls`: identity and authority towards every builder; absent: plaintext.
    pub fn new(tls: Option<ClientFiles>) -> Self {
        Self { tls, open: Mutex::default() }
    }

    /// The connection to an address.
    pub fn get(&self, target: &str) -> Result<Channel, Status> {
        let mut open = self.open.lock();
        if let Some(channel) = open.get(target) {
            return Ok(channel.clone());
        }
        let unusable = |reason: &dyn std::fmt::Display| {
            Status::failed_precondition(format!("{target} cannot be used: {reason}"))
        };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let host = target.strip_prefix("dns:///").unwrap_or(target);
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{host}"))
            .map_err(|error| unusable(&error))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            // A build may be silent for long: this tells a quiet builder from one that is gone.
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10));
        if let Some(files) = &self.tls {
            let config = tls::client_config(files, Some(SERVER_NAME)).map_err(|error| unusable(&error))?;
            endpoint = endpoint.tls_config(config).map_err(|error| unusable(&error))?;
        }
        let channel = endpoint.connect_lazy();
        if open.len() >= MOST {
            open.clear();
        }
        open.insert(target.to_owned(), channel.clone());
        Ok(channel)
    }

    /// The next call connects anew, with the certificates that the files hold by then.
    pub fn forget(&self, target: &str) {
        self.open.lock().remove(target);
    }
}
