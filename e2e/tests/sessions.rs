//! Sessions where there is nothing to enter: simulated nodes run no containers. The others are among the stories about
//! content, on real nodes.

use anyhow::{Result, ensure};
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::PostParams;

use crate::story::{request, run, story, until};

#[test]
fn a_session_that_cannot_be_opened_says_why_and_what_to_do() -> Result<()> {
    story("sessions-simulated", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &["europe"])).await?;
        let enter = ["workspace", "shell", "ws", "--", "true"];
        let done = story.cli(&enter).await?;
        let said = "FAILED_PRECONDITION: workspace ws: its node refused: ";
        ensure!(done.code == 1 && done.stdout.is_empty() && done.stderr.contains(said), "{done:?}");

        let roles: Api<Role> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let mut role = roles.get("spaceport").await?;
        for rule in role.rules.iter_mut().flatten() {
            rule.resources.iter_mut().flatten().for_each(|resource| {
                if resource == "pods/exec" {
                    "pods/nothing".clone_into(resource);
                }
            });
        }
        roles.replace("spaceport", &PostParams::default(), &role).await?;
        until("the right to be gone", async || {
            let done = story.cli(&enter).await?;
            let said = "FAILED_PRECONDITION: workspace ws: the manager may not enter it: ";
            ensure!(done.code == 1 && done.stderr.contains(said), "{done:?}");
            ensure!(done.stderr.contains("run `spaceport cluster install` for cluster eu-1"), "{done:?}");
            Ok(())
        })
        .await?;
        let doctor = story.cli(&["cluster", "doctor", "eu-1"]).await?;
        ensure!(doctor.code == 1 && doctor.stdout.contains("pods/exec"), "{doctor:?}");

        for (args, said) in [
            (
                ["workspace", "shell", "none", "--", "true"].as_slice(),
                "NOT_FOUND: workspace none does not exist",
            ),
            (&["workspace", "forward", "none", "80"], "NOT_FOUND: workspace none does not exist"),
            (&["workspace", "cp", "none:x", "y"], "NOT_FOUND: workspace none does not exist"),
        ] {
            let done = story.cli(args).await?;
            ensure!(done.code == 1 && done.stderr.contains(said), "{done:?}");
        }
        for args in [
            ["workspace", "forward", "ws", "0"].as_slice(),
            &["workspace", "forward", "ws"],
            &["workspace", "cp", "a", "b"],
            &["workspace", "cp", "ws:a", "ws:b"],
            &["workspace", "shell", "a b"],
        ] {
            let done = story.cli(args).await?;
            ensure!(done.code == 2 && done.stdout.is_empty(), "{args:?}: {done:?}");
        }
        Ok(())
    })
}
