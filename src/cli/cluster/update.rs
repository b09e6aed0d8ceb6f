//! `spaceport cluster update`

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;

use super::file;
use super::kubeconfig::{self, Choice, Login};
use crate::connect::{Client, ClientArgs};
use crate::failure::Usage;
use crate::input::{self, Patience};
use crate::terminal::Terminal;
use crate::value_parsers::{at_least, whole};
use crate::view::{CheckView, ClusterView};
use domain::cluster::LARGEST_WEIGHT;
use domain::names::{ClusterName, Region};
use domain::secret_ref::SecretRef;
use proto::spaceport::v1::admission_constraint::Constraint;
use proto::spaceport::v1::cluster_spec::Capacity;
use proto::spaceport::v1::{AdmissionConstraint, ClusterSpec, UpdateRequest};

/// `spaceport cluster update`.
#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
pub struct UpdateArgs {
    /// The cluster's name
    name: ClusterName,
    /// Region of the cluster
    #[arg(long)]
    region: Option<Region>,
    /// Set a label; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Remove a label; repeatable
    #[arg(long = "remove-label", value_name = "KEY")]
    remove_labels: Vec<String>,
    /// Share of new workspaces against other clusters
    #[arg(long, value_name = "NUMBER", value_parser = whole(0..=LARGEST_WEIGHT))]
    weight: Option<u32>,
    /// Upper bound of the weight
    #[arg(long, value_name = "NUMBER", value_parser = whole(1..=LARGEST_WEIGHT))]
    max_weight: Option<u32>,
    /// Capacity: `nodes` as they are, or `unlimited` where an autoscaler adds nodes
    #[arg(long, value_name = "CAPACITY", value_parser = capacity)]
    capacity: Option<Capacity>,
    /// Add the constraint `permission=NAME` or `feature-preview`; repeatable
    #[arg(long = "constraint", value_name = "CONSTRAINT", value_parser = constraint)]
    constraints: Vec<AdmissionConstraint>,
    /// Remove such a constraint; repeatable
    #[arg(long = "remove-constraint", value_name = "CONSTRAINT", value_parser = constraint)]
    remove_constraints: Vec<AdmissionConstraint>,
    /// Cluster file with the new settings; its kubeconfig is ignored, and an absent `cordoned` changes nothing
    #[arg(
        short, long, value_name = "FILE",
        conflicts_with_all = ["region", "labels", "remove_labels", "weight", "max_weight", "capacity", "constraints", "remove_constraints"]
    )]
    file: Option<PathBuf>,
    /// Another kubeconfig of the same cluster; open connections use it at once
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of that kubeconfig to take instead of its current one
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    kube_context: Option<String>,
    /// Secret of the host cluster that holds the kubeconfig from now on, until `--kubeconfig` replaces it
    #[arg(long, value_name = "NAMESPACE/NAME[:KEY]", conflicts_with = "kubeconfig")]
    kubeconfig_secret: Option<SecretRef>,
    /// Refuse the change unless the cluster has this version, as `cluster show` prints it
    #[arg(long, value_name = "NUMBER", value_parser = at_least(1_i64))]
    version: Option<i64>,
}

fn capacity(text: &str) -> Result<Capacity, &'static str> {
    match text {
        "nodes" => Ok(Capacity::Nodes),
        "unlimited" => Ok(Capacity::Unlimited),
        _ => Err("must be nodes or unlimited"),
    }
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    if key.is_empty() {
        return Err("must have a key before the =");
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn constraint(text: &str) -> Result<AdmissionConstraint, &'static str> {
    let constraint = match text.split_once('=') {
        Some(("permission", name)) if !name.is_empty() => Constraint::Permission(name.to_owned()),
        None if text == "feature-preview" => Constraint::FeaturePreview(true),
        _ => return Err("must be permission=NAME or feature-preview"),
    };
    Ok(AdmissionConstraint { constraint: Some(constraint) })
}

