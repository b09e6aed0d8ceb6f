//! Builds the request from the flags of `workspace start`.

use std::fmt;
use std::hash::Hasher as _;
use std::str::FromStr;

use anyhow::Result;
use clap::{Args, ValueEnum};
use fnv::FnvHasher;
use uuid::Uuid;

use self::content::ContentArgs;
use crate::failure::Usage;
use crate::input::Patience;
use crate::value_parsers::{limit, pair, zero_or_more};
use domain::duration::GoDuration;
use domain::names::{ClassId, ClusterName, MetaId, Namespace, OwnerId, Region, WorkspaceId};
use proto::wsman::{
    AdmissionLevel, EnvironmentVariable, IdeImage, Placement, PortSpec, PortVisibility,
    StartWorkspaceRequest, StartWorkspaceSpec, WorkspaceMetadata, WorkspaceType,
};

mod content;

/// What to start and where.
#[derive(Debug, Args)]
pub struct RequestArgs {
    /// Instance id; a new one when absent. Repeating a request with its id starts nothing twice
    #[arg(long)]
    id: Option<WorkspaceId>,
    /// Id of the workspace across its runs; made from repository or image and the instance id when absent
    #[arg(long)]
    meta_id: Option<MetaId>,
    /// Owner
    #[arg(long, env = "SPACEPORT_OWNER")]
    owner: OwnerId,
    /// Workspace image
    #[arg(long)]
    image: String,
    /// IDE image
    #[arg(long, value_name = "IMAGE")]
    ide_image: Option<String>,
    /// Supervisor image
    #[arg(long, value_name = "IMAGE")]
    supervisor_image: Option<String>,
    /// Workspace class; the preferred one of the namespace when absent
    #[arg(long)]
    class: Option<ClassId>,
    /// Type of the workspace
    #[arg(long = "type", value_enum, default_value_t)]
    kind: Kind,
    /// Preferred region, best first; repeatable
    #[arg(long = "region", value_name = "REGION")]
    regions: Vec<Region>,
    /// Only clusters in the named regions
    #[arg(long, requires = "regions")]
    require_region: bool,
    /// Only this cluster
    #[arg(long)]
    cluster: Option<ClusterName>,
    /// Only clusters with this label; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Permission of the owner, for clusters that require one; repeatable
    #[arg(long = "permission", value_name = "PERMISSION")]
    permissions: Vec<String>,
    /// Only workspace namespaces of this name
    #[arg(long)]
    namespace: Option<Namespace>,
    /// Environment variable; NAME alone takes the value of this process; repeatable
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    env: Vec<Variable>,
    /// Port to expose from the start; repeatable
    #[arg(long = "port", value_name = "PORT[:public|private]")]
    ports: Vec<Port>,
    #[command(flatten)]
    content: ContentArgs,
    /// Annotation; repeatable
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = pair)]
    annotations: Vec<(String, String)>,
    /// Stop after this long without activity
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    timeout_after: Option<GoDuration>,
    /// Stop this long after the last editor was closed; 0 never
    #[arg(long, value_name = "DURATION", value_parser = zero_or_more)]
    closed_timeout: Option<GoDuration>,
    /// Stop this long after the start, even if in use
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    max_lifetime: Option<GoDuration>,
    /// Who may enter
    #[arg(long, value_enum, default_value_t)]
    admission: Admission,
    /// Folder that the IDE opens, below /workspace; the repository's when absent
    #[arg(long, value_name = "FOLDER")]
    workspace_location: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Kind {
    #[default]
    Regular,
    Prebuild,
    Imagebuild,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Admission {
    #[default]
    Owner,
    Everyone,
}

/// An environment variable. Its value may be a secret.
#[derive(Clone)]
struct Variable {
    name: String,
    value: Option<String>,
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=***", self.name)
    }
}

impl FromStr for Variable {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        if name.is_empty() {
            return Err("must be NAME or NAME=VALUE");
        }
        Ok(Self { name: name.to_owned(), value: value.map(str::to_owned) })
    }
}

#[derive(Debug, Clone, Copy)]
struct Port {
    number: u16,
    public: bool,
}

impl FromStr for Port {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, visibility) = text.split_once(':').unwrap_or((text, "private"));
        let number = number
            .parse()
            .ok()
            .filter(|&number| number > 0)
            .ok_or("must begin with a port from 1 to 65535")?;
        match visibility {
            "public" => Ok(Self { number, public: true }),
            "private" => Ok(Self { number, public: false }),
            _ => Err("must end with :public or :private, or with the number"),
        }
    }
}

