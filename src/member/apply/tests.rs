use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock;

use super::*;
use crate::error::{Error, Result};
use domain::secret::Secret;
use k8s::resources::{Workspace, WorkspaceSpec};

type Server = mock::Handle<Request<Body>, Response<Body>>;

fn writer() -> (Writer, Server, Arc<AtomicBool>) {
    let (service, server) = mock::pair::<Request<Body>, Response<Body>>();
    let leads = Arc::new(AtomicBool::new(true));
    let permit = Arc::clone(&leads);
    let writer = Writer::new(
        "eu-1".parse().unwrap(),
        "ws".parse().unwrap(),
        kube::Client::new(service, "default"),
        Duration::from_secs(10),
        crate::maintenance::DEFAULT_NAME.to_owned(),
        Arc::new(move || permit.load(Ordering::Relaxed)),
    );
    (writer, server, leads)
}

/// Answers one call; returns its method, path and body.
async fn answer(server: &mut Server, status: u16, body: Value) -> (String, String, Value) {
    let (request, send) = pin!(server).next_request().await.unwrap();
    let (parts, content) = request.into_parts();
    let bytes = content.collect_bytes().await.unwrap();
    let mut response = Response::new(Body::from(serde_json::to_vec(&body).unwrap()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    send.send_response(response);
    let sent = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    (parts.method.to_string(), parts.uri.path().to_owned(), sent)
}

fn refusal(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
           "message": format!("it is {reason}")})
}

fn workspace() -> Workspace {
    let mut workspace = Workspace::new("a", WorkspaceSpec::default());
    workspace.metadata.resource_version = Some("7".to_owned());
    workspace.metadata.uid = Some("u".to_owned());
    workspace.metadata.finalizers = Some(vec!["other/x".to_owned(), "gitpod.io/finalizer".to_owned()]);
    workspace
}

fn as_json(workspace: &Workspace) -> Value {
    serde_json::to_value(workspace).unwrap()
}

#[tokio::test]
async fn nothing_is_sent_by_a_process_that_does_not_lead() {
    let (writer, mut server, leads) = writer();
    leads.store(false, Ordering::Relaxed);
    let error = writer.create_workspace(&workspace()).await.unwrap_err();
    assert!(matches!(error, Error::NotLeader { .. }));
    assert!(error.is_definite_refusal());
    drop(writer);
    assert!(pin!(server.next_request()).await.is_none());
}

#[tokio::test]
async fn a_name_that_is_taken_is_an_outcome_and_a_refusal_is_a_definite_error() {
    let (writer, mut server, _) = writer();
    let object = workspace();
    let (made, _) = tokio::join!(
        writer.create_workspace(&object),
        answer(&mut server, 409, refusal(409, "AlreadyExists"))
    );
    assert_eq!(made, Ok(Created::Exists));
    let (made, _) =
        tokio::join!(writer.create_workspace(&object), answer(&mut server, 403, refusal(403, "Forbidden")));
    let error = made.unwrap_err();
    assert!(error.is_definite_refusal());
    assert_eq!(
        error.to_string(),
        "cluster eu-1: create Workspace a was refused: the apiserver rejected it (403 Forbidden)"
    );
}

