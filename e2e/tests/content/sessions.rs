//! Getting into a workspace: shells, commands, forwarded ports and copies, through any replica.

mod terminal;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proto::wsman::DescribeWorkspaceRequest;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use self::terminal::Pty;
use super::stage::{Life, Stage, stage};
use crate::story::{SOON, until};
use e2e::harness::process::Signal;
use e2e::harness::spaceport::{Output, program};

/// The CLI as an admin, at one replica.
fn command(stage: &Stage, replica: usize, args: &[&str]) -> Result<Command> {
    let replica = stage.story.replicas.get(replica).context("no such replica")?;
    let mut command = Command::new(program()?);
    command.args(args).envs(stage.story.installation.cli_env(&[replica])).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Runs it to its end with this standard input; its output as bytes.
async fn with_input(mut command: Command, input: Vec<u8>) -> Result<std::process::Output> {
    let mut child: Child = command.spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let writing = async move {
        // The command may end before it has read everything.
        let _ = stdin.write_all(&input).await;
    };
    let both = async { tokio::join!(writing, child.wait_with_output()).1 };
    Ok(timeout(Duration::from_mins(2), both).await.context("the command hangs")??)
}

fn told(done: &std::process::Output) -> Output {
    Output {
        code: done.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

async fn cli(stage: &Stage, replica: usize, args: &[&str]) -> Result<Output> {
    Ok(told(&with_input(command(stage, replica, args)?, Vec::new()).await?))
}

async fn shell(stage: &Stage, replica: usize, id: &str, line: &[&str], input: &str) -> Result<Output> {
    let args = [["workspace", "shell", id].as_slice(), line].concat();
    Ok(told(&with_input(command(stage, replica, &args)?, input.into()).await?))
}

/// Runs a script that must succeed.
async fn script(stage: &Stage, id: &str, script: &str) -> Result<String> {
    let done = shell(stage, 0, id, &["--", "sh", "-c", script], "").await?;
    ensure!(done.code == 0, "{script}: {done:?}");
    Ok(done.stdout)
}

/// Bytes that repeat nothing soon.
fn bytes(count: u32) -> Vec<u8> {
    (0..count).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

async fn with_standby(stage: &mut Stage) -> Result<()> {
    let standby = stage.story.installation.start("manager-1").await?;
    stage.story.replicas.push(standby);
    for (name, _) in super::stage::CLUSTERS {
        stage.story.available(name).await?;
    }
    Ok(())
}

#[test]
fn a_shell_runs_commands_in_the_workspace_through_any_replica() -> Result<()> {
    stage("sessions-shell", async |stage| {
        with_standby(stage).await?;
        stage.run(&Life::new("enter", "meta-enter")).await?;
        for replica in [0, 1] {
            let line = ["--", "sh", "-c", "id -u; pwd; echo $0 $1 >&2; exit 42", "a b", "$c;"];
            let done = shell(stage, replica, "enter", &line, "").await?;
            ensure!(
                done.code == 42 && done.stdout == "33333\n/workspace\n" && done.stderr == "a b $c;\n",
                "{done:?}"
            );
            // A shell without a terminal reads its commands from standard input.
            let input = "echo changed >/workspace/file\ncat /workspace/file\nexit 3\n";
            let done = shell(stage, replica, "enter", &[], input).await?;
            ensure!(done.code == 3 && done.stdout == "changed\n", "{done:?}");
        }
        // More than any buffer on the way, and the command writes while it reads.
        let large = bytes(12_000_000);
        let cat = command(stage, 1, &["workspace", "shell", "enter", "--", "cat"])?;
        let done = with_input(cat, large.clone()).await?;
        ensure!(
            done.status.code() == Some(0) && done.stdout == large,
            "{} bytes came back, {:?}",
            done.stdout.len(),
            told(&done).stderr
        );
        // A command that does not read its input ends all the same.
        let deaf = command(stage, 1, &["workspace", "shell", "enter", "--", "false"])?;
        ensure!(with_input(deaf, large).await?.status.code() == Some(1), "the exit code is another");
        let done = shell(stage, 0, "enter", &["--", "no-such-program"], "").await?;
        ensure!(done.code == 127, "{done:?}");
        let done = shell(stage, 0, "nowhere", &["--", "true"], "").await?;
        ensure!(done.code == 1 && done.stderr.contains("workspace nowhere does not exist"), "{done:?}");
        in_a_terminal(stage).await?;
        nothing_is_recorded_of_it(stage).await
    })
}

/// Type and size of the user's terminal are those inside, also after a change.
async fn in_a_terminal(stage: &Stage) -> Result<()> {
    let pty = Pty::open(100, 30)?;
    let replica = stage.story.replicas.first().context("no replica")?;
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(program()?).args(["workspace", "shell", "enter"]);
    command
        .envs(stage.story.installation.cli_env(&[replica]))
        .env("TERM", "xterm-256color")
        .kill_on_drop(true);
    let mut child = pty.spawn(command)?;
    pty.write(b"echo type:$TERM; stty size\n")?;
    pty.reads(&["type:xterm-256color", "30 100"]).await?;
    pty.resize(121, 41)?;
    until("the size to be seen inside", async || {
        pty.write(b"stty size\n")?;
        timeout(Duration::from_secs(1), pty.reads(&["41 121"])).await?
    })
    .await?;
    // Ctrl-C goes to the command inside.
    pty.write(b"echo be''gun; sleep 600\n")?;
    pty.reads(&["begun"]).await?;
    pty.write(b"\x03")?;
    pty.write(b"echo code:$?\n")?;
    pty.reads(&["code:130"]).await?;
    pty.write(b"exit 7\n")?;
    let ended = timeout(SOON, child.wait()).await.context("the shell does not end")??;
    ensure!(ended.code() == Some(7), "{ended:?}");
    ensure!(pty.is_cooked()?, "the terminal is left in raw mode");
    Ok(())
}

/// Arguments, input and output are in no log; who entered what is in the audit log.
async fn nothing_is_recorded_of_it(stage: &Stage) -> Result<()> {
    let line = ["--", "sh", "-c", "cat; echo $0", "planted-argument"];
    let done = shell(stage, 1, "enter", &line, "planted-input\n").await?;
    ensure!(done.code == 0 && done.stdout == "planted-input\nplanted-argument\n", "{done:?}");
    let log = stage.story.replicas.get(1).context("no standby")?.process.log().to_owned();
    until("the audit line", async || {
        let text = std::fs::read_to_string(&log)?;
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("WorkspaceManager/Exec")).collect();
        let last = lines.last().context("no line")?;
        for part in
            [r#""workspace":"enter""#, r#""owner":"jane""#, r#""kind":"command""#, r#""outcome":"OK""#]
        {
            ensure!(last.contains(part), "{part} is not in {last}");
        }
        ensure!(!text.contains("planted"), "what was run, sent or received is in the log");
        Ok(())
    })
    .await
}

#[test]
fn a_session_ends_for_a_stated_reason_and_leaves_no_command_behind() -> Result<()> {
    stage("sessions-end", async |stage| {
        with_standby(stage).await?;
        let life = Life::new("ends", "meta-ends");
        stage.run(&life).await?;
        // Activity by bytes through a replica that does not lead, and none by silence.
        let activity = async |stage: &mut Stage| -> Result<String> {
            let request = DescribeWorkspaceRequest { id: "ends".to_owned() };
            Ok(stage.client.describe_workspace(request).await?.into_inner().last_activity)
        };
        let before = activity(stage).await?;
        let mut silent =
            command(stage, 1, &["workspace", "shell", "ends", "--", "sleep", "1234"])?.spawn()?;
        until("the command to run", async || {
            // By kubectl: not by a session.
            let found = stage.exec(&life, &running("1234")).await?;
            ensure!(!found.is_empty(), "it does not");
            Ok(())
        })
        .await?;
        ensure!(activity(stage).await? == before, "a silent session counts as activity");
        silent.kill().await?;
        let (mut left, mut lines) = sleeper(stage, 1)?;
        let pid = lines.next_line().await?.context("no process id")?;
        until("the activity", async || {
            let request = DescribeWorkspaceRequest { id: "ends".to_owned() };
            let now = stage.client.clone().describe_workspace(request).await?.into_inner().last_activity;
            ensure!(now != before, "{now}");
            Ok(())
        })
        .await?;

        // The client is killed.
        left.kill().await?;
        gone(stage, &life, &pid).await?;

        // The manager shuts down.
        let (stopped, mut lines) = sleeper(stage, 1)?;
        let pid = lines.next_line().await?.context("no process id")?;
        let standby = stage.story.replicas.pop().context("no standby")?;
        standby.process.signal(Signal::Term).await?;
        let stopped = timeout(SOON, stopped.wait_with_output()).await.context("the session hangs")??;
        let done = told(&stopped);
        ensure!(done.code == 1 && done.stderr.contains("this manager is shutting down"), "{done:?}");
        ensure!(standby.process.exited(SOON).await? == 0, "the manager ended badly");
        gone(stage, &life, &pid).await?;

        // The workspace stops.
        let (ended, mut lines) = sleeper(stage, 0)?;
        lines.next_line().await?.context("no process id")?;
        stage.stop("ends").await?;
        let done = timeout(SOON, ended.wait_with_output()).await.context("the session hangs")??;
        ensure!(done.status.code().is_some_and(|code| code != 0), "{done:?}");
        let done = shell(stage, 0, "ends", &["--", "true"], "").await?;
        ensure!(done.code == 1, "{done:?}");
        Ok(())
    })
}

type Lines = tokio::io::Lines<BufReader<tokio::process::ChildStdout>>;

/// A command that tells its process id, and waits.
fn sleeper(stage: &Stage, replica: usize) -> Result<(Child, Lines)> {
    let args = ["workspace", "shell", "ends", "--", "sh", "-c", "echo $$; sleep 1000"];
    let mut child = command(stage, replica, &args)?.spawn()?;
    let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    Ok((child, lines))
}

/// A script that prints the commands that sleep so long, its own excepted.
fn running(seconds: &str) -> String {
    let each = "for one in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$one; echo; done 2>/dev/null";
    format!("{each} | grep '[s]leep {seconds}' || true")
}

/// Waits until neither the command nor its child runs any more.
async fn gone(stage: &Stage, life: &Life, pid: &str) -> Result<()> {
    until("the command to be hung up", async || {
        let there = format!("if kill -0 {pid} 2>/dev/null; then echo there; fi; {}", running("1000"));
        let found = stage.exec(life, &there).await?;
        ensure!(found.trim().is_empty(), "{found}");
        Ok(())
    })
    .await
}

#[test]
fn sessions_are_bounded_and_for_callers_who_may_act_for_the_owner() -> Result<()> {
    stage("sessions-bounds", async |stage| {
        stage.story.installation.overrides["rpcServer"] = json!({
            "sessions": { "perCaller": 1, "idle": "4s" },
            "clients": { "scopes": [{ "commonName": "eve", "owners": ["eve"] }] },
        });
        let strict = stage.story.installation.start("manager-1").await?;
        stage.story.replicas.push(strict);
        for (name, _) in super::stage::CLUSTERS {
            stage.story.available(name).await?;
        }
        stage.run(&Life::new("bounds", "meta-bounds")).await?;
        let wait = ["workspace", "shell", "bounds", "--", "sh", "-c", "echo in; sleep 1000"];
        let mut silent = command(stage, 1, &wait)?.spawn()?;
        let mut lines = BufReader::new(silent.stdout.take().context("no output")?).lines();
        let line = timeout(SOON, lines.next_line()).await.context("it does not begin")??;
        ensure!(line.as_deref() == Some("in"), "{line:?}");
        until("the second session to be refused", async || {
            let done = shell(stage, 1, "bounds", &["--", "true"], "").await?;
            ensure!(
                done.code == 1 && done.stderr.contains("RESOURCE_EXHAUSTED: this caller has 1 shells"),
                "{done:?}"
            );
            Ok(())
        })
        .await?;
        let done = told(&timeout(SOON, silent.wait_with_output()).await.context("it does not end")??);
        let said =
            "DEADLINE_EXCEEDED: workspace bounds: the session ended: nothing was sent or received for 4s";
        ensure!(done.code == 1 && done.stderr.contains(said), "{done:?}");
        let done = shell(stage, 1, "bounds", &["--", "true"], "").await?;
        ensure!(done.code == 0, "the place is free again: {done:?}");

        let eve = stage.story.installation.authority().client("eve", &[])?;
        for args in [
            ["workspace", "shell", "bounds", "--", "true"].as_slice(),
            &["workspace", "cp", "bounds:/etc/passwd", "x"],
        ] {
            let mut entering = command(stage, 1, args)?;
            entering.env("SPACEPORT_CERT", &eve.cert).env("SPACEPORT_KEY", &eve.key);
            let done = told(&with_input(entering, Vec::new()).await?);
            ensure!(
                done.code == 1 && done.stderr.contains("NOT_FOUND: workspace bounds does not exist"),
                "{done:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn ports_of_the_workspace_are_reached_through_any_replica() -> Result<()> {
    stage("sessions-forward", async |stage| {
        with_standby(stage).await?;
        stage.run(&Life::new("ports", "meta-ports")).await?;
        let large = bytes(6_000_000);
        let put =
            command(stage, 0, &["workspace", "shell", "ports", "--", "sh", "-c", "cat >/workspace/large"])?;
        ensure!(with_input(put, large.clone()).await?.status.success(), "the file was not written");
        let size = script(stage, "ports", "stat -c %s /workspace/large; httpd -p 8088 -h /workspace").await?;
        ensure!(size == "6000000\n", "{size}");
        let args = ["workspace", "forward", "ports", "8088:0", "8099:0", "-o", "json"];
        let mut forward = command(stage, 1, &args)?.spawn()?;
        let mut lines = BufReader::new(forward.stdout.take().context("no output")?).lines();
        let mut said = BufReader::new(forward.stderr.take().context("no errors")?).lines();
        let mut addresses = Vec::new();
        for port in [8088, 8099] {
            let line = timeout(SOON, lines.next_line()).await??.context("no address")?;
            let view: serde_json::Value = serde_json::from_str(&line)?;
            ensure!(view["port"] == port, "{line}");
            addresses.push(view["address"].as_str().context("no address")?.to_owned());
        }
        let get = async |address: &str| -> Result<Vec<u8>> {
            let mut socket = TcpStream::connect(address).await?;
            socket.write_all(b"GET /large HTTP/1.0\r\n\r\n").await?;
            let mut answer = Vec::new();
            timeout(SOON, socket.read_to_end(&mut answer)).await.context("the connection hangs")??;
            let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no answer")?;
            let content = answer.split_off(end + 4);
            let head = String::from_utf8_lossy(&answer).into_owned();
            ensure!(content.len() == large.len(), "{} bytes came after {head}", content.len());
            Ok(content)
        };
        let (open, closed) = (addresses[0].as_str(), addresses[1].as_str());
        let three = tokio::try_join!(get(open), get(open), get(open))?;
        ensure!(three.0 == large && three.1 == large && three.2 == large, "{} bytes came", three.0.len());
        // Nothing listens at the other: the connection ends, and the others go on.
        ensure!(get(closed).await.is_err(), "something answers");
        let line = timeout(SOON, said.next_line()).await??.context("nothing is said")?;
        ensure!(line.contains("port 8099 of ports") && line.contains("FAILED_PRECONDITION"), "{line}");
        ensure!(get(open).await? == large, "the first port is not served any more");
        let pid = forward.id().context("it ended")?;
        Command::new("kill").args(["-INT", &pid.to_string()]).status().await?;
        let ended = timeout(SOON, forward.wait()).await.context("Ctrl-C does not end it")??;
        ensure!(ended.code() == Some(0), "{ended:?}");
        let done = cli(stage, 0, &["workspace", "forward", "nothing", "80:0"]).await?;
        ensure!(done.code == 1 && done.stderr.contains("NOT_FOUND"), "{done:?}");
        Ok(())
    })
}

#[test]
fn files_and_folders_are_copied_in_both_directions_as_they_are() -> Result<()> {
    stage("sessions-copy", async |stage| {
        with_standby(stage).await?;
        stage.run(&Life::new("copies", "meta-copies")).await?;
        let dir = stage.story.installation.dir().join("copies");
        let from = dir.join("from");
        plant(&from)?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let copy = async |replica: usize, from: &str, to: &str| -> Result<()> {
            let done = cli(stage, replica, &["workspace", "cp", from, to]).await?;
            ensure!(done.code == 0 && done.stderr.is_empty(), "cp {from} {to}: {done:?}");
            Ok(())
        };
        copy(1, &text(&from), "copies:/workspace/tree").await?;
        let inside = "cd /workspace/tree && find . -type f | wc -l && stat -c '%a %U' program && readlink deep/up && stat -c %h linked";
        let found = script(stage, "copies", inside).await?;
        ensure!(found == "8\n755 gitpod\n../program\n2\n", "{found}");
        copy(0, "copies:tree", &text(&dir.join("back"))).await?;
        ensure!(listed(&from)? == listed(&dir.join("back"))?, "the copy differs");
        // Into folders that are there, and single files.
        copy(1, &text(&from.join("program")), "copies:").await?;
        copy(1, "copies:/workspace/program", &text(&dir)).await?;
        ensure!(
            std::fs::read(dir.join("program"))? == std::fs::read(from.join("program"))?,
            "the file differs"
        );
        copy(1, &format!("{}/.", text(&from)), "copies:tree").await?;
        let found = script(stage, "copies", "find /workspace/tree -type f | wc -l").await?;
        ensure!(found == "8\n", "{found}");
        // A hostile workspace: its tar sends what it likes.
        script(
            stage,
            "copies",
            "mkdir -p evil && ln -s /etc evil/out && ln -s .. evil/up && echo x >evil/file",
        )
        .await?;
        let done = cli(stage, 0, &["workspace", "cp", "copies:evil", &text(&dir)]).await?;
        ensure!(
            done.code == 1 && done.stderr.contains("2 were not") && done.stderr.contains("evil/out"),
            "{done:?}"
        );
        ensure!(std::fs::read_dir(dir.join("evil"))?.count() == 1, "links are there");
        let done = cli(stage, 0, &["workspace", "cp", "copies:none", &text(&dir)]).await?;
        ensure!(done.code == 1 && done.stderr.contains("none does not exist"), "{done:?}");
        let done = cli(stage, 0, &["workspace", "cp", &text(&from), "copies:/none/x"]).await?;
        ensure!(done.code == 1 && done.stderr.contains("exit code"), "{done:?}");
        Ok(())
    })
}

/// A tree with everything that is copied.
fn plant(root: &Path) -> Result<()> {
    std::fs::create_dir_all(root.join("deep/empty"))?;
    std::fs::write(root.join("n".repeat(150)), "long name")?;
    std::fs::write(root.join("deep/large"), bytes(5_000_000))?;
    std::fs::write(root.join("odd \n$(name)"), "odd")?;
    std::fs::write(root.join("-rf"), "")?;
    std::fs::write(root.join("program"), "#!/bin/sh\n")?;
    std::fs::set_permissions(root.join("program"), std::fs::Permissions::from_mode(0o755))?;
    std::fs::write(root.join("private"), "mine")?;
    std::fs::set_permissions(root.join("private"), std::fs::Permissions::from_mode(0o600))?;
    std::fs::hard_link(root.join("deep/large"), root.join("linked"))?;
    symlink("deep/large", root.join("link"))?;
    symlink("../program", root.join("deep/up"))?;
    Ok(())
}

/// Name, mode, time, links, and content or target.
type Entry = (PathBuf, u32, i64, u64, Vec<u8>);

/// Everything below a folder.
fn listed(root: &Path) -> Result<Vec<Entry>> {
    use std::os::unix::fs::MetadataExt as _;
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let meta = std::fs::symlink_metadata(&path)?;
            let content = if meta.is_symlink() {
                std::fs::read_link(&path)?.into_os_string().into_encoded_bytes()
            } else if meta.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                std::fs::read(&path)?
            };
            // The tar of busybox gives folders no time.
            let (time, links) =
                (if meta.is_file() { meta.mtime() } else { 0 }, if meta.is_dir() { 0 } else { meta.nlink() });
            found.push((path.strip_prefix(root)?.to_owned(), meta.mode(), time, links, content));
        }
    }
    found.sort();
    Ok(found)
}
