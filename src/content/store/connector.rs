//! HTTP between the client library and the network. The library hides the status of a failed response behind private types;
//! here those that it does not name itself become a [`Refusal`], which [`Error`](super::Error) finds in the chain of causes.

use async_trait::async_trait;
use futures::StreamExt as _;
use http::header::DATE;
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService, ReqwestConnector,
};

use super::problem::{Refusal, SKEWED};

/// From which on stores refuse signatures.
const SKEW: SignedDuration = SignedDuration::from_mins(15);
/// Bytes of an error response that are read.
const BODY_MAX: usize = 64 * 1024;

/// Installs the TLS provider of the process, unless it has one: the HTTP client takes no other.
pub fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Connects with `reqwest`, and reads error responses.
#[derive(Debug, Default)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service { inner }))
    }
}

#[derive(Debug)]
struct Service {
    inner: HttpClient,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.inner.execute(request).await?;
        let status = response.status();
        // The library maps these to errors of their own; of a missing object only the code says whether the bucket is there. A
        // denial it maps only where it asks for one object, not where it lists.
        let named = [StatusCode::NOT_MODIFIED, StatusCode::CONFLICT, StatusCode::PRECONDITION_FAILED];
        if !(status.is_client_error() || status.is_server_error()) || named.contains(&status) {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = beginning(body).await;
        // The answer to a HEAD has no document.
        let is_skewed = status == StatusCode::FORBIDDEN && is_skewed(&parts.headers, Timestamp::now());
        let code = if is_skewed { SKEWED.to_owned() } else { code_of(&body) };
        if status == StatusCode::NOT_FOUND && code != "NoSuchBucket" {
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(body)));
        }
        Err(HttpError::new(HttpErrorKind::Unknown, Refusal { status, code }))
    }
}

/// Whether the clock of the store, by its answer, is too far from this one for any signature to be valid.
fn is_skewed(headers: &HeaderMap, now: Timestamp) -> bool {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    date.is_some_and(|date| now.duration_since(date.timestamp()).abs() > SKEW)
}

async fn beginning(body: HttpResponseBody) -> Vec<u8> {
    let mut stream = body.bytes_stream();
    let mut text = Vec::new();
    while let Some(Ok(chunk)) = stream.next().await {
        text.extend_from_slice(&chunk);
        if text.len() > BODY_MAX {
            break;
        }
    }
    text.truncate(BODY_MAX);
    text
}

/// The text of the element `Code` of an error document.
fn code_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let code =
        text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let plain = |code: &&str| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    code.filter(plain).unwrap_or("no error code").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error_document_is_read_and_nothing_else() {
        assert_eq!(code_of(b"<Error><Code>SlowDown</Code><Message>secret</Message></Error>"), "SlowDown");
        assert_eq!(code_of(b"<Code>a b</Code>"), "no error code");
        assert_eq!(code_of(b"<html>"), "no error code");
    }

    #[test]
    fn a_clock_that_is_far_off_is_found_in_the_headers_of_a_denial() {
        let headers = |date: &str| HeaderMap::from_iter([(DATE, date.parse().unwrap())]);
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        for (date, expected) in [
            ("Fri, 02 Jan 2026 03:04:05 GMT", false),
            ("Fri, 02 Jan 2026 03:18:05 GMT", false),
            ("Fri, 02 Jan 2026 04:04:05 GMT", true),
            ("Fri, 02 Jan 2026 02:04:05 GMT", true),
            ("soon", false),
        ] {
            assert_eq!(is_skewed(&headers(date), now), expected, "{date}");
        }
        assert!(!is_skewed(&HeaderMap::new(), now));
    }
}
