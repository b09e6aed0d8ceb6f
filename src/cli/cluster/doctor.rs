//! `spaceport cluster doctor`

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::file::{self, Overrides};
use crate::connect::{Client, ClientArgs};
use crate::failure::Usage;
use crate::input::Patience;
use crate::terminal::Terminal;
use crate::view::CheckView;
use domain::names::ClusterName;
use domain::secret_ref::SecretRef;
use proto::spaceport::v1::DoctorRequest;

/// `spaceport cluster doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// A registered cluster's name
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    name: Option<ClusterName>,
    /// A cluster file instead, registered or not
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Kubeconfig file, instead of the one that the cluster file names
    #[arg(long, value_name = "FILE", requires = "file")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to take instead of its current one
    #[arg(long, value_name = "NAME", requires = "file", conflicts_with = "kubeconfig_secret")]
    kube_context: Option<String>,
    /// Secret of the host cluster with the kubeconfig, instead of a file
    #[arg(long, value_name = "NAMESPACE/NAME[:KEY]", requires = "file", conflicts_with = "kubeconfig")]
    kubeconfig_secret: Option<SecretRef>,
}

/// Prints the checks; fails if a check failed.
pub async fn run(args: &DoctorArgs, connection: &ClientArgs, terminal: &mut Terminal<'_>) -> Result<()> {
    if let Some(path) = &args.file {
        file::announce(path, terminal);
    }
    let request = request(args, connection.patience())?;
    let named = request.spec.as_ref().map_or(&request.name, |spec| &spec.name);
    let (name, client) = (named.clone(), Client::connect(connection).await?);
    let mut api = client.clusters();
    let answer = client.call(request, async |request| api.doctor(request).await).await;
    let answer = answer.with_context(|| format!("failed to check cluster {name}"))?;
    let checks: Vec<CheckView> = answer.checks.into_iter().map(CheckView::from).collect();
    terminal.result(connection.output, &checks, || CheckView::table(&checks))?;
    let failed: Vec<&str> = checks.iter().filter(|check| check.is_failed()).map(CheckView::name).collect();
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} of {} checks failed: {}", failed.len(), checks.len(), failed.join(", "))
}

fn request(args: &DoctorArgs, patience: Patience) -> Result<DoctorRequest> {
    let Some(path) = &args.file else {
        let name = args.name.as_ref().map(ToString::to_string).unwrap_or_default();
        return Ok(DoctorRequest { name, ..DoctorRequest::default() });
    };
    let documents = file::read(path, patience)?;
    if documents.len() > 1 {
        return Err(Usage("doctor checks one cluster, and the file names more".to_owned()).into());
    }
    let login = file::Login::of(args.kubeconfig.as_deref(), args.kubeconfig_secret.as_ref());
    let instead =
        Overrides { login, context: args.kube_context.as_deref(), patience, ..Overrides::default() };
    let requests = file::requests(documents, path, &instead)?;
    let request = requests.into_iter().next().map(|registration| registration.request).unwrap_or_default();
    Ok(DoctorRequest { name: String::new(), spec: request.spec, kubeconfig: request.kubeconfig })
}
