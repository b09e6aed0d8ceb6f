//! Start and end of the program: configuration, ports, health, metrics, signals.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use proto::wsman::{DescribeClusterRequest, MarkActiveRequest, WorkspaceStatus};
use serde_json::json;

use crate::story::{
    Client, SOON, Story, describe, follow, request, run as story_run, start, story, until, watch,
};
use e2e::harness::Signal;
use e2e::harness::process::free_port;
use e2e::harness::spaceport::{get, program, run};

#[test]
fn a_bad_configuration_lists_every_problem_and_exits_with_64() -> Result<()> {
    story("configuration", 0, &[], async |story| {
        let path = story.installation.write_config("bad", free_port()?, free_port()?)?;
        let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        config["manager"]["timeouts"] = json!({ "startup": "soon" });
        config["manager"]["urlTemplate"] = json!("https://{{ .Nonsense }}");
        config["federation"]["leader"] = json!({ "lease": "2s", "renew": "3s" });
        config["surprise"] = json!(1);
        let no_authority = story.installation.dir().join("no-authority");
        fs::write(&no_authority, "hunter2")?;
        for group in ["rpcServer", "etcd"] {
            config[group]["tls"]["ca"] = json!(no_authority);
        }
        fs::write(&path, config.to_string())?;
        let mut command = tokio::process::Command::new(program()?);
        command.args(["manager", "--config"]).arg(&path).kill_on_drop(true);
        let output = run(command).await?;
        ensure!(output.code == 64, "it ended with {}: {}", output.code, output.stderr);
        for problem in [
            "manager.timeouts.startup",
            "manager.urlTemplate",
            "rpcServer.tls.ca: ",
            "etcd.tls.ca: ",
            "federation.leader",
            "surprise",
        ] {
            ensure!(output.stderr.contains(problem), "{problem} is not named: {}", output.stderr);
        }
        ensure!(!output.stderr.contains("hunter2"), "{}", output.stderr);
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
fn health_and_metrics_report_the_state_of_the_fleet() -> Result<()> {
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
        let log = fs::read_to_string(story.replicas.first().context("no manager")?.process.log())?;
        ensure!(
            log.contains("spaceport manager") && !log.contains('\u{1b}'),
            "the log of a file has colours"
        );
        Ok(())
    })
}

#[test]
fn a_changed_configuration_is_taken_without_a_restart_and_a_bad_one_is_not() -> Result<()> {
    story("reload", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let path = story.installation.dir().join("manager-0.json");
        let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        let classes = &mut config["manager"]["workspaceClass"];
        classes["g1-new"] = classes["g1-standard"].clone();
        fs::write(&path, config.to_string())?;
        until("the class to be offered", async || offers(&mut client, "g1-new").await).await?;
        let mut of_new_class = request("of-new-class", &[]);
        of_new_class.spec.as_mut().context("no spec")?.class = "g1-new".to_owned();
        story_run(&mut client, of_new_class).await?;
        fs::write(&path, config.to_string().replace("g1-new", "g1 new"))?;
        let readyz = format!("{}/readyz", story.replicas.first().context("no manager")?.health);
        until("the bad file to be shown", async || {
            let ready = get(&readyz).await?;
            ensure!(ready.contains("keeping the previous one"), "{ready}");
            Ok(())
        })
        .await?;
        offers(&mut client, "g1-new").await?;
        fs::write(&path, config.to_string())?;
        until("the good file to be taken", async || {
            let ready = get(&readyz).await?;
            ensure!(!ready.contains("keeping the previous one"), "{ready}");
            Ok(())
        })
        .await
    })
}

#[test]
fn a_changed_url_template_is_for_new_workspaces_and_a_repeated_start_gets_its_first_answer() -> Result<()> {
    story("url-template", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let first = start(&mut client, request("first", &[])).await?;
        let path = story.installation.dir().join("manager-0.json");
        let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        config["manager"]["urlTemplate"] = json!("https://{{ .Prefix }}.elsewhere.example");
        fs::write(&path, config.to_string())?;
        in_force(story).await?;
        let third = start(&mut client, request("third", &[])).await?;
        ensure!(third.url == "https://meta-third.elsewhere.example", "{}", third.url);
        ensure!(start(&mut client, request("first", &[])).await? == first, "another answer");
        Ok(())
    })
}

/// Waits until the first manager has applied its changed configuration.
async fn in_force(story: &Story) -> Result<()> {
    let log = story.installation.dir().join("manager-0.log");
    until("the changed configuration to be applied", async || {
        let logged = fs::read_to_string(&log)?;
        ensure!(logged.contains("a changed configuration is in force"), "it is not applied");
        Ok(())
    })
    .await
}

