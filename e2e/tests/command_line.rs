//! The command line as a person uses it: contexts, waits that end early, and connections that fail.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::story::{SOON, Story, story};
use e2e::harness::pki::{Authority, Identity};
use e2e::harness::spaceport::{Output, program, run};
use e2e::harness::{annotations, until};

/// Runs the program with only these variables.
async fn cli(variables: &[(&str, &str)], args: &[&str]) -> Result<Output> {
    let mut command = Command::new(program()?);
    command.env_clear().envs(variables.iter().copied()).args(args).kill_on_drop(true);
    run(command).await
}

/// Runs `cluster leader` at an address, with the flags of an identity.
async fn leader(story: &Story, endpoint: &str, identity: Option<&Identity>, more: &[&str]) -> Result<Output> {
    let ca = story.installation.authority().ca();
    let mut args = vec!["cluster", "leader", "--timeout", "10s", "--endpoint", endpoint];
    let (ca, files) =
        (ca.to_string_lossy(), identity.map(|one| [one.cert.to_string_lossy(), one.key.to_string_lossy()]));
    if !more.contains(&"--ca") {
        args.extend(["--ca", ca.as_ref()]);
    }
    if let Some([cert, key]) = &files {
        args.extend(["--cert", cert.as_ref(), "--key", key.as_ref()]);
    }
    args.extend(more);
    cli(&[], &args).await
}

fn says(output: &Output, expected: &str) -> Result<()> {
    ensure!(output.code == 1 && output.stdout.is_empty(), "{output:?}");
    ensure!(output.stderr.contains(expected), "{expected:?} is not in {:?}", output.stderr);
    ensure!(output.stderr.lines().count() == 1, "it says more than one line: {:?}", output.stderr);
    Ok(())
}

