//! A git server over HTTP: `git http-backend` as a CGI program.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::{StreamExt as _, stream};
use http::{StatusCode, header};
use tempfile::TempDir;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use super::{Server, status};

/// Bytes of a response's headers.
const HEADERS_MAX: u64 = 64 * 1024;
const CHUNK: usize = 64 * 1024;

/// A git server. Dropping it removes its repositories.
pub struct GitServer {
    server: Server,
    root: Arc<TempDir>,
}

impl GitServer {
    /// At a free port of an address of this machine; with credentials, only for those, who may push too.
    pub async fn start(ip: IpAddr, credentials: Option<(&str, &str)>) -> Result<Self> {
        let root = Arc::new(TempDir::new().context("no folder for repositories")?);
        let user = credentials.map(|(user, _)| user.to_owned());
        let folder = Arc::clone(&root);
        let server = Server::start(ip, credentials, move |request| {
            let (root, user) = (folder.path().to_owned(), user.clone());
            async move {
                backend(&root, user.as_deref(), request).await.unwrap_or_else(|error| {
                    eprintln!("git http-backend: {error:#}");
                    status(StatusCode::INTERNAL_SERVER_ERROR)
                })
            }
        })
        .await?;
        Ok(Self { server, root })
    }

    /// URL of a repository, without credentials.
    pub fn remote(&self, repository: &str) -> String {
        format!("{}/{repository}.git", self.server.url())
    }

    /// Creates an empty repository; returns its folder.
    pub async fn create(&self, repository: &str) -> Result<PathBuf> {
        let dir = self.folder(repository);
        git(&["init", "--quiet", "--bare", "--initial-branch=main", &dir.to_string_lossy()], None).await?;
        Ok(dir)
    }

    /// Adds a commit that adds or replaces files on a branch; returns its id.
    pub async fn commit(&self, repository: &str, branch: &str, files: &[(&str, &str)]) -> Result<String> {
        let (dir, branch) = (self.folder(repository), format!("refs/heads/{branch}"));
        let git_dir = format!("--git-dir={}", dir.display());
        let parent = git(&[&git_dir, "rev-parse", "--verify", "--quiet", &branch], None).await.ok();
        let mut import = format!("commit {branch}\ncommitter Jane <jane@example.org> now\ndata 6\ncommit\n");
        if let Some(parent) = parent {
            writeln!(import, "from {parent}")?;
        }
        for (path, content) in files {
            writeln!(import, "M 100644 inline {path}\ndata {}\n{content}", content.len())?;
        }
        git(&[&git_dir, "fast-import", "--quiet", "--date-format=now"], Some(&import)).await?;
        git(&[&git_dir, "rev-parse", &branch], None).await
    }

    fn folder(&self, repository: &str) -> PathBuf {
        self.root.path().join(format!("{repository}.git"))
    }
}

impl Deref for GitServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Git without the configuration of whoever runs the tests.
fn command() -> Command {
    let mut command = Command::new("git");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn git(args: &[&str], input: Option<&str>) -> Result<String> {
    let mut child = command().args(args).spawn().context("cannot start git")?;
    let mut stdin = child.stdin.take().context("git without standard input")?;
    stdin.write_all(input.unwrap_or_default().as_bytes()).await.context("git does not read its input")?;
    drop(stdin);
    let done = child.wait_with_output().await?;
    ensure!(done.status.success(), "git {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// Runs the program for a request; the response's body is what it writes as it writes it.
async fn backend(root: &Path, user: Option<&str>, request: Request) -> Result<Response> {
    let (head, body) = request.into_parts();
    let header = |name: header::HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let mut command = command();
    command
        .arg("http-backend")
        .stderr(Stdio::inherit())
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("REMOTE_ADDR", "127.0.0.1");
    for (variable, value) in [
        ("REMOTE_USER", user),
        ("CONTENT_TYPE", header(header::CONTENT_TYPE)),
        ("CONTENT_LENGTH", header(header::CONTENT_LENGTH)),
        ("HTTP_CONTENT_ENCODING", header(header::CONTENT_ENCODING)),
        ("GIT_PROTOCOL", header(header::HeaderName::from_static("git-protocol"))),
    ] {
        if let Some(value) = value {
            command.env(variable, value);
        }
    }
    let mut child = command.spawn().context("cannot start it")?;
    let stdin = child.stdin.take().context("no standard input")?;
    tokio::spawn(feed(stdin, body));
    let mut output = BufReader::new(child.stdout.take().context("no standard output")?);
    let response = headers(&mut output).await?;
    Ok(response.map(|()| copied(child, output)))
}

async fn feed(mut stdin: ChildStdin, body: Body) {
    let mut chunks = body.into_data_stream();
    while let Some(Ok(chunk)) = chunks.next().await {
        if stdin.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

/// The headers that a CGI program writes before an empty line.
async fn headers(output: &mut (impl AsyncBufRead + Unpin)) -> Result<Response<()>> {
    let mut response = Response::builder();
    let mut output = output.take(HEADERS_MAX);
    loop {
        let mut line = String::new();
        ensure!(output.read_line(&mut line).await? > 0, "it ended without headers");
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(response.body(())?);
        }
        let (name, value) = line.split_once(": ").with_context(|| format!("{line:?} is no header"))?;
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().unwrap_or_default();
            response = response.status(code.parse::<u16>().context("no status")?);
        } else {
            response = response.header(name, value);
        }
    }
}

/// The rest of the output. The program ends with the body, if not before.
fn copied(child: Child, output: impl AsyncBufRead + Unpin + Send + 'static) -> Body {
    let chunks = stream::unfold((child, output), async |(child, mut output)| {
        let mut chunk = vec![0; CHUNK];
        match output.read(&mut chunk).await {
            Ok(0) => None,
            Ok(length) => {
                chunk.truncate(length);
                Some((Ok(chunk), (child, output)))
            }
            Err(error) => Some((Err(error), (child, output))),
        }
    });
    Body::from_stream(chunks)
}
