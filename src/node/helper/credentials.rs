//! Logins for git, over a socket in the helper's own `/tmp`: in no argument, variable or file.
//!
//! git runs this program as its credential helper, which asks the socket for the URL that git wants to log in to. Only the
//! URLs' own hosts get a login: neither a redirect nor a submodule elsewhere.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::time::Duration;

use url::Url;

use super::ground;
use super::protocol::RemoteLogin;
use super::root::PROGRAM;

/// Hidden second word of the hidden subcommand.
pub(super) const SUBCOMMAND: &str = "credentials";
/// Where the logins are.
const SOCKET: &str = "/tmp/credentials";
/// Bytes of a question or an answer.
const BYTES_MAX: u64 = 64 * 1024;
/// For one question.
const DEADLINE: Duration = Duration::from_secs(10);

/// Serves logins until the process ends.
pub(super) fn serve(logins: Vec<RemoteLogin>) -> io::Result<()> {
    let _ = std::fs::remove_file(SOCKET);
    let listener = UnixListener::bind(SOCKET)?;
    let serve = move || {
        for stream in listener.incoming() {
            // git fails with a message where an answer is missing.
            let _ = stream.and_then(|stream| answer(stream, &logins));
        }
    };
    std::thread::Builder::new().name("credentials".to_owned()).spawn(serve)?;
    Ok(())
}

/// The value of git's `credential.helper`.
pub(super) fn setting() -> String {
    format!("{PROGRAM} {} {SUBCOMMAND}", ground::SUBCOMMAND)
}

fn answer(mut stream: UnixStream, logins: &[RemoteLogin]) -> io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let wanted = Wanted::read(&mut BufReader::new((&stream).take(BYTES_MAX)))?;
    match find(&wanted, logins) {
        Some(login) => write!(stream, "username={}\npassword={}\n", login.user.0, login.password.0),
        None => Ok(()),
    }
}

/// What git wants to log in to.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    protocol: String,
    host: String,
    path: String,
}

impl Wanted {
    fn read(input: &mut impl BufRead) -> io::Result<Self> {
        let mut wanted = Self::default();
        for line in input.lines() {
            let line = line?;
            match line.split_once('=') {
                Some(("protocol", value)) => value.clone_into(&mut wanted.protocol),
                Some(("host", value)) => value.clone_into(&mut wanted.host),
                Some(("path", value)) => value.clone_into(&mut wanted.path),
                Some(_) => {}
                None => break,
            }
        }
        Ok(wanted)
    }
}

/// The login of this repository, or else of another one on the same host.
fn find<'a>(wanted: &Wanted, logins: &'a [RemoteLogin]) -> Option<&'a RemoteLogin> {
    let origin =
        |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default());
    let asked: Url = format!("{}://{}/", wanted.protocol, wanted.host).parse().ok()?;
    let parsed = logins.iter().filter_map(|login| Some((login.url.parse::<Url>().ok()?, login)));
    let here: Vec<(Url, &RemoteLogin)> = parsed.filter(|(url, _)| origin(url) == origin(&asked)).collect();
    let plain = |path: &str| path.trim_matches('/').to_owned();
    let same = here.iter().find(|(url, _)| plain(url.path()) == plain(&wanted.path));
    same.or(here.first()).map(|(_, login)| *login)
}

/// The credential helper: passes git's question on, and the answer back. Stores and erases nothing.
pub(super) fn ask(action: &str) -> ExitCode {
    if action != "get" {
        return ExitCode::SUCCESS;
    }
    match question() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn question() -> io::Result<()> {
    let mut text = String::new();
    io::stdin().take(BYTES_MAX).read_to_string(&mut text)?;
    let mut stream = UnixStream::connect(SOCKET)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(text.trim_end().as_bytes())?;
    stream.write_all(b"\n\n")?;
    let mut answer = Vec::new();
    stream.take(BYTES_MAX).read_to_end(&mut answer)?;
    io::stdout().write_all(&answer)
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Exposed;
    use super::*;

    fn login(url: &str, user: &str) -> RemoteLogin {
        RemoteLogin { url: url.into(), user: Exposed(user.into()), password: Exposed("p".into()) }
    }

    #[test]
    fn only_the_host_of_a_url_gets_its_login() {
        let logins = [
            login("https://example.org/team/a.git", "one"),
            login("https://example.org/team/b.git", "two"),
            login("http://example.net:8080/c.git", "three"),
        ];
        for (protocol, host, path, user) in [
            ("https", "example.org", "team/a.git", Some("one")),
            ("https", "example.org:443", "team/b.git", Some("two")),
            ("https", "EXAMPLE.org", "other.git", Some("one")),
            ("http", "example.net:8080", "", Some("three")),
            ("http", "example.org", "team/a.git", None),
            ("http", "example.net", "c.git", None),
            ("https", "evil.example", "team/a.git", None),
            ("https", "example.org.evil.example", "team/a.git", None),
            ("https", "example.org@evil.example", "team/a.git", None),
            ("", "", "", None),
        ] {
            let question = format!("protocol={protocol}\nhost={host}\npath={path}\nwwwauth[]=Basic\n\n");
            let wanted = Wanted::read(&mut question.as_bytes()).unwrap();
            let found = find(&wanted, &logins).map(|login| login.user.0.as_str());
            assert_eq!(found, user, "{question}");
        }
    }
}
