//! `StartWorkspaceRequest` -> [`Start`]. Every message is optional on the wire; no absent one panics.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use tonic::Status;

use super::initializer::Stored;
use super::{Problems, content, initializer, text};
use domain::names::{WorkspaceId, quoted};
use domain::placement::PlacementRequest;
use domain::pod_annotations::is_reserved;
use domain::workspace::{
    Access, EnvSecretRef, EnvValue, EnvVar, Features, GitIdentity, IdeImage, Kind, OwnTimeouts, Port,
    Protocol, Start,
};
use domain::{annotation, path};
use proto::wsman;
use proto::wsman::{PortProtocol, PortVisibility, WorkspaceFeatureFlag, WorkspaceType};

/// Limit of an apiserver for the annotations of one object, in bytes of keys and values.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// Variables that a warning names.
const NAMED: usize = 5;

/// Warnings about parts of a start that have no effect: variables without a name, which are dropped as existing
/// managers do.
pub fn without_effect(request: &wsman::StartWorkspaceRequest) -> Vec<String> {
    let Some(spec) = &request.spec else { return Vec::new() };
    let nameless = [("spec.envvars", &spec.envvars), ("spec.sys_envvars", &spec.sys_envvars)];
    nameless.into_iter().filter_map(|(field, variables)| left_out(field, variables)).collect()
}

fn left_out(field: &str, variables: &[wsman::EnvironmentVariable]) -> Option<String> {
    let nameless = variables.iter().enumerate().filter(|(_, variable)| variable.name.is_empty());
    let places: Vec<String> = nameless.map(|(at, _)| format!("{field}[{at}]")).collect();
    let more = if places.len() > NAMED { ", ..." } else { "" };
    let named = places.get(..NAMED).unwrap_or(&places).join(", ");
    let (count, verb) = (places.len(), if places.len() == 1 { "has" } else { "have" });
    let are = if count == 1 { "is" } else { "are" };
    (count > 0).then(|| format!("{count} of {field} {verb} no name and {are} left out: {named}{more}"))
}

/// Parses and checks a start.
pub fn start(request: wsman::StartWorkspaceRequest) -> Result<Start, Status> {
    let mut problems = Problems::default();
    let start = parse(&mut problems, request);
    problems.finish(start)
}

