//! Checks of a cluster before its registration, and the installation that prepares it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::story::{Story, request, run, story};
use e2e::harness::annotations;

/// Held by whoever installs in `ap-1`: the ClusterRole that one changes by hand is the other's, too.
static INSTALLS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const OTHER_LEADER: &str = "ws-manager-mk2-leader.gitpod.io";

/// Name and outcome of each check.
async fn outcomes(story: &Story, args: &[&str]) -> Result<(i32, Vec<(String, String)>)> {
    let all: Vec<&str> =
        ["cluster", "doctor", "-o", "json"].into_iter().chain(args.iter().copied()).collect();
    let output = story.cli(&all).await?;
    let checks: Vec<Value> = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let pairs = checks.iter().map(|check| (text(check, "name"), text(check, "outcome")));
    Ok((output.code, pairs.collect()))
}

fn outcome<'a>(checks: &'a [(String, String)], name: &str) -> &'a str {
    checks.iter().find(|(known, _)| known == name).map_or("", |(_, outcome)| outcome)
}

#[test]
fn doctor_passes_a_good_cluster_and_names_the_problems_of_others() -> Result<()> {
    story("doctor", 1, &["eu-1"], async |story| {
        let (code, checks) = outcomes(story, &["eu-1"]).await?;
        ensure!(code == 0 && checks.len() > 10, "{checks:?}");
        ensure!(checks.iter().all(|(_, outcome)| outcome != "FAILED" && outcome != "SKIPPED"), "{checks:?}");
        for name in
            ["permissions", "definitions", "identity", "fence", "pod-policy", "other-manager", "watches"]
        {
            ensure!(outcome(&checks, name) == "OK", "{name}: {checks:?}");
        }
        // Not registered, and nothing is installed.
        let member = story.cluster("us-1")?;
        let nobody = member.user_kubeconfig("doctor-nobody", &[])?;
        let file = story.installation.cluster_file("us-1", "europe", &nobody)?;
        let (code, checks) = outcomes(story, &["-f", &file.to_string_lossy()]).await?;
        // It may not even impersonate the user who has the rights.
        ensure!(code == 1 && outcome(&checks, "login") == "FAILED", "{checks:?}");
        let mut unfenced: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
        unfenced["fence"] = "off".into();
        let path = story.installation.dir().join("unfenced.yaml");
        fs::write(&path, unfenced.to_string())?;
        let (code, checks) = outcomes(story, &["-f", &path.to_string_lossy()]).await?;
        ensure!(code == 1 && outcome(&checks, "permissions") == "FAILED", "{checks:?}");
        ensure!(outcome(&checks, "login") == "OK" && outcome(&checks, "fence") == "WARNING", "{checks:?}");
        // The CA of another cluster.
        let good = fs::read_to_string(&story.kubeconfigs["us-1"])?;
        let stranger = story.installation.dir().join("stranger.kubeconfig");
        let theirs = e2e::harness::spaceport::kubeconfig(
            &member.api(),
            story.installation.authority().ca_pem(),
            "token",
        )?;
        fs::write(&stranger, theirs)?;
        let kubeconfig = stranger.to_string_lossy().into_owned();
        let args = ["-f", &*file.to_string_lossy(), "--kubeconfig", &kubeconfig].map(str::to_owned);
        let (code, checks) = outcomes(story, &args.each_ref().map(String::as_str)).await?;
        ensure!(code == 1 && outcome(&checks, "ca") == "FAILED", "{checks:?}");
        ensure!(outcome(&checks, "login") == "SKIPPED", "{checks:?}");
        // A token that was never issued.
        let wrong = story.installation.dir().join("wrong.kubeconfig");
        let mut config: Value = serde_json::from_str(&good)?;
        config["users"][0]["user"]["token"] = "nobody-gave-it".into();
        fs::write(&wrong, config.to_string())?;
        let kubeconfig = wrong.to_string_lossy().into_owned();
        let args = ["-f", &*file.to_string_lossy(), "--kubeconfig", &kubeconfig].map(str::to_owned);
        let (code, checks) = outcomes(story, &args.each_ref().map(String::as_str)).await?;
        ensure!(code == 1 && outcome(&checks, "login") == "FAILED", "{checks:?}");
        let unknown = story.cli(&["cluster", "doctor", "nobody"]).await?;
        ensure!(unknown.code == 1 && unknown.stderr.contains("NOT_FOUND"), "{}", unknown.stderr);
        Ok(())
    })
}

