//! Checks of what must be installed: namespaces and CRDs.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};
use kube::{Api, Client, ResourceExt as _};

use super::question::{Question, told};
use domain::check::Check;
use domain::text::first_of;
use k8s::resources;

/// Fields that are named of those that are missing.
const NAMED: usize = 8;

pub(super) async fn namespaces(client: &Client, question: &Question<'_>) -> Check {
    const NAME: &str = "namespaces";
    let api = Api::<Namespace>::all(client.clone());
    let (mut missing, mut unread) = (Vec::new(), Vec::new());
    let names = question.namespaces();
    for name in &names {
        match api.get(name).await {
            Ok(found) if found.metadata.deletion_timestamp.is_some() => {
                missing.push(format!("the namespace {name} is being deleted"));
            }
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {
                missing.push(format!("the namespace {name} does not exist"));
            }
            // A login that may not read namespaces may still work in one; `permissions` checks that.
            Err(kube::Error::Api(status)) if status.code == 403 => unread.push(*name),
            Err(error) => return Check::failed(NAME, told(error), "check the apiserver"),
        }
    }
    if !missing.is_empty() {
        let remedy = "create them (clusters/member/namespaces.yaml), or run `spaceport cluster install`";
        Check::failed(NAME, missing.join("; "), remedy)
    } else if unread.is_empty() {
        Check::ok(NAME, names.join(", "))
    } else {
        let detail = format!("the login may not read whether {} exist", unread.join(", "));
        Check::warning(NAME, detail, "let the login get namespaces (clusters/member/rbac.yaml)")
    }
}

/// Whether the definitions are there, and hold every field that is written and read here.
pub(super) async fn definitions(client: &Client) -> Check {
    const NAME: &str = "definitions";
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let (mut missing, mut lax, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for ours in resources::crds() {
        let name = ours.name_any();
        match api.get(&name).await {
            Ok(theirs) => {
                missing.extend(differences(&ours, &theirs));
                lax.extend(missing_rules(&ours, &theirs));
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {
                missing.push(format!("the resource definition {name} is not installed"));
            }
            Err(kube::Error::Api(status)) if status.code == 403 => unread.push(name),
            Err(error) => return Check::failed(NAME, told(error), "check the apiserver"),
        }
    }
    if !missing.is_empty() {
        let remedy = "run `spaceport cluster install` for the cluster (with `--force-conflicts` where another program \
                      applied them), or apply crds/ there; stored workspaces stay, and stuck ones continue";
        Check::failed(NAME, missing.join("; "), remedy)
    } else if !lax.is_empty() {
        let remedy =
            "run `spaceport cluster install` for the cluster, or apply crds/ there; stored workspaces stay";
        Check::warning(NAME, lax.join("; "), remedy)
    } else if unread.is_empty() {
        Check::ok(NAME, "both are installed and compatible")
    } else {
        let detail = format!("the login may not read whether {} are compatible", unread.join(", "));
        Check::warning(NAME, detail, "let the login get customresourcedefinitions")
    }
}

/// Why an installed definition is incompatible with the one of this version, in sentences.
pub(super) fn differences(ours: &CustomResourceDefinition, theirs: &CustomResourceDefinition) -> Vec<String> {
    let name = ours.name_any();
    let mut found = Vec::new();
    let conditions =
        theirs.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    if !conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True") {
        found.push(format!("the resource definition {name} is not established"));
    }
    if ours.spec.scope != theirs.spec.scope {
        found.push(format!("the resource definition {name} is not {}", ours.spec.scope));
    }
    for version in &ours.spec.versions {
        let Some(served) = theirs.spec.versions.iter().find(|one| one.name == version.name && one.served)
        else {
            found.push(format!("the resource definition {name} does not serve {}", version.name));
            continue;
        };
        let status = |of: &CustomResourceDefinitionVersion| {
            of.subresources.as_ref().is_some_and(|sub| sub.status.is_some())
        };
        if status(version) && !status(served) {
            found.push(format!("the resource definition {name} has no status of its own"));
        }
        let mut fields = Vec::new();
        lacking(&schema(version), &schema(served), "", false, &mut fields);
        if !fields.is_empty() {
            found.push(format!("the resource definition {name} lacks {}", first_of(&fields, NAMED)));
        }
    }
    found
}

/// Fields of `ours` that `theirs` would drop, take for something else or refuse. `ruled`: whether CEL rules apply to an object
/// that holds them.
fn lacking(
    ours: &JSONSchemaProps,
    theirs: &JSONSchemaProps,
    path: &str,
    ruled: bool,
    found: &mut Vec<String>,
) {
    if theirs.x_kubernetes_preserve_unknown_fields == Some(true) {
        return;
    }
    if ours.type_.is_some() && theirs.type_.is_some() && ours.type_ != theirs.type_ {
        found.push(format!("{path} as {}", ours.type_.clone().unwrap_or_default()));
        return;
    }
    let ruled = ruled || theirs.x_kubernetes_validations.as_ref().is_some_and(|rules| !rules.is_empty());
    found.extend(unlike_bytes(ours, theirs, ruled).map(|why| format!("{path} as standard base64 ({why})")));
    found.extend(
        refused_values(ours, theirs).into_iter().map(|value| format!("{path} with the value {value}")),
    );
    let none = std::collections::BTreeMap::new();
    let known = theirs.properties.as_ref().unwrap_or(&none);
    for (name, field) in ours.properties.iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match known.get(name) {
            Some(other) => lacking(field, other, &path, ruled, found),
            None => found.push(path),
        }
    }
    if let (Some(JSONSchemaPropsOrArray::Schema(ours)), Some(JSONSchemaPropsOrArray::Schema(theirs))) =
        (&ours.items, &theirs.items)
    {
        lacking(ours, theirs, &format!("{path}[]"), ruled, found);
    }
    if let (Some(JSONSchemaPropsOrBool::Schema(ours)), Some(JSONSchemaPropsOrBool::Schema(theirs))) =
        (&ours.additional_properties, &theirs.additional_properties)
    {
        lacking(ours, theirs, &format!("{path}.*"), ruled, found);
    }
}

