//! Keeps the metadata of every error below 8 KiB, whether this replica, the leader or an image builder made the error.
//!
//! The outermost layer. Message and details of an error are headers or trailers, and clients reject long ones: tonic,
//! and so a standby, from 16 KiB on, and then the call ends with a transport error without a cause. Errors made here
//! are short already ([`super::error_text`]); this layer enforces it for all.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt as _};
use tower::{Layer, Service};

use super::error_text::{self, Violations};

/// Bytes of an error's metadata, as HTTP/2 counts them.
pub(super) const METADATA_MAX: usize = 8 * 1024;
/// Bytes of metadata that are read from image builders and other replicas, so that an oversized error is trimmed here
/// and does not break the connection.
pub const READ_MAX: u32 = 256 * 1024;
/// What HTTP/2 adds for an entry besides name and value.
const ENTRY: usize = 32;
/// Reserve for what the server adds: the date.
const RESERVED: usize = 128;

/// Accepts input with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Trims the errors of all services.
#[derive(Debug, Clone, Copy)]
pub struct TrimLayer;

impl<S> Layer<S> for TrimLayer {
    type Service = Trimmed<S>;

    fn layer(&self, inner: S) -> Trimmed<S> {
        Trimmed(inner)
    }
}

#[derive(Debug, Clone)]
pub struct Trimmed<S>(S);

impl<S> Service<Request<Body>> for Trimmed<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            trim(response.headers_mut());
            if response.headers().contains_key(Status::GRPC_STATUS) {
                return Ok(response);
            }
            Ok(response.map(|body| Body::new(TrimmedBody(body))))
        })
    }
}

/// A response body whose trailers are trimmed.
struct TrimmedBody(Body);

impl hyper::body::Body for TrimmedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            trim(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Bytes of metadata as HTTP/2 counts them.
pub(super) fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| entry(name, value)).sum()
}

fn entry(name: &HeaderName, value: &HeaderValue) -> usize {
    name.as_str().len() + value.len() + ENTRY
}

/// Shortens message and details of an oversized error, and drops other metadata that does not fit.
fn trim(headers: &mut HeaderMap) {
    let code = headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()));
    let Some(code) = code.filter(|code| *code != Code::Ok) else { return };
    if size(headers) <= METADATA_MAX - RESERVED {
        return;
    }
    let full = std::mem::take(headers);
    let keep = |name: &HeaderName| *name == http::header::CONTENT_TYPE;
    for (name, value) in full.iter().filter(|(name, _)| keep(name)) {
        headers.append(name, value.clone());
    }
    let (message, details) = (message(&full), details(&full));
    let with = |details: ErrorDetails| {
        let mut status = headers.clone();
        let brief = Status::with_error_details(code, message.clone(), details);
        brief.add_header(&mut status).is_ok().then_some(status)
    };
    let fits = |headers: &HeaderMap| size(headers) <= METADATA_MAX - RESERVED;
    let trimmed = with(details).filter(fits).or_else(|| with(ErrorDetails::new()).filter(fits));
    *headers = trimmed.unwrap_or_else(|| {
        let mut bare = headers.clone();
        bare.insert(Status::GRPC_STATUS, HeaderValue::from(i32::from(code)));
        bare
    });
    let ours = [Status::GRPC_STATUS, Status::GRPC_MESSAGE, Status::GRPC_STATUS_DETAILS];
    for (name, value) in &full {
        let fits = size(headers) + entry(name, value) <= METADATA_MAX - RESERVED;
        if fits && !keep(name) && !ours.contains(name) {
            headers.append(name, value.clone());
        }
    }
}

/// The shortened message. Other programs may have written it.
fn message(headers: &HeaderMap) -> String {
    let mut alone = HeaderMap::new();
    for name in [Status::GRPC_STATUS, Status::GRPC_MESSAGE] {
        if let Some(value) = headers.get(&name) {
            alone.insert(name, value.clone());
        }
    }
    let status = Status::from_header_map(&alone);
    error_text::text(status.as_ref().map(Status::message).unwrap_or_default(), error_text::MESSAGE)
}

