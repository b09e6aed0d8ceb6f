//! Work inside of the helper that looks at where it is.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use content::initializer::Fault;
use node::helper::{Archives, Io, Operation, Outcome, Unable};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stage::Stage;

pub struct Probes;

impl Archives for Probes {
    fn run(&self, request: &Value, io: Io<'_>) -> Result<Value, Unable> {
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        match &*text("do") {
            "look" => Ok(look(&text("file"))),
            "try" => Ok(attempt()),
            "connect" => {
                let address: SocketAddr = text("address").parse().unwrap();
                let result = TcpStream::connect_timeout(&address, Duration::from_secs(2));
                let devices = fs::read_to_string("/proc/net/dev").unwrap();
                Ok(json!({ "connected": result.is_ok(), "devices": devices.lines().count() - 2 }))
            }
            "echo" => echo(io).map_err(|message| Unable { fault: Fault::Platform, message }),
            "exit" => std::process::exit(3),
            "take" => {
                let bytes = vec![7_u8; usize::try_from(request["bytes"].as_u64().unwrap()).unwrap()];
                Ok(json!({ "taken": bytes.iter().map(|byte| usize::from(*byte == 7)).sum::<usize>() }))
            }
            "panic" => panic!("planted panic"),
            "hang" => {
                let _ = Command::new("/usr/bin/sleep").arg0(text("name")).arg("1000").spawn();
                (io.progress)("hanging", 7);
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
            // The product's own work.
            _ => node::archives::ArchiveWork.run(request, io),
        }
    }
}

fn look(file: &str) -> Value {
    let names = |folder: &str| -> Vec<String> {
        let entries =
            fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
        let mut names: Vec<String> =
            entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let of_status = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
    };
    json!({
        "shadow": fs::read("/etc/shadow").is_ok(),
        "file": fs::read(file).is_ok(),
        "root": names("/"),
        "etc": names("/etc"),
        "workspace": names("/workspace"),
        "processes": names("/proc").iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())).collect::<Vec<_>>(),
        "descriptors": names("/proc/self/fd").iter().filter_map(|name| fs::read_link(format!("/proc/self/fd/{name}")).ok()).collect::<Vec<_>>(),
        "environment": std::env::vars().map(|(name, _)| name).collect::<Vec<_>>(),
        "uid": of_status("Uid:"),
        "groups": of_status("Groups:"),
        "effective": of_status("CapEff:"),
        "bounding": of_status("CapBnd:"),
        "no_new_privileges": of_status("NoNewPrivs:"),
        "oom_score": fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim(),
        "mounts": fs::read_to_string("/proc/self/mountinfo").unwrap(),
    })
}

/// What must fail, by name.
fn attempt() -> Value {
    fs::write("/workspace/program", "#!/bin/sh\ntouch /workspace/ran\n").unwrap();
    let _ = Command::new("chmod").args(["0755", "/workspace/program"]).status();
    json!({
        "write_root": fs::write("/x", "x").is_ok(),
        "write_usr": fs::write("/usr/x", "x").is_ok(),
        "write_etc": fs::write("/etc/x", "x").is_ok(),
        "write_tmp": fs::write("/tmp/x", "x").is_ok(),
        "write_workspace": fs::write("/workspace/x", "x").is_ok(),
        "run_from_workspace": Command::new("/workspace/program").status().is_ok(),
        "user_namespace": nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_ok(),
        "user_namespace_by_program": Command::new("unshare").args(["-r", "true"]).status().is_ok_and(|s| s.success()),
        "remount": Command::new("mount").args(["-o", "remount,rw", "/"]).status().is_ok_and(|s| s.success()),
        "device": Command::new("mknod").args(["/workspace/device", "c", "1", "3"]).status().is_ok_and(|s| s.success()),
        "host_name": Command::new("hostname").arg("other").status().is_ok_and(|s| s.success()),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "it owns the streams")]
fn echo(io: Io<'_>) -> Result<Value, String> {
    let (mut total, mut buffer) = (0, vec![0; 64 * 1024]);
    loop {
        let read = io.input.read(&mut buffer).map_err(|error| error.to_string())?;
        if read == 0 {
            return Ok(json!({ "bytes": total }));
        }
        io.output.write_all(&buffer[..read]).map_err(|error| error.to_string())?;
        total += read as u64;
        (io.progress)("echo", total);
    }
}

pub async fn bytes_go_in_and_out_while_progress_is_reported() {
    const BYTES: usize = 8 * 1024 * 1024;
    let stage = Stage::new();
    let operation = Operation::Archive { request: json!({ "do": "echo" }) };
    let mut running = stage.start(operation, Duration::from_mins(1)).await.unwrap();
    let (mut input, mut output) = (running.input.take().unwrap(), running.output.take().unwrap());
    let sent: Vec<u8> = (0..BYTES).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
    let copy = sent.clone();
    let send = tokio::spawn(async move { input.write_all(&copy).await });
    let mut received = Vec::new();
    output.read_to_end(&mut received).await.unwrap();
    send.await.unwrap().unwrap();
    assert!(received == sent);
    let progress = running.progress.borrow().clone();
    assert_eq!(progress.step, "echo");
    let outcome = running.end().await.unwrap();
    assert_eq!(outcome, Outcome::Archive { result: json!({ "bytes": BYTES }) });
}
