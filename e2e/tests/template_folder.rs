//! Pod templates that cluster files name.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use proto::wsman::DescribeWorkspaceRequest;
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::Code;

use crate::story::{Story, refused, request, run, story, until};

/// A cluster file of `eu-1` whose one class has a template.
fn with_template(story: &Story, template: &str) -> Result<PathBuf> {
    let file = story.installation.cluster_file("eu-1", "europe", &story.kubeconfigs["eu-1"])?;
    let mut spec: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    let class = json!({
        "container": { "requests": { "cpu": "100m", "memory": "128Mi" } },
        "templates": { "defaultPath": template },
    });
    spec["namespaces"][0]["classes"] = json!({ "own": class });
    spec["namespaces"][0]["preferredClass"] = json!("own");
    fs::write(&file, spec.to_string())?;
    Ok(file)
}

/// Doctor's outcome of the check `settings` for a cluster file.
async fn settings(story: &Story, template: &str) -> Result<(String, String)> {
    let file = with_template(story, template)?;
    let file = file.to_string_lossy();
    let doctor = ["cluster", "doctor", "-o", "json", "-f", &*file];
    let output = timeout(Duration::from_secs(20), story.cli(&doctor)).await.context("doctor hangs")??;
    let checks: Vec<Value> = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
    let check = checks.iter().find(|check| check["name"] == "settings").context("no such check")?;
    let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
    Ok((text("outcome"), text("detail")))
}

#[test]
fn a_cluster_file_names_templates_below_one_folder_and_nothing_else_makes_a_manager_wait() -> Result<()> {
    story("template-folder", 0, &[], async |story| {
        let folder = story.installation.dir().join("templates");
        fs::create_dir_all(&folder)?;
        let outside = story.installation.dir().join("outside.fifo");
        for fifo in [folder.join("fifo"), outside.clone()] {
            ensure!(Command::new("mkfifo").arg(fifo).status()?.success(), "mkfifo");
        }
        let write = |team: &str| {
            fs::write(folder.join("pod.yaml"), format!("metadata: {{labels: {{team: {team}}}}}\n"))
        };
        write("one")?;
        fs::write(folder.join("key"), "hunter2hunter2")?;
        story.installation.overrides = json!({ "manager": { "templateFolder": folder } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let outside = outside.to_string_lossy().into_owned();
        for (template, said) in [
            ("fifo", "is not a regular file"),
            (&*outside, "is not a file below manager.templateFolder"),
            ("../outside.fifo", "is not a file below manager.templateFolder"),
            ("/dev/zero", "is not a file below manager.templateFolder"),
            ("key", "is not a pod"),
        ] {
            let (outcome, detail) = settings(story, template).await?;
            ensure!(outcome == "FAILED" && detail.contains(said), "{template}: {outcome} {detail}");
            ensure!(!detail.contains("hunter2"), "{detail}");
        }
        let mut client = story.client().await?;
        let nobody = DescribeWorkspaceRequest { id: "nobody".to_owned() };
        refused(client.describe_workspace(nobody).await, Code::NotFound)?;

        let (outcome, detail) = settings(story, "pod.yaml").await?;
        ensure!(outcome == "OK", "{detail}");
        let file = with_template(story, "pod.yaml")?;
        let output = story.cli(&["cluster", "register", "-f", &file.to_string_lossy()]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        story.available("eu-1").await?;
        let pods: Api<Pod> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let team = async |id: &str| {
            let labels = pods.get(&format!("ws-{id}")).await?.metadata.labels.unwrap_or_default();
            anyhow::Ok(labels.get("team").cloned().unwrap_or_default())
        };
        run(&mut client, request("first", &[])).await?;
        ensure!(team("first").await? == "one", "the template is not used");
        write("two")?;
        let log = story.replicas.first().context("no manager")?.process.log().to_owned();
        until("the changed template to be applied", async || {
            ensure!(fs::read_to_string(&log)?.contains("a changed configuration is in force"), "it is not");
            Ok(())
        })
        .await?;
        run(&mut client, request("second", &[])).await?;
        ensure!(team("second").await? == "two", "the changed template is not used");
        Ok(())
    })
}

#[test]
fn a_configuration_that_names_a_fifo_ends_the_start_and_does_not_hang_it() -> Result<()> {
    story("template-fifo", 0, &[], async |story| {
        let fifo = story.installation.dir().join("fifo");
        ensure!(Command::new("mkfifo").arg(&fifo).status()?.success(), "mkfifo");
        for overrides in [
            json!({ "manager": { "workspaceClass": { "g1-standard": { "templates": { "defaultPath": fifo } } } } }),
            json!({ "manager": { "templateFolder": fifo } }),
            json!({ "rpcServer": { "tls": { "key": fifo } } }),
        ] {
            story.installation.overrides = overrides;
            let port = e2e::harness::process::free_port;
            let path = story.installation.write_config("bad", port()?, port()?)?;
            let mut command = tokio::process::Command::new(e2e::harness::spaceport::program()?);
            command.args(["manager", "--config"]).arg(&path).kill_on_drop(true);
            let output = timeout(Duration::from_secs(20), e2e::harness::spaceport::run(command)).await;
            let output = output.context("the start hangs")??;
            ensure!(
                output.code == 64 && output.stderr.contains("fifo"),
                "{}: {}",
                output.code,
                output.stderr
            );
        }
        Ok(())
    })
}
