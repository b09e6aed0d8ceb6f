//! The same between every two steps of recreating a pod that its node rejected: each workspace gets one more pod, not
//! two.

use super::*;

/// Before the rejection is published. The status has it once the pod is gone.
static OF_A_REFUSAL: [Step; 2] = [
    step("pod-off", Method::DELETE, "pods", ""),
    step("refused", Method::PATCH, "workspaces/status", "Pod was rejected"),
];

/// From the wiping on.
static OF_A_RECREATION: [Step; 5] = [
    step("pod-free", Method::PATCH, "pods", ""),
    step("pod-gone", Method::PATCH, "workspaces/status", r#""podDeletionTime":""#),
    step("again", Method::PATCH, "workspaces/status", r#""podRecreated":1"#),
    step("pod", Method::POST, "pods", ""),
    step("made", Method::PATCH, "workspaces/status", r#""podStarts":2"#),
];

/// Its first pod is rejected, and its content is not wiped until [`let_it_run`].
fn wanted_by_a_recreation(case: &Case) -> StartWorkspaceRequest {
    annotated(annotated(wanted(case), annotations::POD, "reject"), annotations::BACKUP, "hang")
}

async fn let_it_run(story: &Story, id: &str) -> Result<()> {
    forget(story, id, annotations::POD).await?;
    forget(story, id, annotations::BACKUP).await
}

async fn told_of_the_refusal(stream: &mut Streaming<SubscribeResponse>) -> Result<()> {
    follow(stream, |status| status.message.contains("refused the pod")).await.map(drop)
}

/// A started workspace of the story.
struct Refused {
    case: Case,
    stream: Streaming<SubscribeResponse>,
    token: String,
}

impl Refused {
    async fn start(client: &Client, case: Case) -> Result<Self> {
        let client = &mut client.clone();
        let stream = watch(client, &case.id).await?;
        let token = start(client, wanted_by_a_recreation(&case)).await?.owner_token;
        Ok(Self { case, stream, token })
    }
}

#[test]
fn a_leader_killed_while_it_makes_a_refused_pod_again_leaves_one_workspace_with_one_pod_more() -> Result<()> {
    story("killed-again", 0, &[], async |story| {
        story.installation.overrides = json!({
            "manager": { "podRecreationBackoff": "1s", "podRecreationMaxRetries": 2 },
            "federation": { "leftoverAge": "2s" },
        });
        let (proxy, doomed, client) = behind_a_proxy(story).await?;
        let (mut early, mut late) = (Vec::new(), Vec::new());
        for case in Case::all("again", &OF_A_RECREATION) {
            let mut one = Refused::start(&client, case).await?;
            told_of_the_refusal(&mut one.stream).await.with_context(|| one.case.id.clone())?;
            late.push(one);
        }
        let first = Case::all("again", &OF_A_REFUSAL);
        let reached = keep_back(&proxy, first.iter().chain(late.iter().map(|one| &one.case)));
        for case in first {
            early.push(Refused::start(&client, case).await?);
        }
        for one in &late {
            let_it_run(story, &one.case.id).await?;
        }
        let all: BTreeSet<String> = early.iter().chain(&late).map(|one| one.case.id.clone()).collect();
        kill_when_reached(&proxy, doomed, &reached, &all).await?;
        for one in &mut early {
            told_of_the_refusal(&mut one.stream).await.with_context(|| one.case.id.clone())?;
            let_it_run(story, &one.case.id).await?;
        }
        refused_what_came_late(&proxy, late_of(&all)).await?;
        for one in early.iter_mut().chain(&mut late) {
            let outcome = runs(story, &client, &one.case.id, &mut one.stream, &one.token, (2, 1)).await;
            outcome.with_context(|| one.case.id.clone())?;
        }
        nothing_is_left(story).await
    })
}