/// Rules that an installed definition lacks, as an earlier version's does: fields that no call of Spaceport can change, others
/// may change there.
pub(super) fn missing_rules(
    ours: &CustomResourceDefinition,
    theirs: &CustomResourceDefinition,
) -> Vec<String> {
    let mut rules = Vec::new();
    for version in &ours.spec.versions {
        if let Some(served) = theirs.spec.versions.iter().find(|one| one.name == version.name) {
            unruled(&schema(version), &schema(served), &mut rules);
        }
    }
    if rules.is_empty() {
        return Vec::new();
    }
    vec![format!("the resource definition {} lacks rules: {}", ours.name_any(), first_of(&rules, NAMED))]
}

fn schema(of: &CustomResourceDefinitionVersion) -> JSONSchemaProps {
    of.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.clone()).unwrap_or_default()
}

fn unruled(ours: &JSONSchemaProps, theirs: &JSONSchemaProps, found: &mut Vec<String>) {
    let has = |rule: &str| theirs.x_kubernetes_validations.iter().flatten().any(|one| one.rule == rule);
    let lacking = ours.x_kubernetes_validations.iter().flatten().filter(|one| !has(&one.rule));
    found.extend(lacking.map(|one| one.message.clone().unwrap_or_else(|| one.rule.clone())));
    for (name, field) in ours.properties.iter().flatten() {
        if let Some(other) = theirs.properties.as_ref().and_then(|fields| fields.get(name)) {
            unruled(field, other, found);
        }
    }
}

/// Why a field that holds bytes here is not safe there. `format: byte` alone is: only rules decode the value wrongly.
fn unlike_bytes(ours: &JSONSchemaProps, theirs: &JSONSchemaProps, ruled: bool) -> Option<&'static str> {
    if ours.pattern.as_deref() != Some(resources::BASE64) {
        return None;
    }
    let of_format = theirs.format.as_deref() == Some("byte");
    if of_format && ruled {
        return Some("format byte under validation rules: a value with + or / refuses every later update");
    }
    (!of_format && theirs.pattern != ours.pattern).then_some("values that nobody can decode are taken")
}

/// Values of an enumeration that are written here and refused there.
fn refused_values(ours: &JSONSchemaProps, theirs: &JSONSchemaProps) -> Vec<String> {
    let (Some(ours), Some(theirs)) = (&ours.enum_, &theirs.enum_) else { return Vec::new() };
    ours.iter().filter(|value| !theirs.contains(value)).map(|value| value.0.to_string()).collect()
}
