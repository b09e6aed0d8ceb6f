//! Start and end of the program: configuration, ports, health, metrics, signals.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::harness::Signal;
use crate::harness::process::free_port;
use crate::harness::spaceport::{get, program, run};
use crate::story::{SOON, request, start, story, watch};

#[test]
fn a_bad_configuration_lists_every_problem_and_exits_with_64() -> Result<()> {
    story("configuration", 0, &[], async |story| {
        let path = story.installation.write_config("bad", free_port()?, free_port()?)?;
        let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        config["manager"]["timeouts"] = json!({ "startup": "soon" });
        config["manager"]["urlTemplate"] = json!("https://{{ .Nonsense }}");
        config["federation"]["leader"] = json!({ "lease": "2s", "renew": "3s" });
        config["surprise"] = json!(1);
        fs::write(&path, config.to_string())?;
        let mut command = tokio::process::Command::new(program()?);
        command.args(["manager", "--config"]).arg(&path).kill_on_drop(true);
        let output = run(command).await?;
        ensure!(output.code == 64, "it ended with {}: {}", output.code, output.stderr);
        for problem in ["manager.timeouts.startup", "manager.urlTemplate", "federation.leader", "surprise"] {
            ensure!(output.stderr.contains(problem), "{problem} is not named: {}", output.stderr);
        }
        Ok(())
    })
}

#[test]
fn a_manager_without_etcd_ends_with_one_clear_sentence() -> Result<()> {
    story("no-etcd", 0, &[], async |story| {
        story.installation.overrides = json!({ "etcd": { "endpoints": ["https://127.0.0.1:1"] } });
        let path = story.installation.write_config("no-etcd", free_port()?, free_port()?)?;
        let mut command = tokio::process::Command::new(program()?);
        command.args(["manager", "--config"]).arg(&path).kill_on_drop(true);
        let output = run(command).await?;
        ensure!(output.code == 1 && output.stderr.contains("127.0.0.1:1"), "{}", output.stderr);
        Ok(())
    })
}

#[test]
fn health_and_metrics_tell_how_the_fleet_is() -> Result<()> {
    story("health", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        start(&mut client, request("ws", &[])).await?;
        let health = &story.replicas.first().context("no manager")?.health;
        get(&format!("{health}/livez")).await?;
        let ready = get(&format!("{health}/readyz")).await?;
        ensure!(ready.contains("placements") && ready.contains("members"), "{ready}");
        let metrics = get(&format!("{health}/metrics")).await?;
        ensure!(metrics.contains("spaceport_placements_live{cluster=\"eu-1\"} 1"), "{metrics}");
        ensure!(metrics.contains("spaceport_leading 1"), "{metrics}");
        Ok(())
    })
}

#[test]
fn a_signal_ends_the_manager_and_its_streams_in_order() -> Result<()> {
    story("signal", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        let replica = story.replicas.first().context("no manager")?;
        replica.process.signal(Signal::Term).await?;
        let end = stream.message().await;
        ensure!(end.is_err_and(|status| status.code() == tonic::Code::Unavailable), "the stream's end");
        let code = replica.process.exited(SOON).await?;
        ensure!(code == 0, "it ended with {code}: {}", replica.process.log_tail());
        Ok(())
    })
}