#[test]
fn a_namespace_of_two_node_agents_is_refused_and_nodes_without_a_ready_agent_are_named() -> Result<()> {
    story("doctor-agents", 1, &["eu-1"], async |story| {
        let client = story.cluster("eu-1")?.client();
        let sets = Api::<DaemonSet>::namespaced(client.clone(), &story.namespace);
        // One of the nodes that are labelled for this namespace, where the pod of the agent never gets ready.
        let label = format!("gitpod.io/ws-daemon_ready_ns_{}", story.namespace);
        let nodes = Api::<Node>::all(client);
        let params = ListParams::default().labels(&label).limit(1);
        let node = nodes.list(&params).await?.items.pop().context("no node")?.name_any();
        let only = json!({ "kubernetes.io/hostname": node });
        let never = json!({ annotations::POD: "never-ready" });
        let set = |name: &str, label: &str, value: &str| {
            let labels = json!({ "app": name });
            serde_json::from_value::<DaemonSet>(json!({
                "metadata": { "name": name, "labels": { label: value }, "annotations": { "spaceport.dev/serves": story.namespace } },
                "spec": {
                    "selector": { "matchLabels": labels },
                    "template": {
                        "metadata": { "labels": labels, "annotations": never },
                        "spec": { "nodeSelector": only, "containers": [{ "name": name, "image": "none" }] },
                    },
                },
            }))
        };
        let check = async || {
            let output = story.cli(&["cluster", "doctor", "-o", "json", "eu-1"]).await?;
            let checks: Vec<Value> = serde_json::from_str(&output.stdout)?;
            let found =
                checks.into_iter().find(|check| check["name"] == "node-agent").context("no such check")?;
            Ok::<_, anyhow::Error>((found["outcome"].clone(), found["detail"].to_string()))
        };
        ensure!(check().await?.0 == "OK", "{:?}", check().await?);
        let ours = set("spaceport-node", "spaceport.dev/node-agent", "true")?;
        sets.create(&PostParams::default(), &ours).await?;
        let (outcome, detail) = check().await?;
        ensure!(
            outcome == "WARNING" && detail.contains(&node) && detail.contains(&label),
            "{outcome} {detail}"
        );
        sets.create(&PostParams::default(), &set("ws-daemon", "component", "ws-daemon")?).await?;
        let (outcome, detail) = check().await?;
        ensure!(
            outcome == "FAILED" && detail.contains("two node agents serve namespace"),
            "{outcome} {detail}"
        );
        for name in ["spaceport-node", "ws-daemon"] {
            sets.delete(name, &DeleteParams::default()).await?;
        }
        ensure!(check().await?.0 == "OK", "{:?}", check().await?);
        Ok(())
    })
}

#[test]
fn a_namespace_in_which_another_manager_is_at_work_is_refused_until_it_stops() -> Result<()> {
    story("other-manager", 1, &[], async |story| {
        let leases = Api::<Lease>::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let lease: Lease = serde_json::from_value(json!({
            "metadata": { "name": OTHER_LEADER },
            "spec": {
                "holderIdentity": "ws-manager-mk2-0",
                "leaseDurationSeconds": 3600,
                "renewTime": format!("{:.6}", jiff::Timestamp::now()),
            },
        }))?;
        leases.create(&PostParams::default(), &lease).await?;
        let file = story.installation.cluster_file("eu-1", "europe", &story.kubeconfigs["eu-1"])?;
        let output = story.cli(&["cluster", "register", "-f", &file.to_string_lossy()]).await?;
        ensure!(output.code == 1 && output.stderr.contains("FAILED_PRECONDITION"), "{}", output.stderr);
        ensure!(output.stderr.contains("ws-manager-mk2-0"), "{}", output.stderr);
        let (code, checks) = outcomes(story, &["-f", &file.to_string_lossy()]).await?;
        ensure!(code == 1 && outcome(&checks, "other-manager") == "FAILED", "{checks:?}");
        leases.delete(OTHER_LEADER, &DeleteParams::default()).await?;
        story.register("eu-1").await
    })
}

/// Outcomes of an installation by kind, namespace and name.
async fn installed(story: &Story, install: &[&str], flags: &[&str]) -> Result<Vec<(String, String)>> {
    let output = story.cli(&[install, flags, &["-o", "json"]].concat()).await?;
    ensure!(output.code == 0, "{output:?}");
    let objects: Vec<Value> = serde_json::from_str(&output.stdout)?;
    let name = |object: &Value| format!("{} {} {}", object["kind"], object["namespace"], object["name"]);
    let outcome = |object: &Value| object["outcome"].as_str().unwrap_or_default().to_owned();
    Ok(objects.iter().map(|object| (name(object), outcome(object))).collect())
}

