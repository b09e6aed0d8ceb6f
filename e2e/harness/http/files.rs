//! Files over HTTP.

use std::{collections::BTreeMap, net::IpAddr, ops::Deref, sync::Arc};

use anyhow::Result;
use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;

use super::{Server, status};

/// A server of files in memory.
pub struct HttpFiles {
    server: Server,
    files: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

impl HttpFiles {
    /// At a free port of an address of this machine; with credentials, only for those.
    pub async fn start(ip: IpAddr, credentials: Option<(&str, &str)>) -> Result<Self> {
        let files = Arc::new(Mutex::new(BTreeMap::<String, Bytes>::new()));
        let served = Arc::clone(&files);
        let server = Server::start(ip, credentials, move |request: Request| {
            let found = served.lock().get(request.uri().path()).cloned();
            let answer =
                found.map_or_else(|| status(StatusCode::NOT_FOUND), |file| Response::new(Body::from(file)));
            std::future::ready(answer)
        })
        .await?;
        Ok(Self { server, files })
    }

    /// Serves a file under a path that begins with `/`; returns its URL.
    pub fn put(&self, path: &str, content: impl Into<Bytes>) -> String {
        self.files.lock().insert(path.to_owned(), content.into());
        format!("{}{path}", self.server.url())
    }
}

impl Deref for HttpFiles {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}