fn parse(problems: &mut Problems, request: wsman::StartWorkspaceRequest) -> Option<Start> {
    let canonical = request.encode_to_vec();
    let kind = kind(problems, request.r#type);
    let id = id(problems, &request.id);
    let metadata = request.metadata.unwrap_or_else(|| {
        problems.add("metadata", "is required");
        wsman::WorkspaceMetadata::default()
    });
    let meta = problems.parse("metadata.meta_id", &metadata.meta_id);
    let owner = problems.parse("metadata.owner", &metadata.owner);
    annotations(problems, &metadata.annotations);
    problems.line("metadata.team", metadata.team.as_deref().unwrap_or_default());
    problems.line("metadata.project", metadata.project.as_deref().unwrap_or_default());
    if kind == Some(Kind::Regular) {
        required(problems, "service_prefix", &request.service_prefix);
    }
    let Some(spec) = request.spec else {
        problems.add("spec", "is required");
        return None;
    };
    contents(problems, &spec);
    let stored = initializer::extract(problems, spec.initializer.clone());
    let wish = spec.placement.clone().unwrap_or_default();
    let placement = PlacementRequest {
        class: problems.optional("spec.class", &spec.class),
        kind: kind.unwrap_or_default(),
        seed: request.id.clone(),
        ..placement(problems, "spec.placement", wish)
    };
    let ports = ports(problems, &spec.ports);
    let timeouts = OwnTimeouts {
        inactivity: problems.duration("spec.timeout", &spec.timeout),
        closed: problems.duration("spec.closed_timeout", &spec.closed_timeout),
        maximum_lifetime: problems.duration("spec.maximum_lifetime", &spec.maximum_lifetime),
    };
    let admission = admission(problems, "spec.admission", spec.admission);
    let features = features(problems, &spec.feature_flags);
    let Stored { existing, own, clear } = stored?;
    let ide = spec.ide_image.unwrap_or_default();
    Some(Start {
        id: id?,
        meta: meta?,
        owner: owner?,
        kind: kind?,
        annotations: metadata.annotations,
        team: metadata.team.filter(|team| !team.is_empty()),
        project: metadata.project.filter(|project| !project.is_empty()),
        image: spec.workspace_image,
        ide: IdeImage { web: ide.web_ref, supervisor: ide.supervisor_ref, layers: spec.ide_image_layers },
        initializer: existing,
        own_agents_initializer: own,
        clear_text: clear,
        workspace_location: spec.workspace_location,
        git: spec.git.map(|git| GitIdentity { username: git.username, email: git.email }),
        ports,
        user_env: spec.envvars.into_iter().filter_map(variable).collect(),
        sys_env: spec.sys_envvars.into_iter().filter_map(variable).collect(),
        admission: admission?,
        timeouts,
        ssh_public_keys: spec.ssh_public_keys,
        features,
        placement,
        canonical,
    })
}

/// The id of a new workspace. On the node, `<id>-daemon` is the folder of its node agent.
fn id(problems: &mut Problems, text: &str) -> Option<WorkspaceId> {
    let id = problems.parse::<WorkspaceId>("id", text);
    if id.as_ref().is_some_and(|id| id.daemon_of().is_some()) {
        problems
            .add("id", "must not end with -daemon: such a folder belongs to the workspace named before it");
    }
    id
}

/// Checks texts that become parts of the resource and its pod.
fn contents(problems: &mut Problems, spec: &wsman::StartWorkspaceSpec) {
    required(problems, "spec.workspace_image", &spec.workspace_image);
    problems.image("spec.workspace_image", &spec.workspace_image);
    if let Some(ide) = &spec.ide_image {
        problems.image("spec.ide_image.web_ref", &ide.web_ref);
        problems.image("spec.ide_image.supervisor_ref", &ide.supervisor_ref);
    }
    for (at, layer) in spec.ide_image_layers.iter().enumerate() {
        let field = format!("spec.ide_image_layers[{at}]");
        required(problems, &field, layer);
        problems.image(field, layer);
    }
    required(problems, "spec.workspace_location", &spec.workspace_location);
    problems.check("spec.workspace_location", path::check_folder(&spec.workspace_location));
    if let Some(initializer) = &spec.initializer {
        content::check(problems, "spec.initializer", initializer);
    }
    if let Some(git) = &spec.git {
        problems.line("spec.git.username", &git.username);
        problems.line("spec.git.email", &git.email);
    }
    text::variables(problems, "spec.envvars", &spec.envvars);
    text::variables(problems, "spec.sys_envvars", &spec.sys_envvars);
    text::ssh_keys(problems, "spec.ssh_public_keys", &spec.ssh_public_keys);
}

fn required(problems: &mut Problems, field: &str, text: &str) {
    if text.is_empty() {
        problems.add(field, "is required");
    }
}

/// Parses the type of a workspace.
pub(crate) fn kind(problems: &mut Problems, number: i32) -> Option<Kind> {
    match WorkspaceType::try_from(number) {
        Ok(WorkspaceType::Regular) => Some(Kind::Regular),
        Ok(WorkspaceType::Prebuild) => Some(Kind::Prebuild),
        Ok(WorkspaceType::Imagebuild) => Some(Kind::ImageBuild),
        Err(_) => {
            problems.add("type", "must be REGULAR, PREBUILD or IMAGEBUILD");
            None
        }
    }
}

/// Parses an admission level.
pub(crate) fn admission(problems: &mut Problems, field: &str, number: i32) -> Option<Access> {
    match wsman::AdmissionLevel::try_from(number) {
        Ok(wsman::AdmissionLevel::AdmitOwnerOnly) => Some(Access::Owner),
        Ok(wsman::AdmissionLevel::AdmitEveryone) => Some(Access::Everyone),
        Err(_) => {
            problems.add(field, "must be ADMIT_OWNER_ONLY or ADMIT_EVERYONE");
            None
        }
    }
}

fn annotations(problems: &mut Problems, annotations: &BTreeMap<String, String>) {
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > ANNOTATIONS_MAX {
        problems.add("metadata.annotations", "must not be larger than 256 KiB together");
    }
    for key in annotations.keys() {
        // A key may be of any length.
        let shown = quoted(key);
        if is_reserved(key) {
            problems.add("metadata.annotations", format!("{shown:?} is reserved for the manager"));
        } else if !annotation::is_annotation_key(key) {
            problems.add("metadata.annotations", format!("{shown:?} is not a valid annotation key"));
        }
    }
}

fn ports(problems: &mut Problems, specs: &[wsman::PortSpec]) -> Vec<Port> {
    let mut seen = BTreeSet::new();
    let mut ports = Vec::with_capacity(specs.len());
    for (at, spec) in specs.iter().enumerate() {
        let Some(port) = port(problems, &format!("spec.ports[{at}]"), spec) else { continue };
        if seen.insert(port.port) {
            ports.push(port);
        } else {
            problems.add(format!("spec.ports[{at}].port"), format!("{} is given twice", port.port));
        }
    }
    ports
}

pub(crate) fn port(problems: &mut Problems, field: &str, spec: &wsman::PortSpec) -> Option<Port> {
    let number = u16::try_from(spec.port).ok().filter(|port| *port != 0);
    if number.is_none() {
        problems.add(format!("{field}.port"), format!("must be from 1 to 65535, got {}", spec.port));
    }
    let visibility = match PortVisibility::try_from(spec.visibility) {
        Ok(PortVisibility::Private) => Some(Access::Owner),
        Ok(PortVisibility::Public) => Some(Access::Everyone),
        Err(_) => {
            problems.add(format!("{field}.visibility"), "must be private or public");
            None
        }
    };
    let protocol = match PortProtocol::try_from(spec.protocol) {
        Ok(PortProtocol::Http) => Some(Protocol::Http),
        Ok(PortProtocol::Https) => Some(Protocol::Https),
        Err(_) => {
            problems.add(format!("{field}.protocol"), "must be HTTP or HTTPS");
            None
        }
    };
    Some(Port { port: number?, visibility: visibility?, protocol: protocol? })
}

/// Drops entries without a name, as existing managers do; a reference takes precedence over a value.
fn variable(variable: wsman::EnvironmentVariable) -> Option<EnvVar> {
    if variable.name.is_empty() {
        return None;
    }
    let value = match variable.secret {
        Some(secret) => EnvValue::Secret(EnvSecretRef { name: secret.secret_name, key: secret.key }),
        None => EnvValue::Plain(variable.value),
    };
    Some(EnvVar { name: variable.name, value })
}

fn features(problems: &mut Problems, flags: &[i32]) -> Features {
    let mut features = Features::default();
    for flag in flags {
        match WorkspaceFeatureFlag::try_from(*flag) {
            Ok(WorkspaceFeatureFlag::WorkspaceConnectionLimiting) => features.connection_limiting = true,
            Ok(WorkspaceFeatureFlag::WorkspacePsi) => features.psi = true,
            Ok(WorkspaceFeatureFlag::SshCa) => features.ssh_ca = true,
            Ok(WorkspaceFeatureFlag::Noop) => {}
            Err(_) => problems.add("spec.feature_flags", format!("{flag} is not a known flag")),
        }
    }
    features
}

/// Parses placement requirements; the seed stays empty. `field` names the message.
pub(crate) fn placement(problems: &mut Problems, field: &str, wish: wsman::Placement) -> PlacementRequest {
    let mut regions = Vec::with_capacity(wish.regions.len());
    for (at, region) in wish.regions.iter().enumerate() {
        regions.extend(problems.parse(&format!("{field}.regions[{at}]"), region));
    }
    if wish.require_region && wish.regions.is_empty() {
        let rule = format!("needs at least one region in {field}.regions");
        problems.add(format!("{field}.require_region"), rule);
    }
    PlacementRequest {
        regions,
        require_region: wish.require_region,
        cluster: problems.optional(&format!("{field}.cluster"), &wish.cluster),
        labels: wish.cluster_labels,
        permissions: wish.permissions.into_iter().collect(),
        namespace: problems.optional(&format!("{field}.namespace"), &wish.namespace),
        ..PlacementRequest::default()
    }
}
