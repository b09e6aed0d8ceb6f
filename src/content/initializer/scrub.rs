//! Removes secrets from text that programs wrote: as they are, percent-encoded, and in base64 at any alignment.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

use super::plan::{Auth, Git, Login, Plan, Step};

/// What stands in place of a secret.
const REDACTED: &str = "[redacted]";
/// What stands in place of a text that cannot be scrubbed.
const WITHHELD: &str = "[withheld: a secret of the workspace is too short to be found in the output]";
/// A shorter secret occurs in any text by chance.
const SHORTEST: usize = 4;
/// A shorter value of a setting, or user, is not taken for a secret.
const SHORTEST_VALUE: usize = 8;
/// Characters of a core in base64 that is worth a search.
const CORE_MIN: usize = 8;

/// The secrets of a plan in all forms that are searched.
#[derive(Clone, Default)]
pub struct Scrubber {
    /// The longest first, so that a secret within another one does not hide it.
    forms: Vec<String>,
    withholds: bool,
}

impl Scrubber {
    /// From secrets as they are.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut scrubber = Self::default();
        for secret in secrets {
            scrubber.add(secret);
        }
        scrubber.forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        scrubber.forms.dedup();
        scrubber
    }

    /// From all secrets of a plan.
    pub fn of_plan(plan: &Plan) -> Self {
        let secrets = secrets(plan);
        Self::new(secrets.iter().map(String::as_str))
    }

    fn add(&mut self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        if secret.len() < SHORTEST {
            self.withholds = true;
            return;
        }
        self.forms.push(secret.to_owned());
        // Output is read line by line where it is cut.
        let lines = secret.lines().filter(|line| line.len() >= SHORTEST_VALUE && *line != secret);
        self.forms.extend(lines.map(str::to_owned));
        for kept in ["", "-._~", "-._~!$&'()*+,;=", "-._~/"] {
            let upper = encoded(secret, kept, true);
            if upper != secret {
                self.forms.push(upper.replace("%20", "+"));
                self.forms.push(upper);
                self.forms.push(encoded(secret, kept, false));
            }
        }
        self.base64(secret.as_bytes());
    }

    /// The characters that base64 of any text with the secret has in common.
    fn base64(&mut self, secret: &[u8]) {
        for before in 0..3 {
            let text: Vec<u8> = std::iter::repeat_n(0, before).chain(secret.iter().copied()).collect();
            for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
                let all = engine.encode(&text);
                // The characters that the bytes before and after the secret change.
                let end = text.len() * 8 / 6;
                let start = (before * 8).div_ceil(6);
                if let Some(core) = all.get(start..end).filter(|core| core.len() >= CORE_MIN) {
                    self.forms.push(core.to_owned());
                }
                if before == 0 {
                    self.forms.push(all);
                }
            }
        }
    }

    /// The text without secrets.
    pub fn scrub(&self, text: &str) -> String {
        if self.withholds {
            return WITHHELD.to_owned();
        }
        let mut text = text.to_owned();
        for form in &self.forms {
            if text.contains(form.as_str()) {
                text = text.replace(form.as_str(), REDACTED);
            }
        }
        text
    }

    /// Bytes of the longest form: text cut at a point may hold a part of a secret that is shorter than this.
    pub fn longest(&self) -> usize {
        self.forms.first().map_or(0, String::len)
    }
}

/// Percent-encoded, apart from letters, digits and `kept`.
fn encoded(text: &str, kept: &str, is_upper: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let letter = char::from(byte);
        if byte.is_ascii_alphanumeric() || kept.contains(letter) {
            encoded.push(letter);
        } else if is_upper {
            encoded.push_str(&format!("%{byte:02X}"));
        } else {
            encoded.push_str(&format!("%{byte:02x}"));
        }
    }
    encoded
}

/// All secrets of a plan as they are. Also the pairs that are sent.
pub fn secrets(plan: &Plan) -> Vec<String> {
    let mut found = Vec::new();
    for git in plan.repositories() {
        found.extend(of_git(git));
    }
    for step in &plan.steps {
        if let Step::Download(download) = step {
            download.files.iter().for_each(|file| found.extend(of_url(file.url.expose())));
        }
    }
    found
}

/// The secrets of a repository.
pub fn of_git(git: &Git) -> Vec<String> {
    let mut found = Vec::new();
    match &git.auth {
        Auth::Basic(login) => found.extend(of_login(login)),
        Auth::OneTime(url) => found.extend(of_url(url.expose())),
        Auth::None => {}
    }
    [&git.remote_login, &git.upstream_login].into_iter().flatten().for_each(|l| found.extend(of_login(l)));
    for (_, value) in &git.config {
        let value = value.expose();
        // The token of a header, and the whole of it.
        let token = value.rsplit(' ').next().unwrap_or_default();
        found.extend(
            [value.as_str(), token].iter().filter(|v| v.len() >= SHORTEST_VALUE).map(|v| (*v).to_owned()),
        );
    }
    found
}

/// The secrets of a login.
pub fn of_login(user: &str, password: &str) -> Vec<String> {
    let mut found = vec![password.to_owned(), format!("{user}:{password}")];
    // A token may be sent as the user: alone, or with a password that is a constant.
    if user.len() >= 2 * SHORTEST_VALUE || (password.is_empty() || password.starts_with("x-oauth")) {
        found.extend((user.len() >= SHORTEST).then(|| user.to_owned()));
    }
    found
}

/// The login and the query of a URL.
pub fn of_url(url: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(login) = domain::git::login(url) {
        found.extend(of_login(&login.user, &login.password));
    }
    if let Some((_, query)) = url.split_once('?') {
        let values =
            query.split(['&', '#']).map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
        let texts = values.chain([query]).filter(|text| text.len() >= SHORTEST_VALUE);
        found.extend(texts.map(str::to_owned));
    }
    found
}
