//! The XML API, and of the JSON API the creation of buckets.

use std::fmt::Write as _;
use std::ops::Range;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use percent_encoding::percent_decode_str;

use super::auth::{Account, pairs};
use super::buckets::{Buckets, Object, Rejected};

/// Objects on a page of a listing at most. Google has 1,000; fewer here, so that tests turn pages.
const PAGE: usize = 100;
const GENERATION: &str = "x-goog-generation";
const IF_GENERATION: &str = "x-goog-if-generation-match";
const UNKNOWN: Rejected = Rejected(501, "NotImplemented");

/// A request, taken apart.
struct Call<'a> {
    parts: &'a Parts,
    query: Vec<(String, String)>,
    bucket: String,
    key: String,
    body: Bytes,
}

impl Call<'_> {
    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    fn content_type(&self) -> &str {
        self.header("content-type").unwrap_or("application/octet-stream")
    }
}

pub(super) fn answer(account: &Account, buckets: &Buckets, parts: &Parts, body: Bytes) -> Response {
    if let Err(error) = account.check(parts) {
        let is_known = parts.uri.query().is_some_and(|query| query.contains("X-Goog-Signature"));
        let status = if is_known { 403 } else { 401 };
        return rejected(Rejected(status, "SignatureDoesNotMatch"), &error.to_string());
    }
    let path = parts.uri.path().trim_start_matches('/');
    if path == "storage/v1/b" && parts.method == Method::POST {
        return create(buckets, &body);
    }
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let query = pairs(parts.uri.query().unwrap_or_default());
    let call = Call { parts, query, bucket: decode(bucket), key: decode(key), body };
    let answered = if call.key.is_empty() { list(buckets, &call) } else { object(buckets, &call) };
    answered.unwrap_or_else(|error| rejected(error, ""))
}

/// Creates a bucket, by the JSON API.
fn create(buckets: &Buckets, body: &[u8]) -> Response {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let name = body["name"].as_str().unwrap_or_default();
    if body["location"].as_str().is_none_or(str::is_empty) || !(3..=63).contains(&name.len()) {
        return response(StatusCode::BAD_REQUEST, HeaderMap::new(), Bytes::from_static(b"{}"));
    }
    let status = if buckets.create(name) { StatusCode::OK } else { StatusCode::CONFLICT };
    response(status, HeaderMap::new(), Bytes::from_static(b"{}"))
}