#[tokio::test]
async fn an_answer_that_does_not_say_whether_it_was_stored_is_not_definite() {
    let (writer, mut server, _) = writer();
    let object = workspace();
    let cases = [
        (500, "InternalError", false),
        (504, "Timeout", false),
        (503, "ServiceUnavailable", true),
        (429, "TooManyRequests", true),
    ];
    for (code, reason, definite) in cases {
        let (made, _) =
            tokio::join!(writer.create_workspace(&object), answer(&mut server, code, refusal(code, reason)));
        assert_eq!(made.unwrap_err().is_definite_refusal(), definite, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_is_ambiguous_at_its_deadline() {
    let (writer, _server, _) = writer();
    let error = writer.create_workspace(&workspace()).await.unwrap_err();
    assert!(matches!(error, Error::Ambiguous { .. }));
    assert!(!error.is_definite_refusal());
}

#[tokio::test]
async fn a_patch_carries_the_version_it_was_made_from_and_a_conflict_is_an_outcome() {
    let (writer, mut server, _) = writer();
    let patch = json!({"status": {"phase": "Running"}});
    let (done, sent) = tokio::join!(
        writer.patch_status("a", Some("7"), patch),
        answer(&mut server, 409, refusal(409, "Conflict"))
    );
    assert_eq!(done, Ok(Patched::Conflict));
    let (verb, path, body) = sent;
    assert_eq!(
        (verb.as_str(), path.as_str()),
        ("PATCH", "/apis/workspace.gitpod.io/v1/namespaces/ws/workspaces/a/status")
    );
    assert_eq!(body, json!({"status": {"phase": "Running"}, "metadata": {"resourceVersion": "7"}}));
}

#[tokio::test]
async fn taking_the_finalizer_off_keeps_those_of_others() {
    let (writer, mut server, _) = writer();
    let object = workspace();
    let (done, (_, _, body)) =
        tokio::join!(writer.remove_finalizer(&object), answer(&mut server, 200, as_json(&object)));
    assert!(matches!(done, Ok(Patched::Done(()))));
    assert_eq!(body, json!({"metadata": {"finalizers": ["other/x"], "uid": "u", "resourceVersion": "7"}}));
}

#[tokio::test]
async fn a_deletion_concerns_the_object_that_was_seen_and_no_later_one() {
    let (writer, mut server, _) = writer();
    let (done, (_, _, body)) = tokio::join!(
        writer.delete_pod("p", "u", Some(1)),
        answer(&mut server, 409, refusal(409, "Conflict"))
    );
    assert_eq!(done, Ok(Deleted::Conflict));
    assert_eq!(body["preconditions"]["uid"], "u");
    assert_eq!(body["gracePeriodSeconds"], 1);
}

/// A secret as it is there, made for the placement of that second.
fn existing(manager: &str, value: &str, placed_at: i64) -> Value {
    let placed_at = Timestamp::constant(placed_at, 0).to_string();
    let labels = json!({
        "gitpod.io/managed-by": manager, "gitpod.io/instanceID": "a", "spaceport.dev/installation": "i"
    });
    let annotations = json!({"spaceport.dev/placed-at": placed_at});
    json!({"apiVersion": "v1", "kind": "Secret", "data": {"key": value},
           "metadata": {"name": "a-env", "uid": "u", "resourceVersion": "3", "labels": labels, "annotations": annotations}})
}

async fn put(writer: &Writer) -> Result<String> {
    let content = Secret::new([("key".to_owned(), "new".to_owned())].into());
    let purpose = Purpose { workspace: "a", installation: "i", placed_at: Timestamp::constant(7, 0) };
    writer.put_secret(&"ws".parse().unwrap(), "a-env", purpose, &content).await
}

#[tokio::test]
async fn a_stale_secret_is_replaced_and_one_with_the_same_content_is_left() {
    let (writer, mut server, _) = writer();
    let stale = async {
        answer(&mut server, 409, refusal(409, "AlreadyExists")).await;
        answer(&mut server, 200, existing("spaceport", "b2xk", 7)).await;
        answer(&mut server, 200, json!({"metadata": {"uid": "u"}})).await
    };
    let (done, (method, _, body)) = tokio::join!(put(&writer), stale);
    assert_eq!(done, Ok("u".to_owned()));
    assert_eq!(method, "PUT");
    assert_eq!(body["data"]["key"], "bmV3");
    assert_eq!(body["metadata"]["resourceVersion"], "3");

    let same = async {
        answer(&mut server, 409, refusal(409, "AlreadyExists")).await;
        answer(&mut server, 200, existing("spaceport", "bmV3", 7)).await
    };
    assert_eq!(tokio::join!(put(&writer), same).0, Ok("u".to_owned()));
}

#[tokio::test]
async fn a_secret_of_an_earlier_placement_becomes_another_version_though_it_holds_the_same() {
    let (writer, mut server, _) = writer();
    let earlier = async {
        answer(&mut server, 409, refusal(409, "AlreadyExists")).await;
        answer(&mut server, 200, existing("spaceport", "bmV3", 6)).await;
        answer(&mut server, 200, json!({"metadata": {"uid": "u"}})).await
    };
    let (done, (method, _, body)) = tokio::join!(put(&writer), earlier);
    assert_eq!((done, method.as_str()), (Ok("u".to_owned()), "PUT"));
    assert_eq!(body["metadata"]["annotations"]["spaceport.dev/placed-at"], "1970-01-01T00:00:07Z");
}

#[tokio::test]
async fn secrets_are_listed_by_page_without_content_and_deleted_only_as_they_were_seen() {
    let (writer, mut server, _) = writer();
    let namespace = "ws".parse().unwrap();
    let item = |name: &str, meta: Value| {
        let labels = json!({"gitpod.io/instanceID": "a"});
        let mut metadata =
            json!({"name": name, "labels": labels, "creationTimestamp": "1970-01-01T00:00:07Z"});
        metadata.as_object_mut().unwrap().extend(meta.as_object().unwrap().clone());
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata})
    };
    let list = json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {"continue": "more"},
        "items": [item("a-env", json!({"uid": "u", "resourceVersion": "3"})), item("no-version", json!({}))],
    });
    let listing = async {
        let (request, send) = pin!(&mut server).next_request().await.unwrap();
        send.send_response(Response::new(Body::from(serde_json::to_vec(&list).unwrap())));
        request
    };
    let (page, request) = tokio::join!(writer.list_secrets(&namespace, "i", Some("here")), listing);
    let accept = request.headers()["accept"].to_str().unwrap();
    assert!(accept.starts_with("application/json;as=PartialObjectMetadataList"), "{accept}");
    let query = request.uri().query().unwrap();
    for part in ["limit=500", "continue=here", "managed-by%3Dspaceport%2Cspaceport.dev%2Finstallation%3Di"] {
        assert!(query.contains(part), "{query}");
    }
    let page = page.unwrap();
    assert_eq!(page.next.as_deref(), Some("more"));
    let [seen] = &page.secrets[..] else { panic!("{page:?}") };
    assert_eq!((seen.name.as_str(), seen.workspace.as_str()), ("a-env", "a"));
    assert_eq!(seen.made_at, Some(Timestamp::constant(7, 0)));

    let (done, (_, _, body)) = tokio::join!(
        writer.delete_seen_secret(&namespace, seen),
        answer(&mut server, 409, refusal(409, "Conflict"))
    );
    assert_eq!(done, Ok(Deleted::Conflict));
    assert_eq!(body["preconditions"], json!({"uid": "u", "resourceVersion": "3"}));
}

