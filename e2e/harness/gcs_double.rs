//! A double of Google Cloud Storage, in memory: no server that speaks its XML API with generation preconditions runs on a test
//! machine. It serves what `object_store` and Spaceport send: objects, ranges, listings by page, uploads in parts, creation of
//! buckets. Bearer tokens and signed URLs are verified by the key of its service account, as Google does.
//!
//! What it is not: it knows no rights, versions, quotas or eventual behaviour, and rejects any other request with 501.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::response::Response;
use http_body_util::BodyExt as _;
use serde_json::json;

use super::http::{Seen, Server, Trouble};

mod api;
mod auth;
mod buckets;

use auth::Account;
use buckets::Buckets;

/// A running double. Dropping it ends it.
pub struct GcsDouble {
    server: Server,
    buckets: Arc<Buckets>,
}

impl GcsDouble {
    /// Starts it on a free port of loopback, without buckets.
    pub async fn start() -> Result<Self> {
        let account = Arc::new(Account::open()?);
        let buckets = Arc::new(Buckets::default());
        let shared = Arc::clone(&buckets);
        let handler = move |request: axum::extract::Request| {
            let (account, buckets) = (Arc::clone(&account), Arc::clone(&shared));
            async move {
                let (parts, body) = request.into_parts();
                match body.collect().await {
                    Ok(body) => api::answer(&account, &buckets, &parts, body.to_bytes()),
                    Err(_) => Response::new(axum::body::Body::empty()),
                }
            }
        };
        let server = Server::start(std::net::Ipv4Addr::LOCALHOST.into(), None, handler).await?;
        Ok(Self { server, buckets })
    }

    /// Its address, such as `127.0.0.1:7070`.
    pub fn address(&self) -> String {
        self.server.address().to_string()
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Writes a service account's credentials file that names `url` as the address of the service.
    pub fn write_credentials(&self, file: &Path, url: &str) -> Result<()> {
        let account = json!({
            "type": "service_account",
            "client_email": auth::EMAIL,
            "private_key_id": "double",
            "private_key": auth::KEY,
            "gcs_base_url": url,
        });
        let draft = file.with_extension("draft");
        std::fs::write(&draft, account.to_string()).context("cannot write credentials")?;
        std::fs::rename(&draft, file).context("cannot write credentials")
    }

    /// Whether there is a bucket.
    pub fn has_bucket(&self, name: &str) -> bool {
        self.buckets.names().iter().any(|bucket| bucket == name)
    }

    /// Names of the objects of a bucket.
    pub fn objects(&self, bucket: &str) -> Vec<String> {
        self.buckets.keys(bucket)
    }

    /// Uploads in parts that were neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.buckets.uploads()
    }

    /// Changes an object behind the service's back: its ETag and generation stay.
    pub fn damage(&self, bucket: &str, key: &str, damage: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        self.buckets.damage(bucket, key, damage)
    }

    /// What goes wrong with every request from now on.
    pub fn set(&self, trouble: Trouble) {
        self.server.set(trouble);
    }

    /// Requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.server.seen()
    }
}
