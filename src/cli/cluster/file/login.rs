//! The kubeconfig of a cluster file: a file, inline text, or a Secret of the host cluster.

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::Value;

use super::overrides::{Login, Overrides};
use crate::cluster::fields::{Fields, Problems};
use crate::cluster::kubeconfig::{self, Choice};
use crate::input;
use domain::names::{Namespace, SecretKey, SecretName};
use domain::secret_ref::SecretRef;
use proto::spaceport::v1::SecretReference;

/// A kubeconfig, or where the manager reads it.
pub(super) enum Kubeconfig {
    Here(kubeconfig::Login),
    Secret(SecretReference),
    /// The problems are reported already.
    Wrong,
}

pub(super) fn kubeconfig_of(
    fields: &mut Fields<'_>,
    path: &Path,
    instead: &Overrides<'_>,
    problems: &mut Problems,
) -> Result<Kubeconfig> {
    let base = input::folder(path);
    let choice = Choice {
        context: instead.context,
        plugins: instead.plugins,
        stdin_taken: input::is_stdin(path),
        patience: instead.patience,
    };
    let value = match (fields.get("kubeconfig"), instead.login) {
        (_, Some(Login::File(file))) => return kubeconfig::from_file(file, choice).map(Kubeconfig::Here),
        (_, Some(Login::Secret(reference))) => return Ok(Kubeconfig::Secret(to_wire(reference))),
        (None, None) => bail!("is required, here or as --kubeconfig or --kubeconfig-secret"),
        (Some(value), None) => value,
    };
    let before = problems.len();
    let mut source = Fields::of(value, "kubeconfig".to_owned(), problems);
    let (file, inline) = (source.text("file", problems), source.text("inline", problems));
    let context = source.text("context", problems);
    let secret = source.get("secret").map(|value| secret(value, problems));
    source.finish(problems);
    if secret.is_some() && (context.is_some() || choice.context.is_some()) {
        bail!(
            "must not name a context together with secret: the manager uses the current context of the kubeconfig there"
        );
    }
    let choice = Choice { context: choice.context.or(context.as_deref()), ..choice };
    match (file, inline, secret) {
        (Some(file), None, None) => kubeconfig::from_file(&base.join(file), choice).map(Kubeconfig::Here),
        (None, Some(inline), None) => kubeconfig::standalone(&inline, base, choice).map(Kubeconfig::Here),
        (None, None, Some(secret)) => Ok(Kubeconfig::Secret(secret)),
        _ if problems.len() > before => Ok(Kubeconfig::Wrong),
        _ => bail!("must have one of file, inline and secret"),
    }
}

pub fn to_wire(reference: &SecretRef) -> SecretReference {
    SecretReference {
        namespace: reference.namespace.to_string(),
        name: reference.name.to_string(),
        key: reference.key.to_string(),
    }
}

fn secret(value: &Value, problems: &mut Problems) -> SecretReference {
    let mut fields = Fields::of(value, "kubeconfig.secret".to_owned(), problems);
    let reference = SecretReference {
        namespace: fields.required::<Namespace>("namespace", problems),
        name: fields.required::<SecretName>("name", problems),
        key: fields.parsed::<SecretKey>("key", problems).unwrap_or_default(),
    };
    fields.finish(problems);
    reference
}
