//! `spaceport cluster register`

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;

use super::file::{self, Overrides, Registration};
use super::install;
use super::kubeconfig::Plugins;
use crate::connect::{Client, ClientArgs};
use crate::failure::{self, Usage};
use crate::input::Patience;
use crate::terminal::Terminal;
use crate::view::ClusterView;
use domain::names::ClusterName;
use domain::secret_ref::SecretRef;
use proto::spaceport::v1::RegisterResponse;
use proto::spaceport::v1::register_response::Outcome;

/// `spaceport cluster register`.
#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// Cluster file, YAML or JSON; `-` reads standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Kubeconfig file to take instead of the one that the cluster file names
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to take instead of its current one
    #[arg(long, value_name = "NAME", conflicts_with = "kubeconfig_secret")]
    kube_context: Option<String>,
    /// Secret of the manager's own cluster that holds the kubeconfig, instead of a file; the key is `kubeconfig` where
    /// none is named
    #[arg(long, value_name = "NAMESPACE/NAME[:KEY]", conflicts_with_all = ["kubeconfig", "install"])]
    kubeconfig_secret: Option<SecretRef>,
    /// Name to register the cluster under instead of the one in the cluster file
    #[arg(long)]
    name: Option<ClusterName>,
    /// Put there first what a member needs; the kubeconfig is an admin's then, used once and kept nowhere
    #[arg(long)]
    install: bool,
}

/// Registers the clusters of the file in order; a failure does not stop the rest.
pub async fn run(args: &RegisterArgs, connection: &ClientArgs, terminal: &mut Terminal<'_>) -> Result<()> {
    // Report problems of the file before connecting.
    file::announce(&args.file, terminal);
    let registrations = read(args, connection.patience())?;
    let client = Client::connect(connection).await?;
    let total = registrations.len();
    let (mut registered, mut failed) = (Vec::new(), Vec::new());
    for registration in registrations {
        let name = registration.request.spec.as_ref().map(|spec| spec.name.clone()).unwrap_or_default();
        let answer = one(&client, connection, registration, args.install, terminal).await;
        match answer.with_context(|| format!("failed to register {name}")) {
            Ok(answer) => {
                terminal.progress(&match answer.outcome() {
                    Outcome::Unchanged => format!("{name} is registered already, unchanged\n"),
                    _ => format!("registered {name}\n"),
                });
                registered.extend(answer.cluster.map(ClusterView::from));
            }
            Err(error) if total == 1 => return Err(error),
            Err(error) => {
                terminal.progress(&failure::report(&error, connection.output, terminal.err_width).1);
                failed.push(name);
            }
        }
    }
    terminal.result(connection.output, &registered, || ClusterView::table(&registered, Timestamp::now()))?;
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} of {total} clusters were not registered: {}", failed.len(), failed.join(", "))
}

fn read(args: &RegisterArgs, patience: Patience) -> Result<Vec<Registration>> {
    let documents = file::read(&args.file, patience)?;
    let login = file::Login::of(args.kubeconfig.as_deref(), args.kubeconfig_secret.as_ref());
    let instead = Overrides {
        name: args.name.as_ref(),
        login,
        context: args.kube_context.as_deref(),
        plugins: if args.install { Plugins::Run } else { Plugins::Explain },
        patience,
    };
    if documents.len() > 1 && (args.name.is_some() || login.is_some() || args.kube_context.is_some()) {
        let text =
            "--name, --kubeconfig, --kube-context and --kubeconfig-secret are for a file with one cluster";
        return Err(Usage(text.to_owned()).into());
    }
    file::requests(documents, &args.file, &instead)
}

async fn one(
    client: &Client,
    connection: &ClientArgs,
    registration: Registration,
    install: bool,
    terminal: &mut Terminal<'_>,
) -> Result<RegisterResponse> {
    let request = if install {
        install::before(client, connection, registration, terminal).await?
    } else {
        registration.request
    };
    let mut api = client.clusters();
    Ok(client.call(request, async |request| api.register(request).await).await?)
}
