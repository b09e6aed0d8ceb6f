//! `spaceport cluster install`, and `register --install`

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::file::Registration;
use super::kubeconfig::{self, Choice, Login, Plugins};
use crate::connect::{Client, ClientArgs};
use crate::terminal::Terminal;
use crate::view::InstalledView;
use domain::names::Namespace;
use proto::spaceport::v1::{InstallRequest, InstallResponse, NamespaceSpec, RegisterRequest};

/// `spaceport cluster install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// An admin's kubeconfig; it is used once and not stored
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    /// Context of the kubeconfig to take instead of its current one
    #[arg(long, value_name = "NAME")]
    kube_context: Option<String>,
    /// A workspace namespace and its secrets namespace, such as `workspaces:workspace-secrets`; repeatable. What is left
    /// out comes from the manager's configuration
    #[arg(long = "namespace", value_name = "NAME[:NAME]", value_parser = pair)]
    namespaces: Vec<(Namespace, Option<Namespace>)>,
    /// Take over fields that other field managers own with other values
    #[arg(long)]
    force_conflicts: bool,
    /// Show the plan and change nothing
    #[arg(long, conflicts_with = "print_kubeconfig")]
    dry_run: bool,
    /// Print a kubeconfig of the manager's own login instead of the objects; its token does not expire
    #[arg(long)]
    print_kubeconfig: bool,
}

fn pair(text: &str) -> Result<(Namespace, Option<Namespace>), String> {
    let (namespace, secrets) = text.split_once(':').map_or((text, None), |(one, two)| (one, Some(two)));
    let parsed = |text: &str| text.parse::<Namespace>().map_err(|error| error.to_string());
    let (namespace, secrets) = (parsed(namespace)?, secrets.map(parsed).transpose()?);
    if secrets.as_ref() == Some(&namespace) {
        return Err("must be two different namespaces".to_owned());
    }
    Ok((namespace, secrets))
}

/// Applies the objects, or prints the plan.
pub async fn run(args: &InstallArgs, connection: &ClientArgs, terminal: &mut Terminal<'_>) -> Result<()> {
    let namespaces = args.namespaces.iter().map(|(namespace, secrets)| NamespaceSpec {
        namespace: namespace.to_string(),
        secrets_namespace: secrets.as_ref().map(ToString::to_string).unwrap_or_default(),
        ..NamespaceSpec::default()
    });
    let choice = Choice {
        context: args.kube_context.as_deref(),
        plugins: Plugins::Run,
        stdin_taken: false,
        patience: connection.patience(),
    };
    let login = kubeconfig::from_file(&args.kubeconfig, choice)?;
    let client = Client::connect(connection).await?;
    let kubeconfig = match login {
        Login::Ready(kubeconfig) => kubeconfig,
        Login::Plugin(plugin) => plugin.run(terminal).await?,
    };
    let request = InstallRequest {
        kubeconfig,
        namespaces: namespaces.collect(),
        force_conflicts: args.force_conflicts,
        dry_run: args.dry_run,
        with_kubeconfig: args.print_kubeconfig,
    };
    let answer = install(&client, request).await?;
    let objects: Vec<InstalledView> = answer.objects.into_iter().map(InstalledView::from).collect();
    if args.print_kubeconfig {
        terminal.progress_page(connection.output, InstalledView::table(&objects, false));
        return terminal.line(String::from_utf8_lossy(&answer.kubeconfig).trim_end());
    }
    terminal.result(connection.output, &objects, || InstalledView::table(&objects, args.dry_run))?;
    if args.dry_run {
        terminal.progress("nothing was changed\n");
    }
    Ok(())
}

/// For `register --install`: installs with the admin's kubeconfig, then replaces it in the request with the manager's
/// own login.
pub async fn before(
    client: &Client,
    connection: &ClientArgs,
    registration: Registration,
    terminal: &mut Terminal<'_>,
) -> Result<RegisterRequest> {
    let Registration { request, plugin } = registration;
    let spec = request.spec.clone().unwrap_or_default();
    ensure!(
        spec.kubeconfig_secret.is_none(),
        "--install needs an admin's kubeconfig, as a file and not in a Secret"
    );
    let kubeconfig = match plugin {
        Some(plugin) => plugin.run(terminal).await?,
        None => request.kubeconfig,
    };
    let asked = InstallRequest {
        kubeconfig,
        namespaces: spec.namespaces,
        with_kubeconfig: true,
        ..InstallRequest::default()
    };
    let answer = install(client, asked).await?;
    ensure!(!answer.kubeconfig.is_empty(), "the server returned no kubeconfig");
    let objects: Vec<InstalledView> = answer.objects.into_iter().map(InstalledView::from).collect();
    terminal.progress_page(connection.output, InstalledView::table(&objects, false));
    Ok(RegisterRequest { kubeconfig: answer.kubeconfig, spec: request.spec })
}

async fn install(client: &Client, request: InstallRequest) -> Result<InstallResponse> {
    let mut api = client.clusters();
    let answer = client.call(request, async |request| api.install(request).await).await;
    answer.context("failed to install")
}