/// Sends the change.
pub async fn run(args: &UpdateArgs, connection: &ClientArgs, terminal: &mut Terminal<'_>) -> Result<()> {
    if let Some(path) = &args.file {
        file::announce(path, terminal);
    }
    let request = request(args, connection.patience())?;
    let client = Client::connect(connection).await?;
    let mut api = client.clusters();
    let answer = client.call(request, async |request| api.update(request).await).await;
    let answer = answer.with_context(|| format!("failed to update {}", args.name))?;
    terminal.progress(&format!("updated {}\n", args.name));
    let warnings: Vec<CheckView> =
        answer.checks.into_iter().filter(|check| !check.remedy.is_empty()).map(CheckView::from).collect();
    if !warnings.is_empty() {
        terminal.progress_page(connection.output, CheckView::table(&warnings));
    }
    let changed: Vec<ClusterView> = answer.cluster.map(ClusterView::from).into_iter().collect();
    terminal.result(connection.output, &changed, || ClusterView::table(&changed, Timestamp::now()))
}

fn request(args: &UpdateArgs, patience: Patience) -> Result<UpdateRequest> {
    let kubeconfig = kubeconfig(args, patience)?;
    let (mut spec, mut paths) = match &args.file {
        Some(_) => of_file(args, patience)?,
        None => of_flags(args),
    };
    if let Some(reference) = &args.kubeconfig_secret {
        spec.kubeconfig_secret = Some(file::to_wire(reference));
        paths.push("kubeconfig_secret".to_owned());
    }
    let request = UpdateRequest {
        name: args.name.to_string(),
        spec: Some(spec),
        update_mask: Some(prost_types::FieldMask { paths }),
        add_constraints: args.constraints.clone(),
        remove_constraints: args.remove_constraints.clone(),
        version: args.version.unwrap_or_default(),
        kubeconfig,
    };
    let names_nothing = request.update_mask.as_ref().is_none_or(|mask| mask.paths.is_empty())
        && request.add_constraints.is_empty()
        && request.remove_constraints.is_empty()
        && request.kubeconfig.is_empty();
    if names_nothing {
        return Err(
            Usage("update needs something to change, such as --weight or --kubeconfig".to_owned()).into()
        );
    }
    Ok(request)
}

/// The chosen context of the kubeconfig; empty if none is given.
fn kubeconfig(args: &UpdateArgs, patience: Patience) -> Result<Vec<u8>> {
    let Some(path) = &args.kubeconfig else { return Ok(Vec::new()) };
    let choice = Choice { context: args.kube_context.as_deref(), patience, ..Choice::default() };
    match kubeconfig::from_file(path, choice)? {
        Login::Ready(kubeconfig) => Ok(kubeconfig),
        Login::Plugin(_) => bail!("{} logs in with a plugin", path.display()),
    }
}

fn of_flags(args: &UpdateArgs) -> (ClusterSpec, Vec<String>) {
    let mut paths = Vec::new();
    let spec = ClusterSpec {
        region: args.region.as_ref().map(ToString::to_string).unwrap_or_default(),
        labels: args.labels.iter().cloned().collect(),
        weight: args.weight.unwrap_or_default(),
        max_weight: args.max_weight.unwrap_or_default(),
        capacity: args.capacity.unwrap_or_default().into(),
        ..ClusterSpec::default()
    };
    let named = [
        ("region", args.region.is_some()),
        ("weight", args.weight.is_some()),
        ("max_weight", args.max_weight.is_some()),
        ("capacity", args.capacity.is_some()),
    ];
    paths.extend(named.iter().filter(|(_, given)| *given).map(|(path, _)| (*path).to_owned()));
    let keys = args.labels.iter().map(|(key, _)| key).chain(&args.remove_labels);
    paths.extend(keys.map(|key| format!("labels.{key}")));
    (spec, paths)
}

fn of_file(args: &UpdateArgs, patience: Patience) -> Result<(ClusterSpec, Vec<String>)> {
    let path = args.file.clone().unwrap_or_default();
    let documents = file::read(&path, patience)?;
    if documents.len() > 1 {
        return Err(Usage("update changes one cluster, and the file names more".to_owned()).into());
    }
    let names_cordoned = documents.iter().any(|document| document.get("cordoned").is_some());
    let spec = file::spec(documents, &path)?;
    if spec.name != args.name.as_str() {
        let text = format!("{} is about cluster {}, not {}", input::Name(&path), spec.name, args.name);
        return Err(Usage(text).into());
    }
    let all = [
        "region",
        "labels",
        "weight",
        "max_weight",
        "capacity",
        "fence",
        "admission_constraints",
        "namespaces",
    ];
    let cordoned = names_cordoned.then_some("cordoned");
    Ok((spec, all.into_iter().chain(cordoned).map(ToOwned::to_owned).collect()))
}