#[test]
fn the_plan_of_an_installation_says_what_the_installation_does() -> Result<()> {
    story("install-plan", 1, &[], async |story| {
        let _alone = INSTALLS.lock().await;
        let member = story.cluster("ap-1")?;
        let kubeconfig = member.kubeconfig().to_string_lossy().into_owned();
        let pair = "plan-ws:plan-ws-secrets";
        let install =
            ["cluster", "install", "--kubeconfig", &kubeconfig, "--namespace", pair, "--force-conflicts"];
        installed(story, &install, &[]).await?;
        let plan = installed(story, &install, &["--dry-run"]).await?;
        ensure!(plan.iter().all(|(_, outcome)| outcome == "UNCHANGED"), "{plan:?}");

        // Changed by hand: one object is deleted, another one differs.
        let roles: Api<Role> = Api::namespaced(member.client(), "plan-ws-secrets");
        roles.delete("spaceport", &DeleteParams::default()).await?;
        let rules = Patch::Merge(json!({ "rules": [] }));
        let cluster_roles: Api<ClusterRole> = Api::all(member.client());
        cluster_roles.patch("spaceport", &PatchParams::default(), &rules).await?;
        let plan = installed(story, &install, &["--dry-run"]).await?;
        let count = |wanted: &str| plan.iter().filter(|(_, outcome)| outcome == wanted).count();
        ensure!(count("CREATED") == 1 && count("CHANGED") == 1, "{plan:?}");
        let table = story.cli(&[&install[..], &["--dry-run"]].concat()).await?.stdout;
        ensure!(table.contains("WOULD CREATE") && table.contains("WOULD CHANGE"), "{table}");
        let done = installed(story, &install, &[]).await?;
        ensure!(done == plan, "{done:?} was done, {plan:?} was the plan");
        let plan = installed(story, &install, &["--dry-run"]).await?;
        ensure!(plan.iter().all(|(_, outcome)| outcome == "UNCHANGED"), "{plan:?}");
        Ok(())
    })
}

#[test]
fn an_empty_cluster_is_made_a_member_with_an_admins_kubeconfig_that_is_kept_nowhere() -> Result<()> {
    story("install", 1, &[], async |story| {
        let _alone = INSTALLS.lock().await;
        let member = story.cluster("ap-1")?;
        let admin = member.kubeconfig();
        let pair = "install-ws:install-ws-secrets";
        let kubeconfig = admin.to_string_lossy().into_owned();
        let install = ["cluster", "install", "--kubeconfig", &kubeconfig, "--namespace", pair];
        let planned = story.cli(&[&install[..], &["--dry-run"]].concat()).await?;
        ensure!(planned.code == 0 && planned.stdout.contains("WOULD CREATE"), "{}", planned.stderr);
        ensure!(planned.stdout.lines().all(|line| line.len() <= 80), "{}", planned.stdout);
        let namespaces = Api::<Namespace>::all(member.client());
        ensure!(namespaces.get_opt("install-ws").await?.is_none(), "a dry run made something");
        let done = story.cli(&[&install[..], &["--print-kubeconfig"]].concat()).await?;
        ensure!(done.code == 0 && done.stderr.contains("CREATED"), "{}", done.stderr);
        let again = story.cli(&install).await?;
        ensure!(again.code == 0 && !again.stdout.contains("CREATED"), "{}{}", again.stdout, again.stderr);
        ensure!(
            again.stdout.matches("CHANGED").count() == again.stdout.matches("UNCHANGED").count(),
            "{again:?}"
        );

        // The printed kubeconfig works, for the given namespaces.
        let login = story.installation.dir().join("made.kubeconfig");
        fs::write(&login, &done.stdout)?;
        let path = story.installation.dir().join("installed.yaml");
        let namespaces = json!([{ "namespace": "install-ws", "secretsNamespace": "install-ws-secrets" }]);
        let file = json!({
            "name": "ap-1", "region": "asia", "kubeconfig": { "file": login }, "namespaces": namespaces,
        });
        fs::write(&path, file.to_string())?;
        let output = story.cli(&["cluster", "register", "-f", &path.to_string_lossy()]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        story.available("ap-1").await?;
        ensure!(story.cli(&["cluster", "deregister", "ap-1"]).await?.code == 0, "deregister");

        // Both in one step, with the admin's kubeconfig.
        let path_text = path.to_string_lossy().into_owned();
        let both = ["cluster", "register", "--install", "-f", &path_text, "--kubeconfig", &kubeconfig];
        let output = story.cli(&both).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        story.available("ap-1").await?;
        member.prepare_namespace("install-ws").await?;
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;

        let secret = fs::read_to_string(&admin)?;
        let token =
            secret.split("token: ").nth(1).and_then(|rest| rest.split('}').next()).context("a token")?;
        let replica = story.replicas.first().context("no manager")?;
        ensure!(!fs::read_to_string(replica.process.log())?.contains(token), "the token is in the log");
        let bad = story.cli(&["cluster", "install", "--kubeconfig", "/nowhere"]).await?;
        ensure!(bad.code == 1, "{}", bad.stderr);
        Ok(())
    })
}
