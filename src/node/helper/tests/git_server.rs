//! `git http-backend` behind a small HTTP server on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;

use super::stage::git;

/// For paths that begin with `/private`.
pub const USER: &str = "jane";
pub const PASSWORD: &str = "planted s3cr3t/with+odd%chars";

pub struct GitServer {
    root: Arc<tempfile::TempDir>,
    pub url: String,
    /// Values of the header `Authorization`.
    pub logins: Arc<Mutex<Vec<String>>>,
}

impl GitServer {
    pub fn start() -> Self {
        let root = Arc::new(tempfile::tempdir().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let logins = Arc::<Mutex<Vec<String>>>::default();
        let (folder, seen) = (Arc::clone(&root), Arc::clone(&logins));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (folder, seen) = (folder.path().to_path_buf(), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream, &folder, &seen));
            }
        });
        Self { root, url, logins }
    }

    /// A repository with a working copy beside it, in which commits are made.
    pub fn repository(&self, name: &str) -> PathBuf {
        let bare = self.root.path().join(format!("{name}.git"));
        std::fs::create_dir_all(&bare).unwrap();
        git(&bare, &["init", "--bare", "--quiet", "."]);
        git(&bare, &["config", "uploadpack.allowReachableSHA1InWant", "true"]);
        let working = self.root.path().join(format!("{name}.working"));
        git(self.root.path(), &["init", "--quiet", working.to_str().unwrap()]);
        git(&working, &["remote", "add", "origin", bare.to_str().unwrap()]);
        working
    }

    pub fn address(&self, name: &str) -> String {
        format!("{}/{name}.git", self.url)
    }
}

/// Writes files, commits and pushes; returns the commit.
pub fn commit(working: &std::path::Path, files: &[(&str, &str)], branch: &str) -> String {
    for (name, text) in files {
        let path = working.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    git(working, &["add", "--all"]);
    git(working, &["commit", "--quiet", "--allow-empty", "-m", &format!("on {branch}")]);
    git(working, &["push", "--quiet", "origin", &format!("HEAD:refs/heads/{branch}")]);
    git(working, &["rev-parse", "HEAD"])
}

fn serve(stream: TcpStream, root: &std::path::Path, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut input = BufReader::new(stream.try_clone().ok()?);
    let mut output = stream;
    let mut first = String::new();
    input.read_line(&mut first).ok()?;
    let mut words = first.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut command = Command::new("git");
    let (mut length, mut login) = (0, String::new());
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match &*name.to_ascii_lowercase() {
            "content-length" => length = value.parse().ok()?,
            "content-type" => drop(command.env("CONTENT_TYPE", value)),
            "content-encoding" => drop(command.env("HTTP_CONTENT_ENCODING", value)),
            "git-protocol" => drop(command.env("GIT_PROTOCOL", value)),
            "authorization" => {
                seen.lock().push(value.to_owned());
                value.clone_into(&mut login);
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).ok()?;
    let expected = format!("Basic {}", BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}")));
    if let Some(elsewhere) = path.strip_prefix("/elsewhere/") {
        let (port, rest) = elsewhere.split_once('/')?;
        write!(output, "HTTP/1.1 302 Found\r\nLocation: http://localhost:{port}/{rest}?{query}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
        return Some(());
    }
    if path.starts_with("/broken") {
        output
            .write_all(
                b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            )
            .ok()?;
        return Some(());
    }
    if path.starts_with("/private") && login != expected {
        let head = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        output.write_all(head.as_bytes()).ok()?;
        return Some(());
    }
    let mut child = command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", method)
        .env("CONTENT_LENGTH", length.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut to = child.stdin.take()?;
    let feed = std::thread::spawn(move || to.write_all(&body));
    let mut answer = Vec::new();
    child.stdout.take()?.read_to_end(&mut answer).ok()?;
    let _ = feed.join();
    let _ = child.wait();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    let body = &answer[end + 4..];
    write!(
        output,
        "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .ok()?;
    output.write_all(body).ok()?;
    Some(())
}
