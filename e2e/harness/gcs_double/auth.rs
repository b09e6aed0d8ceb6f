//! Bearer tokens (self-signed JWTs) and V4 signatures of URLs, both by the key of one service account.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Method;
use http::request::Parts;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ring::digest::{SHA256, digest};
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::Value;

/// A key that only tests use.
pub(super) const KEY: &str = include_str!("../../fixtures/gcs-double-key.pem");
pub(super) const EMAIL: &str = "double@test.iam.gserviceaccount.com";
/// Google signs for this host, whatever address the service has.
const HOST: &str = "storage.googleapis.com";
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The service account.
pub(super) struct Account {
    public: Vec<u8>,
}

impl Account {
    pub(super) fn open() -> Result<Self> {
        let text: String = KEY.lines().filter(|line| !line.starts_with("-----")).collect();
        let pair = RsaKeyPair::from_pkcs8(&STANDARD.decode(text).context("the key is no PEM")?);
        let pair = pair.map_err(|error| anyhow::anyhow!("the key is no RSA key: {error}"))?;
        Ok(Self { public: pair.public_key().as_ref().to_vec() })
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public);
        key.verify(message, signature).ok().context("the signature is wrong")
    }

    /// Fails unless the request has a valid token or a valid signed URL.
    pub(super) fn check(&self, parts: &Parts) -> Result<()> {
        let query = pairs(parts.uri.query().unwrap_or_default());
        if query.iter().any(|(name, _)| name == "X-Goog-Signature") {
            return self.check_url(parts, &query);
        }
        let header = parts.headers.get(http::header::AUTHORIZATION).context("no authorization")?;
        let token = header.to_str()?.strip_prefix("Bearer ").context("no bearer token")?;
        let (message, signature) = token.rsplit_once('.').context("no JWT")?;
        self.verify(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature)?)?;
        let (_, claims) = message.split_once('.').context("no JWT")?;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
        ensure!(claims["iss"] == EMAIL, "another issuer");
        ensure!(claims["exp"].as_i64() > Some(Timestamp::now().as_second()), "the token has expired");
        Ok(())
    }

    fn check_url(&self, parts: &Parts, query: &[(String, String)]) -> Result<()> {
        let of = |name: &str| {
            let found = query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
            found.with_context(|| format!("{name} is missing"))
        };
        let (date, expires) = (of("X-Goog-Date")?, of("X-Goog-Expires")?.parse::<i64>()?);
        let signed_at = DateTime::strptime("%Y%m%dT%H%M%SZ", date)?.to_zoned(TimeZone::UTC)?.timestamp();
        ensure!(signed_at.as_second() + expires > Timestamp::now().as_second(), "the URL has expired");
        let scope = format!("{}/auto/storage/goog4_request", date.get(..8).context("no date")?);
        ensure!(of("X-Goog-Credential")? == format!("{EMAIL}/{scope}"), "another account");
        let mut encoded: Vec<String> = query
            .iter()
            .filter(|(name, _)| name != "X-Goog-Signature")
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        encoded.sort_unstable();
        let signed_headers = of("X-Goog-SignedHeaders")?;
        let header = |name: &str| match name {
            "host" => HOST.to_owned(),
            name => {
                parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
            }
        };
        let headers: Vec<String> =
            signed_headers.split(';').map(|name| format!("{name}:{}", header(name))).collect();
        let canonical = format!(
            "{}\n{}\n{}\n{}\n\n{signed_headers}\nUNSIGNED-PAYLOAD",
            parts.method,
            parts.uri.path(),
            encoded.join("&"),
            headers.join("\n"),
        );
        let hash = hex(digest(&SHA256, canonical.as_bytes()).as_ref());
        let message = format!("GOOG4-RSA-SHA256\n{date}\n{scope}\n{hash}");
        self.verify(message.as_bytes(), &unhex(of("X-Goog-Signature")?)?)?;
        ensure!(parts.method != Method::POST, "no signed URL is for POST");
        Ok(())
    }
}

/// The decoded pairs of a query.
pub(super) fn pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(k, v)| (decode(k), decode(v)))
        .collect()
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, STRICT).to_string()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let byte = |at: usize| Ok(u8::from_str_radix(text.get(at..at + 2).context("no hex")?, 16)?);
    (0..text.len()).step_by(2).map(byte).collect()
}
