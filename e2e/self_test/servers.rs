//! The git server and the file server: what clients get, also when something goes wrong.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Result, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use e2e::harness::spaceport::{Output, run};
use e2e::harness::{GitServer, HttpFiles, Trouble};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOGIN: Option<(&str, &str)> = Some(("jane", "t0ken"));

async fn git(args: &[&str]) -> Result<Output> {
    let mut command = Command::new("git");
    command.args(["-c", "credential.helper="]).args(args).kill_on_drop(true);
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_GLOBAL", "/dev/null").env("NO_PROXY", "*");
    run(command).await
}

fn with_login(url: &str, login: &str) -> String {
    url.replace("http://", &format!("http://{login}@"))
}

#[tokio::test]
async fn a_repository_is_cloned_and_pushed_with_its_password_alone() -> Result<()> {
    let server = GitServer::start(HERE, LOGIN).await?;
    server.create("work").await?;
    let first = server.commit("work", "main", &[("README", "hello\n"), ("src/a", "1\n")]).await?;
    let second = server.commit("work", "main", &[("src/a", "2\n")]).await?;
    ensure!(first != second, "two commits have one id");
    let dir = TempDir::new()?;
    let (to, clone) = (dir.path().join("clone"), dir.path().join("clone").display().to_string());
    let refused = git(&["clone", &server.remote("work"), &clone]).await?;
    ensure!(refused.code != 0 && !to.exists(), "cloned without a password");
    let remote = with_login(&server.remote("work"), "jane:t0ken");
    let cloned = git(&["clone", &remote, &clone]).await?;
    ensure!(cloned.code == 0, "{}", cloned.stderr);
    ensure!(std::fs::read_to_string(to.join("src/a"))? == "2\n", "an old commit");
    let who = ["-c", "user.name=j", "-c", "user.email=j@example.org"];
    let commit = [&["-C", &clone][..], &who, &["commit", "--quiet", "--allow-empty", "-m", "third"]].concat();
    for args in [commit, vec!["-C", &clone, "push", "--quiet", "origin", "main"]] {
        let done = git(&args).await?;
        ensure!(done.code == 0, "{args:?}: {}", done.stderr);
    }
    let seen = server.seen();
    ensure!(seen.iter().any(|seen| seen.status == Some(401) && seen.user.is_none()), "{seen:?}");
    let pushed = |seen: &e2e::harness::http::Seen| seen.target == "/work.git/git-receive-pack";
    ensure!(seen.iter().any(|seen| pushed(seen) && seen.status == Some(200)), "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn a_git_server_fails_as_asked() -> Result<()> {
    let server = GitServer::start(HERE, LOGIN).await?;
    server.create("work").await?;
    server.commit("work", "main", &[("README", "hello\n")]).await?;
    let dir = TempDir::new()?;
    let remote = with_login(&server.remote("work"), "jane:t0ken");
    for (trouble, said) in [
        (Trouble::Status(500), "500"),
        (Trouble::Status(401), "Authentication failed"),
        (Trouble::Cut(20), "transfer closed"),
    ] {
        server.set(trouble);
        let to = dir.path().join("failed").display().to_string();
        let output = git(&["clone", &remote, &to]).await?;
        ensure!(output.code != 0, "{trouble:?}: it was cloned");
        ensure!(output.stderr.contains(said), "{trouble:?}: {}", output.stderr);
    }
    server.set(Trouble::Hang);
    let to = dir.path().join("hangs").display().to_string();
    ensure!(timeout(Duration::from_secs(2), git(&["clone", &remote, &to])).await.is_err(), "it answered");
    server.set(Trouble::None);
    let output = git(&["clone", &remote, &dir.path().join("whole").display().to_string()]).await?;
    ensure!(output.code == 0, "{}", output.stderr);
    Ok(())
}

#[tokio::test]
async fn files_are_served_whole_or_cut() -> Result<()> {
    let files = HttpFiles::start(HERE, None).await?;
    let content = vec![7; 300_000];
    let url = files.put("/a.bin", content.clone());
    let whole = fetch(&url).await?;
    ensure!(whole == content, "{} bytes", whole.len());
    files.set(Trouble::Cut(1000));
    ensure!(fetch(&url).await.is_err(), "a cut file came whole");
    files.set(Trouble::None);
    ensure!(fetch(&format!("{url}.none")).await.is_err(), "a file that is not there");
    Ok(())
}

async fn fetch(url: &str) -> Result<Vec<u8>> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
    let response = client.get(url.parse()?).await?;
    ensure!(response.status().is_success(), "{}", response.status());
    Ok(response.into_body().collect().await?.to_bytes().to_vec())
}
