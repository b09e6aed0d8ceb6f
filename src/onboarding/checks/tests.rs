use jiff::{SignedDuration, ToSpan as _};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, ResourceRule};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::json;

use super::*;
use domain::check::Outcome;
use domain::cluster::ClusterSpec;
use k8s::resources::crds;

fn installed() -> CustomResourceDefinition {
    let mut crd = crds().remove(1);
    let status = json!({ "conditions": [{ "type": "Established", "status": "True" }] });
    crd.status = serde_json::from_value(status).unwrap();
    crd
}

#[test]
fn the_definition_that_is_installed_from_here_is_compatible() {
    assert_eq!(resources::differences(&crds()[1], &installed()), Vec::<String>::new());
}

#[test]
fn a_definition_of_before_a_rule_was_made_is_told_by_what_may_be_changed_there() {
    assert_eq!(resources::missing_rules(&crds()[1], &installed()), Vec::<String>::new());
    let mut value = serde_json::to_value(installed()).unwrap();
    let spec = &mut value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let rules = spec["x-kubernetes-validations"].as_array_mut().unwrap();
    rules.retain(|rule| rule["message"] != "image cannot be changed");
    let theirs: CustomResourceDefinition = serde_json::from_value(value).unwrap();
    let told = "the resource definition workspaces.workspace.gitpod.io lacks rules: image cannot be changed";
    assert_eq!(resources::missing_rules(&crds()[1], &theirs), [told]);
    assert_eq!(
        resources::differences(&crds()[1], &theirs),
        Vec::<String>::new(),
        "a cluster may still be used"
    );
}

#[test]
fn a_definition_that_would_drop_or_change_fields_is_told_by_its_fields() {
    let mut value = serde_json::to_value(installed()).unwrap();
    let schema = &mut value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    schema["spec"]["properties"].as_object_mut().unwrap().remove("class").unwrap();
    schema["spec"]["properties"]["type"]["type"] = "integer".into();
    let theirs: CustomResourceDefinition = serde_json::from_value(value).unwrap();
    let found = resources::differences(&crds()[1], &theirs).join("\n");
    assert!(found.contains("spec.class") && found.contains("spec.type as string"), "{found}");
}

#[test]
fn a_definition_that_keeps_unknown_fields_is_compatible() {
    let mut value = serde_json::to_value(installed()).unwrap();
    value["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let theirs: CustomResourceDefinition = serde_json::from_value(value).unwrap();
    assert_eq!(resources::differences(&crds()[1], &theirs), Vec::<String>::new());
}

/// The installed definition with another schema of the initializer.
fn with_initializer(change: impl FnOnce(&mut serde_json::Value)) -> Vec<String> {
    let mut value = serde_json::to_value(installed()).unwrap();
    change(&mut value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]);
    resources::differences(&crds()[1], &serde_json::from_value(value).unwrap())
}

#[test]
fn a_definition_of_an_earlier_version_is_told_by_how_it_holds_bytes() {
    let bytes = json!({ "type": "string", "format": "byte" });
    let earlier = with_initializer(|spec| spec["properties"]["initializer"] = bytes.clone());
    assert!(
        earlier.join("").contains("spec.initializer as standard base64 (format byte under"),
        "{earlier:?}"
    );
    // As existing managers install it: without rules nothing decodes the value wrongly.
    let theirs = with_initializer(|spec| {
        spec["properties"]["initializer"] = bytes.clone();
        spec.as_object_mut().unwrap().remove("x-kubernetes-validations");
    });
    assert_eq!(theirs, Vec::<String>::new());
    let any = with_initializer(|spec| spec["properties"]["initializer"] = json!({ "type": "string" }));
    assert!(any.join("").contains("spec.initializer as standard base64 (values that nobody"), "{any:?}");
    let fewer = with_initializer(|spec| spec["properties"]["type"]["enum"] = json!(["Regular", "Prebuild"]));
    assert!(fewer.join("").contains("spec.type with the value \"ImageBuild\""), "{fewer:?}");
}

#[test]
fn clocks_are_judged_by_how_far_they_are_apart() {
    let outcome = |seconds| server::clock(SignedDuration::from_secs(seconds)).outcome;
    assert_eq!(
        [outcome(0), outcome(-5), outcome(6), outcome(-30), outcome(31)],
        [Outcome::Ok, Outcome::Ok, Outcome::Warning, Outcome::Warning, Outcome::Failed]
    );
}

#[test]
fn a_login_that_ends_soon_is_warned_of_and_one_that_ended_fails() {
    let now = Timestamp::UNIX_EPOCH;
    let outcome = |span: jiff::Span| access::login_end(now.checked_add(span).ok(), now).outcome;
    assert_eq!(access::login_end(None, now).outcome, Outcome::Ok);
    assert_eq!(
        [outcome(0.hours()), outcome(1.hours()), outcome((24 * 15).hours())],
        [Outcome::Failed, Outcome::Warning, Outcome::Ok]
    );
}

#[test]
fn rules_cover_a_right_by_name_or_star_and_never_by_single_objects() {
    let right = ResourceAttributes {
        group: Some("workspace.gitpod.io".to_owned()),
        resource: Some("workspaces".to_owned()),
        subresource: Some("status".to_owned()),
        verb: Some("patch".to_owned()),
        ..ResourceAttributes::default()
    };
    let rule = |group: &str, resource: &str, verb: &str, name: Option<&str>| ResourceRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: vec![verb.to_owned()],
        resource_names: name.map(|name| vec![name.to_owned()]),
    };
    let covered = |rule| access::is_covered(&right, &[rule]);
    assert!(covered(rule("workspace.gitpod.io", "workspaces/status", "patch", None)));
    assert!(covered(rule("*", "*", "*", None)) && covered(rule("*", "*/status", "*", None)));
    assert!(!covered(rule("", "workspaces/status", "patch", None)));
    assert!(!covered(rule("workspace.gitpod.io", "workspaces", "patch", None)));
    assert!(!covered(rule("workspace.gitpod.io", "workspaces/status", "patch", Some("a"))));
}

#[test]
fn a_kubeconfig_of_another_cluster_is_told_from_one_of_the_same() {
    let spec: ClusterSpec = serde_json::from_value(json!({
        "name": "eu", "region": "europe", "weight": 1, "maxWeight": 1,
        "namespaces": [{"namespace": "a", "secretsNamespace": "b"}],
    }))
    .unwrap();
    let outcome = |known, found: &str| {
        let question = Question {
            spec: &spec,
            installation: "i",
            samples: &[],
            login_ends: None,
            uid: known,
            probe_deadline: Duration::from_secs(1),
            within: Duration::from_secs(1),
        };
        server::identity(Ok(found.to_owned()), &question).0.outcome
    };
    assert_eq!([outcome(None, "a"), outcome(None, "")], [Outcome::Ok, Outcome::Warning]);
    assert_eq!(
        [outcome(Some("a"), "a"), outcome(Some("a"), "b"), outcome(Some("a"), "")],
        [Outcome::Ok, Outcome::Failed, Outcome::Failed]
    );
}
