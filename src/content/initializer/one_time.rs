//! Logins that a URL answers once (`BASIC_AUTH_OTS`). The agent fetches them before a helper runs: their URLs are not the user's to
//! reach from the helper, and a helper that is run again could not fetch them a second time.

use std::collections::VecDeque;
use std::time::Duration;

use domain::hash;
use domain::secret::Secret;
use reqwest::{Client, StatusCode, Url};
use tokio::sync::Mutex;

use super::plan::{Auth, Login, Plan};
use super::reach;

/// Tries for one URL.
const TRIES: usize = 20;
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// One try as a whole.
const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const BYTES_MAX: usize = 16 * 1024;
/// Logins that are kept; the oldest go first.
const KEPT_MAX: usize = 1024;

/// Why a login was not fetched. The URL is secret, so the text has only the field.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL must not be requested.
    #[error("{field}.config.auth_ots {why}")]
    Closed {
        /// The repository's message.
        field: String,
        /// The rule.
        why: &'static str,
    },
    /// No try succeeded.
    #[error("{field}.config.auth_ots did not answer a login in {TRIES} tries; the last one failed: {why}")]
    NotFetched {
        /// The repository's message.
        field: String,
        /// Of the last try.
        why: String,
    },
    /// Every try found a server that failed.
    #[error(
        "{field}.config.auth_ots did not answer a login in {TRIES} tries, because its server fails: {why}"
    )]
    ServerFails {
        /// The repository's message.
        field: String,
        /// Of the last try.
        why: String,
    },
    /// The client cannot be made.
    #[error("no HTTP client for one-time logins: {0}")]
    Client(String),
}

/// Fetches logins, and keeps them in memory until they are forgotten.
pub struct OneTimeLogins {
    client: Client,
    /// By hash of the URL.
    fetched: Mutex<VecDeque<(String, Login)>>,
}

impl OneTimeLogins {
    /// With an empty memory.
    pub fn new() -> Result<Self, Error> {
        let client = reach::client().timeout(DEADLINE).build();
        let client = client.map_err(|error| Error::Client(cause(&error)))?;
        Ok(Self { client, fetched: Mutex::default() })
    }

    /// Replaces every one-time login of a plan by its answer.
    pub async fn resolve(&self, plan: &mut Plan) -> Result<(), Error> {
        for git in plan.repositories_mut() {
            if let Auth::OneTime(url) = &git.auth {
                git.auth = Auth::Basic(self.get(&git.field, url).await?);
            }
        }
        Ok(())
    }

    /// Forgets the logins of a plan as it was parsed, once its workspace needs them no more.
    pub async fn forget(&self, plan: &Plan) {
        let used: Vec<String> = plan
            .repositories()
            .filter_map(|git| match &git.auth {
                Auth::OneTime(url) => Some(hash::hex(url.expose())),
                _ => None,
            })
            .collect();
        self.fetched.lock().await.retain(|(key, _)| !used.contains(key));
    }

    async fn get(&self, field: &str, url: &Secret<String>) -> Result<Login, Error> {
        let field = || field.to_owned();
        let key = hash::hex(url.expose());
        if let Some((_, login)) = self.fetched.lock().await.iter().find(|(kept, _)| *kept == key) {
            return Ok(login.clone());
        }
        let Ok(url) = url.expose().parse::<Url>() else {
            return Err(Error::Closed { field: field(), why: "is not a URL" });
        };
        if let Some(why) = reach::refusal(&url) {
            return Err(Error::Closed { field: field(), why });
        }
        let login = self.fetch(&url).await.map_err(|untaken| match untaken {
            Untaken::ServerFails(why) => Error::ServerFails { field: field(), why },
            Untaken::Other(why) => Error::NotFetched { field: field(), why },
        })?;
        let mut fetched = self.fetched.lock().await;
        if fetched.len() >= KEPT_MAX {
            fetched.pop_front();
        }
        fetched.push_back((key, login.clone()));
        Ok(login)
    }

