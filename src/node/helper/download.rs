//! Downloads files, in the helper and not in the agent: the servers are of the user's choice, and so is what they answer, so the
//! code that reads it has no privileges.

use std::io::Write;
use std::os::fd::AsFd;

use content::initializer::{Fault, reach};
use reqwest::{Client, Proxy, Url};
use ring::digest;

use super::files;
use super::ground::{Paced, workspace};
use super::protocol::{Failure, File, Outcome};
use super::settings::Settings;

/// Tries for one file.
const TRIES: usize = 3;

/// Downloads files in their order. A file is complete and has its digest, or the whole operation fails.
pub(super) fn run(files: &[File], settings: &Settings) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::platform(format!("the download did not start: {error}")))?;
    let client = client(settings)?;
    let mut download = Download { client, left: settings.limits.download, total: 0, paced: Paced::default() };
    runtime.block_on(async {
        for file in files {
            download.file(file).await?;
        }
        Ok(Outcome::Downloaded { bytes: download.total })
    })
}

fn client(settings: &Settings) -> Result<Client, Failure> {
    let bad =
        |error: reqwest::Error| Failure::configuration(format!("no HTTP client for downloads: {error}"));
    let mut client = reach::client();
    let set = |names: [&str; 2]| settings.environment.iter().find(|(name, _)| names.contains(&name.as_str()));
    let except = set(["no_proxy", "NO_PROXY"]).and_then(|(_, hosts)| reqwest::NoProxy::from_string(hosts));
    if let Some((_, proxy)) = set(["https_proxy", "HTTPS_PROXY"]) {
        client = client.proxy(Proxy::https(proxy).map_err(bad)?.no_proxy(except.clone()));
    }
    if let Some((_, proxy)) = set(["http_proxy", "HTTP_PROXY"]) {
        client = client.proxy(Proxy::http(proxy).map_err(bad)?.no_proxy(except));
    }
    client.build().map_err(bad)
}

struct Download {
    client: Client,
    /// Bytes until the bound.
    left: u64,
    total: u64,
    paced: Paced,
}

impl Download {
    async fn file(&mut self, file: &File) -> Result<(), Failure> {
        let field = &file.field;
        let url: Url = file.url.0.parse().map_err(|_| Failure::user(format!("{field}.url is not a URL")))?;
        if let Some(why) = reach::refusal(&url) {
            return Err(Failure::user(format!("{field}.url {why}")));
        }
        let mut attempt = 1;
        loop {
            match self.once(file, &url).await {
                Err(Broken::Connection(..)) if attempt < TRIES => attempt += 1,
                Err(Broken::Connection(fault, why)) => {
                    let message = format!("{field}.url cannot be downloaded: {why}");
                    return Err(Failure { fault, message });
                }
                Err(Broken::Final(failure)) => return Err(failure),
                Ok(bytes) => {
                    self.total += bytes;
                    self.left = self.left.saturating_sub(bytes);
                    return Ok(());
                }
            }
        }
    }

    async fn once(&mut self, file: &File, url: &Url) -> Result<u64, Broken> {
        let field = &file.field;
        let mut response = self.client.get(url.clone()).send().await.map_err(|error| broken(&error))?;
        if !response.status().is_success() {
            let why = format!("the server answered {}", response.status());
            let is_passing = response.status().is_server_error();
            return Err(if is_passing {
                Broken::Connection(Fault::Platform, why)
            } else {
                Broken::Final(Failure::user(format!("{field}.url cannot be downloaded: {why}")))
            });
        }
        let written = |error: std::io::Error| unwritten(&file.path, &error);
        let root = workspace().map_err(written)?;
        let mut target = files::create(root.as_fd(), &file.path).map_err(written)?;
        let mut hash =
            file.digest.as_ref().map(|(algorithm, _)| digest::Context::new(algorithm_of(algorithm)));
        let mut bytes = 0;
        while let Some(piece) = response.chunk().await.map_err(|error| broken(&error))? {
            bytes += piece.len() as u64;
            if bytes > self.left {
                let why = format!("{field}.url takes the download over the limit of this node");
                return Err(Broken::Final(Failure::user(why)));
            }
            target.write_all(&piece).map_err(written)?;
            if let Some(hash) = &mut hash {
                hash.update(&piece);
            }
            self.paced.report("downloading", self.total + bytes);
        }
        if let (Some(hash), Some((algorithm, hex))) = (hash, &file.digest) {
            let found = hex_of(hash.finish().as_ref());
            if found != *hex {
                let why =
                    format!("{field}.digest is {algorithm}:{hex}, and the file has {algorithm}:{found}");
                return Err(Broken::Final(Failure::user(why)));
            }
        }
        Ok(bytes)
    }
}

/// A full quota is the user's.
fn unwritten(path: &str, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::QuotaExceeded => {
            Failure::user(format!("the storage of this workspace is full: {path} cannot be written: {error}"))
        }
        std::io::ErrorKind::StorageFull => {
            Failure::platform(format!("the disk of the node is full: {path} cannot be written: {error}"))
        }
        _ => Failure::platform(format!("{path} cannot be written: {error}")),
    }
}

enum Broken {
    /// Another try may help. The address is the user's; a server that answers with an error of its own is not.
    Connection(Fault, String),
    Final(Failure),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

/// The innermost cause: the outer ones have the URL.
fn broken(error: &reqwest::Error) -> Broken {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let is_outer = std::ptr::addr_eq(cause, error);
    let why = if is_outer { "the request failed".to_owned() } else { cause.to_string() };
    Broken::Connection(Fault::User, why)
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The plan has no other algorithms.
fn algorithm_of(name: &str) -> &'static digest::Algorithm {
    match name {
        "sha512" => &digest::SHA512,
        "sha384" => &digest::SHA384,
        _ => &digest::SHA256,
    }
}