/// The shortened details, of the kinds that Spaceport's own errors have.
fn details(headers: &HeaderMap) -> ErrorDetails {
    let mut brief = ErrorDetails::new();
    let encoded = headers.get(Status::GRPC_STATUS_DETAILS).map(HeaderValue::as_bytes).unwrap_or_default();
    // tonic assumes that decoding succeeds.
    let Ok(bytes) = BASE64.decode(encoded) else { return brief };
    let full = Status::with_details(Code::Unknown, "", bytes.into()).get_error_details();
    if let Some(bad) = full.bad_request() {
        let mut violations = Violations::default();
        bad.field_violations.iter().for_each(|v| violations.add(&v.field, &v.description));
        brief.set_bad_request(
            violations
                .into_listed()
                .map(|(field, rule)| FieldViolation::new(field, rule))
                .collect::<Vec<_>>(),
        );
    }
    if let Some(failure) = full.precondition_failure() {
        let kind = failure.violations.first().map(|v| error_text::text(&v.r#type, 50)).unwrap_or_default();
        let mut violations = Violations::default();
        failure.violations.iter().for_each(|v| violations.add(&v.subject, &v.description));
        let listed = violations.into_listed();
        brief.set_precondition_failure(
            listed.map(|(subject, why)| PreconditionViolation::new(&*kind, subject, why)).collect::<Vec<_>>(),
        );
    }
    if let Some(retry) = full.retry_info() {
        brief.set_retry_info(retry.retry_delay);
    }
    if let Some(info) = full.error_info() {
        let (reason, domain) = (error_text::text(&info.reason, 64), error_text::text(&info.domain, 64));
        brief.set_error_info(reason, domain, std::collections::HashMap::new());
    }
    brief
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn trimmed(status: &Status) -> (HeaderMap, Status) {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        trim(&mut headers);
        assert!(size(&headers) <= METADATA_MAX, "{}", size(&headers));
        let read = Status::from_header_map(&headers).unwrap();
        assert_eq!(read.code(), status.code());
        (headers, read)
    }

    fn violations(count: usize, letter: &str) -> Status {
        let mut details = ErrorDetails::new();
        for at in 0..count {
            details.add_bad_request_violation(format!("field[{at}]"), letter.repeat(100));
        }
        details.set_retry_info(Some(std::time::Duration::from_secs(1)));
        details.set_error_info("INVALID", "spaceport.dev", std::collections::HashMap::new());
        Status::with_error_details(Code::InvalidArgument, letter.repeat(count * 100), details)
    }

    #[test]
    fn a_small_error_stays_as_it_is() {
        let (headers, read) = trimmed(&violations(3, "x"));
        let mut same = HeaderMap::new();
        violations(3, "x").add_header(&mut same).unwrap();
        assert_eq!(headers, same);
        assert_eq!(read.get_details_bad_request().unwrap().field_violations.len(), 3);
    }

    #[test]
    fn a_large_error_keeps_its_code_the_beginning_of_its_message_and_what_programs_read() {
        for letter in ["x", "é", "\u{0}", "%", "𝄞"] {
            let (_, read) = trimmed(&violations(10_000, letter));
            assert!(read.message().ends_with("..."), "{}", read.message());
            let details = read.get_error_details();
            let listed = details.bad_request().unwrap().field_violations.len();
            assert!((1..=error_text::LISTED).contains(&listed), "{listed} for {letter:?}");
            assert_eq!(details.error_info().unwrap().reason, "INVALID");
            assert!(details.retry_info().is_some());
        }
    }

    #[test]
    fn details_that_are_of_no_known_kind_or_no_base64_are_dropped() {
        let unknown = Status::with_details(Code::NotFound, "no", vec![7; 100_000].into());
        assert_eq!(trimmed(&unknown).1.message(), "no");
        let mut headers = HeaderMap::new();
        Status::not_found("no").add_header(&mut headers).unwrap();
        headers.insert(Status::GRPC_STATUS_DETAILS, HeaderValue::from_str(&"!".repeat(20_000)).unwrap());
        trim(&mut headers);
        assert!(size(&headers) <= METADATA_MAX);
        assert_eq!(Status::from_header_map(&headers).unwrap().message(), "no");
    }

    #[test]
    fn other_metadata_stays_as_far_as_it_fits() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        Status::not_found("no").add_header(&mut headers).unwrap();
        headers.insert("x-large", HeaderValue::from_str(&"x".repeat(9_000)).unwrap());
        headers.insert("x-small", HeaderValue::from_static("small"));
        trim(&mut headers);
        assert_eq!(headers["x-small"], "small");
        assert_eq!(headers["content-type"], "application/grpc");
        assert!(!headers.contains_key("x-large"));
    }

    #[tokio::test]
    async fn errors_in_trailers_are_trimmed_and_what_comes_before_passes() {
        let mut trailers = HeaderMap::new();
        violations(10_000, "x").add_header(&mut trailers).unwrap();
        let frames =
            [Ok::<_, Status>(Frame::data(Bytes::from_static(b"one"))), Ok(Frame::trailers(trailers))];
        let inner = Body::new(StreamBody::new(stream::iter(frames)));
        let whole = TrimmedBody(inner).collect().await.unwrap();
        assert!(size(whole.trailers().unwrap()) <= METADATA_MAX);
        assert_eq!(whole.to_bytes(), "one");
    }
}
