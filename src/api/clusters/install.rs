//! Install: parse, call, convert.

use tonic::Status;

use super::convert::namespaces;
use super::registry::text;
use crate::error;
use crate::parse::Problems;
use domain::install::{Installed, Outcome, Plan};
use domain::secret::Secret;
use federation::Federation;
use proto::spaceport::v1;

pub(super) async fn install(
    federation: &Federation,
    request: v1::InstallRequest,
) -> Result<v1::InstallResponse, Status> {
    let mut problems = Problems::default();
    let kubeconfig = text(&mut problems, &request.kubeconfig);
    if kubeconfig.is_none() {
        problems.add("kubeconfig", "is required, as text");
    }
    let defaults = federation.fleet.default_namespaces();
    let namespaces = namespaces(&mut problems, "namespaces", request.namespaces, &defaults);
    if namespaces.iter().any(|one| one.namespace == one.secrets_namespace) {
        problems.add("namespaces", "must differ from their secrets namespaces");
    }
    let plan = Plan {
        namespaces: namespaces.into_iter().map(|one| (one.namespace, one.secrets_namespace)).collect(),
        force_conflicts: request.force_conflicts,
        dry_run: request.dry_run,
        with_login: request.with_kubeconfig && !request.dry_run,
    };
    let (plan, kubeconfig) = problems.finish(kubeconfig.map(|kubeconfig| (plan, kubeconfig)))?;
    let done = federation.clusters.installer.install(&plan, &Secret::new(kubeconfig)).await;
    let (objects, login) = done.map_err(|error| error::status(&error))?;
    Ok(v1::InstallResponse {
        objects: objects.into_iter().map(object).collect(),
        kubeconfig: login.map(|login| login.into_exposed().into_bytes()).unwrap_or_default(),
    })
}

fn object(object: Installed) -> v1::InstalledObject {
    let outcome = match object.outcome {
        Outcome::Created => v1::installed_object::Outcome::Created,
        Outcome::Changed => v1::installed_object::Outcome::Changed,
        Outcome::Unchanged => v1::installed_object::Outcome::Unchanged,
    };
    v1::InstalledObject {
        kind: object.kind,
        namespace: object.namespace,
        name: object.name,
        outcome: outcome.into(),
    }
}
