//! A registry with one image, whatever it is asked for.
//!
//! A registry facade composes an image for each workspace, `<host>/remote/<instance id>`; to a node it is a registry
//! where every such name can be pulled. So is this one.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use anyhow::Result;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};

use super::image::{Blob, Image, MANIFEST};
use super::{Server, status};

/// A registry over plain HTTP.
pub struct Registry(Server);

impl Registry {
    /// At a free port of an address of this machine.
    pub async fn start(ip: IpAddr, image: Image) -> Result<Self> {
        let image = Arc::new(image);
        let server = Server::start(ip, None, move |request: Request| {
            std::future::ready(answer(&image, request.uri().path()))
        })
        .await?;
        Ok(Self(server))
    }

    /// Names of the images whose manifest was asked for, such as `remote/<instance id>`.
    pub fn pulled(&self) -> Vec<String> {
        let seen = self.0.seen();
        let names = seen.iter().filter_map(|seen| {
            let path = seen.target.split('?').next()?.strip_prefix("/v2/")?;
            path.split_once("/manifests/").map(|(name, _)| name.to_owned())
        });
        let mut names: Vec<String> = names.collect();
        names.dedup();
        names
    }
}

impl Deref for Registry {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

fn answer(image: &Image, path: &str) -> Response {
    if path == "/v2/" {
        return status(StatusCode::OK);
    }
    if path.contains("/manifests/") {
        return blob(&image.manifest, MANIFEST);
    }
    let wanted = path.rsplit('/').next().unwrap_or_default();
    let found = [&image.config, &image.layer, &image.manifest].into_iter().find(|blob| blob.digest == wanted);
    found.map_or_else(|| status(StatusCode::NOT_FOUND), |found| blob(found, "application/octet-stream"))
}

fn blob(blob: &Blob, kind: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_LENGTH, blob.bytes.len().to_string()),
        (header::HeaderName::from_static("docker-content-digest"), blob.digest.clone()),
    ];
    (headers, Body::from(blob.bytes.clone())).into_response()
}