#[tokio::test]
async fn only_a_secret_that_another_installation_made_for_the_workspace_is_made_ours_with_its_content() {
    let (writer, mut server, _) = writer();
    let adopt = |workspace, installation| {
        let (writer, namespace) = (writer.clone(), "ws".parse().unwrap());
        async move { writer.adopt_secret(&namespace, "a-env", workspace, installation).await }
    };
    let raced = async {
        answer(&mut server, 200, existing("spaceport", "b2xk", 7)).await;
        answer(&mut server, 409, refusal(409, "Conflict")).await;
        answer(&mut server, 200, existing("spaceport", "bmV3", 7)).await;
        answer(&mut server, 200, json!({})).await
    };
    let (done, (method, _, body)) = tokio::join!(adopt("a", "here"), raced);
    assert_eq!((done, method.as_str()), (Ok(()), "PUT"));
    let mut expected = existing("spaceport", "bmV3", 7);
    expected["metadata"]["labels"]["spaceport.dev/installation"] = json!("here");
    assert_eq!(body, expected);
    for (manager, workspace, installation) in
        [("helm", "a", "here"), ("spaceport", "b", "here"), ("spaceport", "a", "i")]
    {
        let reading = answer(&mut server, 200, existing(manager, "b2xk", 7));
        assert_eq!(tokio::join!(adopt(workspace, installation), reading).0, Ok(()));
    }
    let gone = answer(&mut server, 404, refusal(404, "NotFound"));
    assert_eq!(tokio::join!(adopt("a", "here"), gone).0, Ok(()));
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_not_overwritten() {
    let mut other_workspace = existing("spaceport", "b2xk", 7);
    other_workspace["metadata"]["labels"]["gitpod.io/instanceID"] = json!("b");
    let mut other_installation = existing("spaceport", "b2xk", 7);
    other_installation["metadata"]["labels"]["spaceport.dev/installation"] = json!("other");
    for theirs in [existing("helm", "b2xk", 7), other_workspace, other_installation] {
        let (writer, mut server, _) = writer();
        let others = async {
            answer(&mut server, 409, refusal(409, "AlreadyExists")).await;
            answer(&mut server, 200, theirs).await
        };
        let error = tokio::join!(put(&writer), others).0.unwrap_err();
        let text = error.to_string();
        assert!(error.is_definite_refusal() && text.contains("ws/a-env"), "{text}");
        assert!(text.contains("belongs to somebody else"), "{text}");
    }
}

#[tokio::test]
async fn a_secret_is_deleted_only_where_it_was_made_for_this_very_workspace_and_as_it_was_seen() {
    let (writer, mut server, _) = writer();
    let placed_at = Timestamp::constant(7, 0).to_string();
    let delete = |workspace: &'static str, installation: &'static str| {
        let (writer, placed_at) = (writer.clone(), placed_at.clone());
        async move {
            let made_for = MadeFor { workspace, installation, placed_at: Some(&placed_at) };
            writer.delete_secret(&"ws".parse().unwrap(), "a-env", made_for).await
        }
    };
    let raced = async {
        answer(&mut server, 200, existing("spaceport", "", 7)).await;
        answer(&mut server, 409, refusal(409, "Conflict")).await;
        answer(&mut server, 200, existing("spaceport", "", 7)).await;
        answer(&mut server, 200, json!({})).await
    };
    let (done, (method, _, body)) = tokio::join!(delete("a", "i"), raced);
    assert_eq!((done, method.as_str()), (Ok(Deleted::Accepted), "DELETE"));
    assert_eq!(body["preconditions"], json!({"uid": "u", "resourceVersion": "3"}));
    let mut unlabelled = existing("spaceport", "", 7);
    unlabelled["metadata"]["labels"] = json!(null);
    let theirs = [
        (unlabelled, "a", "i"),
        (existing("helm", "", 7), "a", "i"),
        (existing("spaceport", "", 7), "b", "i"),
        (existing("spaceport", "", 7), "a", "other"),
        // Of a later start of the same id.
        (existing("spaceport", "", 8), "a", "i"),
    ];
    for (secret, workspace, installation) in theirs {
        let shown = secret.to_string();
        let reading = answer(&mut server, 200, secret);
        assert_eq!(
            tokio::join!(delete(workspace, installation), reading).0,
            Ok(Deleted::NotFound),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_pods_finalizer_is_taken_off_that_pod_alone() {
    let (writer, mut server, _) = writer();
    let mut refused = refusal(422, "Invalid");
    refused["message"] =
        json!("Pod \"p\" is invalid: metadata.uid: Invalid value: \"u\": field is immutable");
    let (done, (_, _, body)) =
        tokio::join!(writer.remove_pod_finalizer("p", "u"), answer(&mut server, 422, refused));
    assert_eq!(done, Ok(Patched::Conflict));
    assert_eq!(
        body,
        json!({"metadata": {"uid": "u", "$deleteFromPrimitiveList/finalizers": ["gitpod.io/finalizer"]}})
    );
}

#[tokio::test]
async fn every_page_of_a_list_is_shown_whoever_looks_after_its_objects() {
    let (writer, mut server, _) = writer();
    let page = |name: &str, more: &str| {
        let mut item = as_json(&workspace());
        item["metadata"]["name"] = json!(name);
        json!({ "apiVersion": "workspace.gitpod.io/v1", "kind": "WorkspaceList",
            "metadata": { "continue": more, "resourceVersion": "1" }, "items": [item] })
    };
    let mut seen = Vec::new();
    let serving = async {
        answer(&mut server, 200, page("a", "more")).await;
        answer(&mut server, 200, page("b", "")).await
    };
    let (listed, _) =
        tokio::join!(writer.each_workspace(|workspace| seen.extend(workspace.metadata.name)), serving);
    listed.unwrap();
    assert_eq!(seen, ["a", "b"]);
}

#[tokio::test]
async fn an_adopted_workspace_names_us_at_the_version_that_was_seen_and_keeps_what_others_hold() {
    let (writer, mut server, _) = writer();
    let mut theirs = workspace();
    theirs.metadata.finalizers = Some(vec!["other/x".to_owned()]);
    let (adopted, (method, path, patch)) =
        tokio::join!(writer.adopt_workspace(&theirs, "here"), answer(&mut server, 200, as_json(&theirs)));
    assert!(matches!(adopted, Ok(Patched::Done(_))));
    assert_eq!((method.as_str(), path.ends_with("/workspaces/a")), ("PATCH", true));
    assert_eq!(
        patch["metadata"],
        json!({ "uid": "u", "resourceVersion": "7", "labels": { "gitpod.io/managed-by": "spaceport" },
            "annotations": { "spaceport.dev/installation": "here", "spaceport.dev/generation": "1",
                "spaceport.dev/spec-digest": null },
            "finalizers": ["other/x", "gitpod.io/finalizer"] })
    );
}