#[test]
fn a_changed_pod_template_is_taken_without_a_restart_and_a_bad_one_is_not() -> Result<()> {
    story("templates", 0, &[], async |story| {
        let file = story.installation.dir().join("template.yaml");
        let write = |team: &str| fs::write(&file, format!("metadata: {{labels: {{team: {team}}}}}\n"));
        story.installation.overrides = json!({
            "manager": { "workspaceClass": { "g1-standard": { "templates": { "defaultPath": file } } } },
        });
        fs::write(&file, "spec: {containers: surprise}\n")?;
        let path = story.installation.write_config("bad", free_port()?, free_port()?)?;
        let mut command = tokio::process::Command::new(program()?);
        command.args(["manager", "--config"]).arg(&path).kill_on_drop(true);
        let output = run(command).await?;
        let named = output.stderr.contains("manager.workspaceClass.g1-standard.templates: ");
        ensure!(output.code == 64 && named, "it ended with {}: {}", output.code, output.stderr);

        write("one")?;
        story.replicas.push(story.installation.start("manager-0").await?);
        story.register("eu-1").await?;
        let mut client = story.client().await?;
        let team = async |client: &mut Client, id: &str| {
            story_run(client, request(id, &[])).await?;
            let pods: Api<Pod> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
            let labels = pods.get(&format!("ws-{id}")).await?.metadata.labels.unwrap_or_default();
            anyhow::Ok(labels.get("team").cloned().unwrap_or_default())
        };
        let first = team(&mut client, "first").await?;
        ensure!(first == "one", "{first:?}");
        write("two")?;
        in_force(story).await?;
        let second = team(&mut client, "second").await?;
        ensure!(second == "two", "{second:?}");
        fs::write(&file, "spec: {containers: surprise}\n")?;
        let readyz = format!("{}/readyz", story.replicas.first().context("no manager")?.health);
        until("the bad template to be shown", async || {
            let ready = get(&readyz).await?;
            ensure!(ready.contains("keeping the previous one"), "{ready}");
            Ok(())
        })
        .await?;
        let third = team(&mut client, "third").await?;
        ensure!(third == "two", "{third:?}");
        Ok(())
    })
}

#[test]
fn a_registration_broken_by_a_configuration_works_again_after_the_next_change() -> Result<()> {
    story("mended", 0, &[], async |story| {
        let class = json!({ "container": {
            "requests": { "cpu": "1", "memory": "1Gi" },
            "limits": { "cpu": { "min": "1", "burst": "2" }, "memory": "2Gi", "storage": "5Gi" },
        } });
        story.installation.overrides = json!({ "manager": { "workspaceClass": { "g1-extra": class } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let path = story.installation.cluster_file("eu-1", "europe", &story.kubeconfigs["eu-1"])?;
        let mut file: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        file["namespaces"][0]["preferredClass"] = json!("g1-extra");
        fs::write(&path, file.to_string())?;
        let output = story.cli(&["cluster", "register", "-f", &path.to_string_lossy()]).await?;
        ensure!(output.code == 0, "{}", output.stderr);

        let first = story.replicas.pop().context("no manager")?;
        first.process.signal(Signal::Term).await?;
        first.process.exited(SOON).await?;
        story.installation.overrides = json!({});
        story.replicas.push(story.installation.start("manager-1").await?);
        let list = ["cluster", "list", "-o", "json"];
        until("the registration to be broken", async || {
            let output = story.cli(&list).await?;
            ensure!(output.stdout.contains("g1-extra is not one of the classes"), "{}", output.stdout);
            Ok(())
        })
        .await?;
        let path = story.installation.dir().join("manager-1.json");
        let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        config["manager"]["workspaceClass"]["g1-extra"] = class;
        fs::write(&path, config.to_string())?;
        story.available("eu-1").await?;
        let mut client = story.client().await?;
        start(&mut client, request("ws", &[])).await?;
        Ok(())
    })
}

#[test]
fn a_changed_default_timeout_is_shown_with_the_next_version_of_workspaces_that_are_there() -> Result<()> {
    story("shown-timeouts", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let running = story_run(&mut client, request("ws", &[])).await?;
        let shown = |status: &WorkspaceStatus| {
            status.spec.as_ref().map(|spec| (spec.timeout.clone(), spec.closed_timeout.clone()))
        };
        let wanted = Some(("47m0s".to_owned(), "3m0s".to_owned()));
        ensure!(shown(&running) != wanted, "nothing is to be seen: {running:?}");
        let mut stream = watch(&mut client, "ws").await?;
        let path = story.installation.dir().join("manager-0.json");
        let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        config["manager"]["timeouts"] = json!({ "regularWorkspace": "47m", "afterClose": "3m" });
        fs::write(&path, config.to_string())?;
        in_force(story).await?;
        let described = describe(&mut client, "ws").await?.context("it is gone")?;
        let is_one_state =
            described.status_version > running.status_version || shown(&described) == shown(&running);
        ensure!(is_one_state, "a version has one state: {running:?} {described:?}");
        // A heartbeat is a change.
        client.mark_active(MarkActiveRequest { id: "ws".to_owned(), ..MarkActiveRequest::default() }).await?;
        let seen = follow(&mut stream, |status| shown(status) == wanted).await?;
        let version = seen.last().context("nothing")?.status_version;
        ensure!(version > running.status_version, "the version did not grow: {seen:?}");
        let described = describe(&mut client, "ws").await?.context("it is gone")?;
        ensure!(shown(&described) == wanted, "{described:?}");
        Ok(())
    })
}

async fn offers(client: &mut Client, class: &str) -> Result<()> {
    let answer = client.describe_cluster(DescribeClusterRequest {}).await?.into_inner();
    ensure!(answer.workspace_classes.iter().any(|offered| offered.id == class), "{answer:?}");
    Ok(())
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