fn object(buckets: &Buckets, call: &Call<'_>) -> Result<Response, Rejected> {
    let (bucket, key) = (call.bucket.as_str(), call.key.as_str());
    let upload = call.query("uploadId");
    match (call.parts.method.as_str(), upload) {
        ("GET" | "HEAD", None) => {
            let found = buckets.get(bucket, key)?;
            download(call, &found)
        }
        ("PUT", None) => {
            let generation = call.header(IF_GENERATION).map(str::parse).transpose();
            let generation = generation.map_err(|_| Rejected(400, "InvalidArgument"))?;
            let made = buckets.put((bucket, key), call.body.clone(), call.content_type(), generation)?;
            Ok(response(StatusCode::OK, headers_of(&made), Bytes::new()))
        }
        ("PUT", Some(id)) => {
            let number = call.query("partNumber").and_then(|number| number.parse().ok()).unwrap_or(0);
            let e_tag = buckets.part(id, number, call.body.clone())?;
            let mut headers = HeaderMap::new();
            headers.extend(e_tag.parse().map(|value| (header::ETAG, value)));
            Ok(response(StatusCode::OK, headers, Bytes::new()))
        }
        ("POST", None) if call.query("uploads").is_some() => {
            let id = buckets.begin(bucket, key, call.content_type())?;
            let text = format!(
                "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            );
            Ok(response(StatusCode::OK, HeaderMap::new(), text.into()))
        }
        ("POST", Some(id)) => {
            let made = buckets.complete(id, &parts_of(&String::from_utf8_lossy(&call.body)))?;
            let e_tag = escaped(&made.e_tag);
            let text = format!(
                "<CompleteMultipartUploadResult><ETag>{e_tag}</ETag></CompleteMultipartUploadResult>"
            );
            Ok(response(StatusCode::OK, headers_of(&made), text.into()))
        }
        ("DELETE", Some(id)) => {
            buckets.abort(id)?;
            Ok(response(StatusCode::NO_CONTENT, HeaderMap::new(), Bytes::new()))
        }
        ("DELETE", None) => {
            buckets.delete(bucket, key)?;
            Ok(response(StatusCode::NO_CONTENT, HeaderMap::new(), Bytes::new()))
        }
        _ => Err(UNKNOWN),
    }
}

fn download(call: &Call<'_>, found: &Object) -> Result<Response, Rejected> {
    if let Some(wanted) = call.header("if-match")
        && wanted != found.e_tag
    {
        return Err(Rejected(412, "PreconditionFailed"));
    }
    let mut headers = headers_of(found);
    let kind = call.query("response-content-type").unwrap_or(&found.content_type);
    headers.extend(kind.parse().map(|value| (header::CONTENT_TYPE, value)));
    let size = found.content.len();
    if call.parts.method == Method::HEAD {
        headers.insert(header::CONTENT_LENGTH, size.into());
        return Ok(response(StatusCode::OK, headers, Bytes::new()));
    }
    let Some(range) = call.header("range") else {
        return Ok(response(StatusCode::OK, headers, found.content.clone()));
    };
    let Some(Range { start, end }) = range_of(range, size) else {
        return Err(Rejected(416, "InvalidRange"));
    };
    let text = format!("bytes {start}-{}/{size}", end - 1);
    headers.extend(text.parse().map(|value| (header::CONTENT_RANGE, value)));
    Ok(response(StatusCode::PARTIAL_CONTENT, headers, found.content.slice(start..end)))
}

/// `bytes=A-B`, `bytes=A-` and `bytes=-N`; `None` if it cannot be satisfied.
fn range_of(text: &str, size: usize) -> Option<Range<usize>> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (from.parse::<usize>(), to.parse::<usize>()) {
        (Ok(from), Ok(to)) => from..to.checked_add(1)?.min(size),
        (Ok(from), Err(_)) => from..size,
        (Err(_), Ok(last)) => size.saturating_sub(last)..size,
        _ => return None,
    };
    (range.start < range.end).then_some(range)
}

/// A page of a listing, version 2.
fn list(buckets: &Buckets, call: &Call<'_>) -> Result<Response, Rejected> {
    if call.parts.method != Method::GET
        || call.query("list-type") != Some("2")
        || call.query("delimiter").is_some()
    {
        return Err(UNKNOWN);
    }
    let prefix = call.query("prefix").unwrap_or_default();
    // The token of a page is the last name of the page before.
    let after = call.query("continuation-token").or_else(|| call.query("start-after")).unwrap_or_default();
    let most = call.query("max-keys").and_then(|most| most.parse().ok()).unwrap_or(PAGE).min(PAGE);
    let (page, more) = buckets.list(&call.bucket, prefix, after, most)?;
    let mut text = "<ListBucketResult>".to_owned();
    for (key, object) in &page {
        let (key, e_tag) = (escaped(key), escaped(&object.e_tag));
        let (size, modified) = (object.content.len(), object.modified.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"));
        let _ = write!(
            text,
            "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>{modified}</LastModified><ETag>{e_tag}</ETag></Contents>"
        );
    }
    if let Some((last, _)) = page.last().filter(|_| more) {
        let _ = write!(text, "<NextContinuationToken>{}</NextContinuationToken>", escaped(last));
    }
    text.push_str("</ListBucketResult>");
    Ok(response(StatusCode::OK, HeaderMap::new(), text.into()))
}

/// Numbers and ETags of the parts that an upload is made of.
fn parts_of(text: &str) -> Vec<(u32, String)> {
    let within = |text: &str, name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    };
    let parts = text.split("<Part>").skip(1);
    parts
        .filter_map(|part| Some((within(part, "PartNumber")?.parse().ok()?, within(part, "ETag")?)))
        .collect()
}

fn headers_of(object: &Object) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let modified = object.modified.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    headers.extend(object.e_tag.parse().map(|value| (header::ETAG, value)));
    headers.extend(modified.parse().map(|value| (header::LAST_MODIFIED, value)));
    headers.insert(GENERATION, object.generation.into());
    headers
}

fn rejected(Rejected(status, code): Rejected, message: &str) -> Response {
    let text = format!(
        "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{}</Message></Error>",
        escaped(message)
    );
    response(StatusCode::from_u16(status).unwrap_or_default(), HeaderMap::new(), text.into())
}

fn response(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