    async fn fetch(&self, url: &Url) -> Result<Login, Untaken> {
        let mut last = Untaken::Other(String::new());
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            match self.try_once(url).await {
                Ok(login) => return Ok(login),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    async fn try_once(&self, url: &Url) -> Result<Login, Untaken> {
        let mut response = self.client.get(url.clone()).send().await.map_err(|error| cause(&error))?;
        if response.status() != StatusCode::OK {
            let why = format!("the server answered {}", response.status());
            let fails = response.status().is_server_error();
            return Err(if fails { Untaken::ServerFails(why) } else { Untaken::Other(why) });
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| cause(&error))? {
            if body.len() + piece.len() > BYTES_MAX {
                return Err(format!("the answer has more than {BYTES_MAX} bytes").into());
            }
            body.extend_from_slice(&piece);
        }
        let text = String::from_utf8(body).map_err(|_| "the answer is not text".to_owned())?;
        Ok(login(&text)?)
    }
}

/// Why a try has no login.
enum Untaken {
    /// The server answered with an error of its own.
    ServerFails(String),
    Other(String),
}

impl From<String> for Untaken {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

/// `USER:PASSWORD`, or a password alone.
fn login(text: &str) -> Result<Login, String> {
    let (user, password) = text.split_once(':').unwrap_or(("", text));
    for part in [user, password] {
        domain::git::check_login(part).map_err(|why| format!("the answer {why}"))?;
    }
    if password.is_empty() {
        return Err("the answer has no password".to_owned());
    }
    Ok(Login { user: user.to_owned().into(), password: password.to_owned().into() })
}

/// The innermost cause, without the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() {
        "it did not answer in time".to_owned()
    } else if std::ptr::addr_eq(cause, error) {
        "the request failed".to_owned()
    } else {
        cause.to_string()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::initializer::{Folder, Git, Step, Target};

    fn plan(url: &str) -> Plan {
        let git = Git {
            field: "initializer.git".into(),
            remote: "https://example.org/a.git".into(),
            upstream: None,
            target: Target::RemoteHead,
            folder: Folder::default(),
            config: Vec::new(),
            auth: Auth::OneTime(url.to_owned().into()),
            remote_login: None,
            upstream_login: None,
            is_full: true,
        };
        Plan { steps: vec![Step::Git(Box::new(git))], is_composite: false, superseded: Vec::new() }
    }

    /// Refuses the first call, answers the second, and refuses all others.
    async fn server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for call in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let answer = if call == 1 {
                    "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\njane:s3cr"
                } else {
                    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        format!("http://{address}/ots/planted-key")
    }

    #[tokio::test]
    async fn a_login_that_is_answered_once_serves_every_later_run() {
        let url = server().await;
        let logins = OneTimeLogins::new().unwrap();
        for _ in 0..3 {
            let mut plan = plan(&url);
            logins.resolve(&mut plan).await.unwrap();
            let git = plan.repositories().next().unwrap();
            let Auth::Basic(login) = &git.auth else { panic!("the login was not fetched") };
            assert_eq!((&**login.user.expose(), &**login.password.expose()), ("jane", "s3cr"));
        }
        logins.forget(&plan(&url)).await;
        assert!(logins.fetched.lock().await.is_empty());
    }

    #[tokio::test]
    async fn addresses_of_the_cloud_are_not_requested_and_no_error_has_the_url() {
        let logins = OneTimeLogins::new().unwrap();
        for url in [
            "http://169.254.169.254/planted-key",
            "http://[fd00:ec2::254]/planted-key",
            "ftp://h/planted-key",
        ] {
            let error = logins.resolve(&mut plan(url)).await.unwrap_err();
            assert!(matches!(error, Error::Closed { .. }), "{error}");
            assert!(!format!("{error} {error:?}").contains("planted-key"));
        }
    }

    #[test]
    fn an_answer_is_user_and_password_or_a_password() {
        let parts =
            |text: &str| login(text).map(|login| (login.user.into_exposed(), login.password.into_exposed()));
        assert_eq!(parts("jane:a:b"), Ok(("jane".into(), "a:b".into())));
        assert_eq!(parts("token"), Ok((String::new(), "token".into())));
        for bad in ["", "jane:", "a\nb", "jane:a\r"] {
            assert!(parts(bad).is_err(), "{bad:?}");
        }
    }
}