/// Fails on the first problem that the server would not name by its flag.
pub fn build(args: &RequestArgs, patience: Patience) -> Result<StartWorkspaceRequest> {
    // Before anything else: what follows may ask for a password.
    args.content.check()?;
    let id = args.id.as_ref().map_or_else(|| Uuid::new_v4().to_string(), ToString::to_string);
    let meta_id = args.meta_id.as_ref().map_or_else(|| readable_id(args, &id), ToString::to_string);
    let metadata = WorkspaceMetadata {
        owner: args.owner.to_string(),
        meta_id: meta_id.clone(),
        annotations: args.annotations.iter().cloned().collect(),
        ..Default::default()
    };
    let kind = match args.kind {
        Kind::Regular => WorkspaceType::Regular,
        Kind::Prebuild => WorkspaceType::Prebuild,
        Kind::Imagebuild => WorkspaceType::Imagebuild,
    };
    Ok(StartWorkspaceRequest {
        id,
        service_prefix: meta_id,
        metadata: Some(metadata),
        spec: Some(spec(args, patience)?),
        r#type: kind.into(),
    })
}

fn spec(args: &RequestArgs, patience: Patience) -> Result<StartWorkspaceSpec> {
    let admission = match args.admission {
        Admission::Owner => AdmissionLevel::AdmitOwnerOnly,
        Admission::Everyone => AdmissionLevel::AdmitEveryone,
    };
    let duration = |duration: Option<GoDuration>| duration.map(|d| d.to_string()).unwrap_or_default();
    Ok(StartWorkspaceSpec {
        workspace_image: args.image.clone(),
        initializer: Some(args.content.initializer(args.workspace_location.as_deref(), patience)?),
        ports: ports(&args.ports)?,
        envvars: args.env.iter().map(variable).collect::<Result<_>>()?,
        workspace_location: args
            .workspace_location
            .clone()
            .or_else(|| args.content.folder())
            .unwrap_or_else(|| ".".to_owned()),
        timeout: duration(args.timeout_after),
        closed_timeout: duration(args.closed_timeout),
        maximum_lifetime: duration(args.max_lifetime),
        admission: admission.into(),
        // Always set: some servers fail without it.
        ide_image: Some(IdeImage {
            web_ref: args.ide_image.clone().unwrap_or_default(),
            supervisor_ref: args.supervisor_image.clone().unwrap_or_default(),
        }),
        class: args.class.as_ref().map(ToString::to_string).unwrap_or_default(),
        placement: placement(args),
        ..Default::default()
    })
}

/// `None` if no flag asks for a placement, so that the request equals that of an existing client.
fn placement(args: &RequestArgs) -> Option<Placement> {
    let placement = Placement {
        regions: args.regions.iter().map(ToString::to_string).collect(),
        require_region: args.require_region,
        cluster: args.cluster.as_ref().map(ToString::to_string).unwrap_or_default(),
        cluster_labels: args.labels.iter().cloned().collect(),
        permissions: args.permissions.clone(),
        namespace: args.namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    (placement != Placement::default()).then_some(placement)
}

fn variable(variable: &Variable) -> Result<EnvironmentVariable> {
    let name = &variable.name;
    let value = match &variable.value {
        Some(value) => value.clone(),
        None => {
            std::env::var(name).map_err(|_| Usage(format!("--env {name}: no such variable is set here")))?
        }
    };
    Ok(EnvironmentVariable { name: name.clone(), value, secret: None })
}

fn ports(ports: &[Port]) -> Result<Vec<PortSpec>> {
    let mut specs: Vec<PortSpec> = Vec::new();
    for port in ports {
        let number = u32::from(port.number);
        if specs.iter().any(|spec| spec.port == number) {
            return Err(Usage(format!("--port {number} is given twice")).into());
        }
        let visibility = if port.public { PortVisibility::Public } else { PortVisibility::Private };
        specs.push(PortSpec { port: number, visibility: visibility.into(), ..Default::default() });
    }
    Ok(specs)
}

/// A readable name that is the same for the same instance id.
fn readable_id(args: &RequestArgs, id: &str) -> String {
    let what = args.content.repository().unwrap_or_else(|| image_name(&args.image));
    let words: String = what
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let words = words.trim_matches('-');
    // FNV-1a: a short suffix, not a secret.
    let mut hasher = FnvHasher::default();
    hasher.write(id.as_bytes());
    let hash = hasher.finish() >> 24;
    format!("{}-{hash:010x}", if words.is_empty() { "workspace" } else { words })
}

fn image_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split([':', '@']).next().unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests;
