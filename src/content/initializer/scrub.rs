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
    /// As they are. The longest first, so that a secret within another one does not hide it.
    secrets: Vec<String>,
    /// In base64.
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
        for list in [&mut scrubber.secrets, &mut scrubber.forms] {
            list.sort_by(|a, b| (b.len(), a).cmp(&(a.len(), b)));
            list.dedup();
        }
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
        self.secrets.push(secret.to_owned());
        // Output is read line by line where it is cut.
        let lines = secret.lines().filter(|line| line.len() >= SHORTEST_VALUE && *line != secret);
        self.secrets.extend(lines.map(str::to_owned));
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
        for secret in &self.secrets {
            text = without(&text, secret.as_bytes());
        }
        for form in &self.forms {
            if text.contains(form.as_str()) {
                text = text.replace(form.as_str(), REDACTED);
            }
        }
        text
    }

    /// Bytes of the longest form: text cut at a point may hold a part of a secret that is shorter than this.
    pub fn longest(&self) -> usize {
        let percent_encoded = self.secrets.first().map_or(0, |secret| 3 * secret.len());
        percent_encoded.max(self.forms.first().map_or(0, String::len))
    }
}

/// Replaces a secret, any byte of which may be percent-encoded.
fn without(text: &str, secret: &[u8]) -> String {
    let bytes = text.as_bytes();
    let (mut kept, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        if let Some(length) = bytes.get(at..).and_then(|rest| match_length(rest, secret)) {
            kept.extend_from_slice(REDACTED.as_bytes());
            at += length;
        } else {
            kept.push(*byte);
            at += 1;
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Bytes of the text that the secret takes at its beginning.
fn match_length(text: &[u8], secret: &[u8]) -> Option<usize> {
    let mut at = 0;
    for wanted in secret {
        let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let encoded = match (text.get(at), digit(at + 1), digit(at + 2)) {
            (Some(b'%'), Some(high), Some(low)) => Some(high * 16 + low),
            _ => None,
        };
        if encoded == Some(u32::from(*wanted)) {
            at += 3;
        } else if text.get(at) == Some(wanted) || (*wanted == b' ' && text.get(at) == Some(&b'+')) {
            at += 1;
        } else {
            return None;
        }
    }
    Some(at)
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
    let of_parts = |login: &Login| of_login(login.user.expose(), login.password.expose());
    match &git.auth {
        Auth::Basic(login) => found.extend(of_parts(login)),
        Auth::OneTime(url) => found.extend(of_url(url.expose())),
        Auth::None => {}
    }
    let in_urls = [&git.remote_login, &git.upstream_login].into_iter().flatten();
    found.extend(in_urls.flat_map(of_parts));
    found.extend(git.config.iter().flat_map(|(_, value)| of_setting(value.expose())));
    found
}

/// The value of a setting, and its last word: the token of a header.
pub fn of_setting(value: &str) -> Vec<String> {
    let token = value.rsplit(' ').next().unwrap_or_default();
    [value, token].into_iter().filter(|text| text.len() >= SHORTEST_VALUE).map(str::to_owned).collect()
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
