//! The CustomResourceDefinitions of member clusters.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

use super::snapshot::Snapshot;
use super::workspace::Workspace;

/// Both definitions.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![tidied(Snapshot::crd()), tidied(Workspace::crd())]
}

/// A definition as YAML, with a head that says where it comes from.
pub fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    let body = serde_saphyr::to_string(crd)?;
    Ok(format!(
        "# Generated from src/k8s/resources; `UPDATE_EXPECT=1 cargo test --test repository` writes it again.\n{body}"
    ))
}

/// Takes out what the derive puts in beyond the contract: an absent field is absent, never null.
fn tidied(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            tidy(schema);
        }
    }
    crd
}

fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.title = None;
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(tidy);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => tidy(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(tidy),
        None => {}
    }
}