#[test]
fn the_command_line_says_what_is_wrong_with_a_connection() -> Result<()> {
    story("cli-tls", 1, &[], async |story| {
        let authority = story.installation.authority();
        let endpoint = &story.replicas.first().context("no manager")?.endpoint;
        let boss = authority.client("boss", &["spaceport:admin"])?;
        // It has expired by the time it is used.
        let expired = authority.client_for("late", &["spaceport:admin"], Duration::ZERO)?;
        let strangers = Authority::create(&story.installation.dir().join("strangers"), "strangers")?;
        let foreign = strangers.client("boss", &["spaceport:admin"])?;

        let output = leader(story, endpoint, Some(&boss), &[]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let output = leader(story, endpoint, None, &[]).await?;
        says(
            &output,
            &format!(
                "UNAVAILABLE: no server can be reached: {endpoint} (the server requires a client certificate"
            ),
        )?;
        let output = leader(story, endpoint, Some(&foreign), &[]).await?;
        says(&output, "the server does not trust the authority that signed the client certificate")?;
        until(SOON, "an expired certificate to be refused", async || {
            says(&leader(story, endpoint, Some(&expired), &[]).await?, "late.pem: it has expired")
        })
        .await?;
        let other = strangers.ca();
        let output = leader(story, endpoint, Some(&boss), &["--ca", &other.to_string_lossy()]).await?;
        says(&output, "is not from the authority in")?;
        let output = leader(story, endpoint, Some(&boss), &["--server-name", "manager.example"]).await?;
        says(&output, "the server's certificate is not for manager.example, but for localhost, 127.0.0.1")?;
        let plain = endpoint.replace("https://", "http://");
        says(
            &leader(story, &plain, Some(&boss), &[]).await?,
            "the server speaks TLS at this port: use https://",
        )?;
        let health = story.replicas.first().context("no manager")?.health.replace("http://", "https://");
        says(&leader(story, &health, Some(&boss), &[]).await?, "TLS")?;
        let mixed = Identity { key: foreign.key.clone(), ..boss.clone() };
        says(
            &leader(story, endpoint, Some(&mixed), &[]).await?,
            "do not belong together: the key is of another",
        )?;
        let dead = format!("https://127.0.0.1:1,{endpoint}");
        let output = leader(story, &dead, Some(&boss), &[]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        Ok(())
    })
}

#[test]
fn contexts_name_installations_and_version_prints_both_sides() -> Result<()> {
    story("cli-contexts", 1, &[], async |story| {
        let config = story.installation.dir().join("folder/config.yaml");
        let config = config.to_string_lossy().into_owned();
        let home = [("SPACEPORT_CONFIG", config.as_str())];
        let endpoint = story.replicas.first().context("no manager")?.endpoint.clone();
        let boss = story.installation.authority().client("boss", &["spaceport:admin"])?;
        let (ca, cert, key) = (story.installation.authority().ca(), boss.cert.clone(), boss.key.clone());
        let (ca, cert, key) = (ca.to_string_lossy(), cert.to_string_lossy(), key.to_string_lossy());
        let set = [
            "config",
            "set-context",
            "here",
            "--endpoint",
            &endpoint,
            "--ca",
            &ca,
            "--cert",
            &cert,
            "--key",
            &key,
        ];
        for args in [set.as_slice(), &["config", "use-context", "here"]] {
            let output = cli(&home, args).await?;
            ensure!(output.code == 0, "{}", output.stderr);
        }
        let text = std::fs::read_to_string(&config)?;
        ensure!(!text.contains("PRIVATE KEY") && !text.contains("CERTIFICATE"), "{text}");
        let output = cli(&home, &["cluster", "leader", "-o", "json"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let output = cli(&home, &["version", "-o", "json"]).await?;
        let version: Value = serde_json::from_str(&output.stdout).context(output.stderr)?;
        ensure!(version["client"] == version["server"]["version"], "{version}");
        ensure!(version["server"]["endpoint"] == endpoint.as_str(), "{version}");
        Ok(())
    })
}

#[test]
fn a_wait_that_ends_early_says_that_the_workspace_goes_on() -> Result<()> {
    story("cli-waits", 1, &["eu-1"], async |story| {
        let slow = format!("{}=slow-start", annotations::POD);
        let delay = format!("{}=60s", annotations::START_DELAY);
        let start = |id: &'static str| {
            [
                "workspace",
                "start",
                "--id",
                id,
                "--image",
                "image:1",
                "--wait",
                "--annotation",
                &slow,
                "--annotation",
                &delay,
            ]
            .map(ToOwned::to_owned)
        };
        let mut args = start("late").to_vec();
        args.extend(["--wait-timeout", "3s"].map(ToOwned::to_owned));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = story.cli(&args).await?;
        ensure!(output.code == 1 && output.stderr.contains("after 3s"), "{output:?}");
        ensure!(
            output.stderr.contains("still starts") && output.stderr.contains("workspace stop late"),
            "{output:?}"
        );
        ensure!(!output.stderr.contains('\u{1b}'), "{output:?}");

        let (code, text) = interrupted(story, &start("left")).await?;
        ensure!(code == Some(130), "it ended with {code:?}: {text}");
        ensure!(text.contains("interrupted: workspace left still starts"), "{text}");
        ensure!(text.contains("`spaceport workspace stop left`"), "{text}");

        let output = story.cli(&["workspace", "stop", "late", "left"]).await?;
        ensure!(output.code == 0, "they do not go on: {}", output.stderr);
        let output = story.cli(&["workspace", "stop", "nope"]).await?;
        ensure!(
            output.code == 1 && output.stderr.contains("NOT_FOUND: workspace nope does not exist"),
            "{output:?}"
        );
        ensure!(!output.stderr.contains("stopping nope"), "{output:?}");
        Ok(())
    })
}

/// Runs the program and sends it SIGINT once it reports that the pod is being created; returns exit code and output.
async fn interrupted(story: &Story, args: &[String]) -> Result<(Option<i32>, String)> {
    let replicas: Vec<_> = story.replicas.iter().collect();
    let mut child = Command::new(program()?)
        .args(args)
        .envs(story.installation.cli_env(&replicas))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().context("it has ended")?.to_string();
    let mut lines = BufReader::new(child.stderr.take().context("no standard error")?);
    let mut text = String::new();
    while !text.contains("CREATING") {
        let read = timeout(SOON, lines.read_line(&mut text)).await.context("it says nothing more")??;
        ensure!(read > 0, "it ended: {text}");
    }
    let sent = Command::new("kill").args(["-INT", &pid]).status().await?;
    ensure!(sent.success(), "kill ended with {sent}");
    timeout(SOON, lines.read_to_string(&mut text)).await.context("it goes on")??;
    let ended = timeout(SOON, child.wait()).await.context("it does not end")??;
    Ok((ended.code(), text))
}
