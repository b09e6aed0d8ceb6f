//! `spaceport cluster install`, and `register --install`

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::kubeconfig;
use crate::cli::connect::{Client, ClientArgs};
use crate::cli::terminal::Terminal;
use crate::cli::view::InstalledView;
use crate::domain::names::Namespace;
use crate::proto::spaceport::v1::{InstallRequest, InstallResponse, NamespaceSpec, RegisterRequest};

/// `spaceport cluster install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// An admin's kubeconfig; it is used once and kept nowhere
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    /// A workspace namespace and its secrets namespace, such as `workspaces:workspace-secrets`; may be given again
    #[arg(long = "namespace", value_name = "NAME:NAME", value_parser = pair)]
    namespaces: Vec<(Namespace, Namespace)>,
    /// Take fields over that others own there with other values
    #[arg(long)]
    force_conflicts: bool,
    /// Tell what would be done and do nothing
    #[arg(long, conflicts_with = "print_kubeconfig")]
    dry_run: bool,
    /// Print a kubeconfig of the manager's own login instead of what was done; it holds a token that does not run out
    #[arg(long)]
    print_kubeconfig: bool,
}

fn pair(text: &str) -> Result<(Namespace, Namespace), String> {
    let (namespace, secrets) =
        text.split_once(':').ok_or("must be a namespace, a colon and its secrets namespace")?;
    let parsed = |text: &str| text.parse::<Namespace>().map_err(|error| error.to_string());
    let (namespace, secrets) = (parsed(namespace)?, parsed(secrets)?);
    if namespace == secrets {
        return Err("must be two different namespaces".to_owned());
    }
    Ok((namespace, secrets))
}

/// Puts it there.
pub async fn run(args: &InstallArgs, connection: &ClientArgs, terminal: &mut Terminal<'_>) -> Result<()> {
    let namespaces = args.namespaces.iter().map(|(namespace, secrets)| NamespaceSpec {
        namespace: namespace.to_string(),
        secrets_namespace: secrets.to_string(),
        ..NamespaceSpec::default()
    });
    let request = InstallRequest {
        kubeconfig: kubeconfig::from_file(&args.kubeconfig)?,
        namespaces: namespaces.collect(),
        force_conflicts: args.force_conflicts,
        dry_run: args.dry_run,
        with_kubeconfig: args.print_kubeconfig,
    };
    let client = Client::connect(connection).await?;
    let answer = install(&client, request).await?;
    let objects: Vec<InstalledView> = answer.objects.into_iter().map(InstalledView::from).collect();
    if args.print_kubeconfig {
        terminal.progress(&InstalledView::table(&objects).to_string());
        return terminal.line(String::from_utf8_lossy(&answer.kubeconfig).trim_end());
    }
    terminal.result(connection.output, &objects, || InstalledView::table(&objects))
}

/// Puts there what each cluster needs that is to be registered, and takes the manager's own login in place of the admin's.
pub async fn before(
    client: &Client,
    requests: Vec<RegisterRequest>,
    terminal: &mut Terminal<'_>,
) -> Result<Vec<RegisterRequest>> {
    let mut ready = Vec::with_capacity(requests.len());
    for request in requests {
        let spec = request.spec.clone().unwrap_or_default();
        ensure!(
            spec.kubeconfig_secret.is_none(),
            "cluster {}: --install needs an admin's kubeconfig, as a file and not in a Secret",
            spec.name
        );
        let asked = InstallRequest {
            kubeconfig: request.kubeconfig,
            namespaces: spec.namespaces,
            with_kubeconfig: true,
            ..InstallRequest::default()
        };
        let answer = install(client, asked).await.with_context(|| format!("cluster {}", spec.name))?;
        ensure!(!answer.kubeconfig.is_empty(), "cluster {}: the server made no login", spec.name);
        let objects: Vec<InstalledView> = answer.objects.into_iter().map(InstalledView::from).collect();
        terminal.progress(&InstalledView::table(&objects).to_string());
        ready.push(RegisterRequest { kubeconfig: answer.kubeconfig, ..request });
    }
    Ok(ready)
}

async fn install(client: &Client, request: InstallRequest) -> Result<InstallResponse> {
    let mut api = client.clusters();
    let answer = client.call(request, async |request| api.install(request).await).await;
    answer.context("failed to install what a member needs")
}
