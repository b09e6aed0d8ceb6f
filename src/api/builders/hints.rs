//! Metadata by which a caller of the image builder restricts where the call goes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message as _;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::caller::Caller;
use crate::parse::Problems;
use domain::names::WorkspaceId;
use domain::placement::PlacementRequest;
use federation::Error;
use federation::workspaces::queries::Queries;
use proto::builder::BuildSource;

/// Only this cluster.
pub const CLUSTER: &str = "x-spaceport-cluster";
/// Only a namespace of this name.
const NAMESPACE: &str = "x-spaceport-namespace";
/// Regions in order of preference, separated by commas.
const REGIONS: &str = "x-spaceport-regions";
/// Permissions of the owner, separated by commas.
const PERMISSIONS: &str = "x-spaceport-permissions";
/// A live workspace: only its cluster.
const WORKSPACE: &str = "x-spaceport-workspace";

/// The placement request of a call.
pub fn placement(
    queries: &Queries,
    caller: &Caller,
    metadata: &MetadataMap,
    seed: &str,
) -> Result<PlacementRequest, Status> {
    let mut problems = Problems::default();
    let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let list = |key: &str| text(key).split(',').map(str::trim).filter(|item| !item.is_empty());
    let mut request = PlacementRequest { seed: seed.to_owned(), ..PlacementRequest::default() };
    request.permissions = list(PERMISSIONS).map(str::to_owned).collect();
    for region in list(REGIONS) {
        request.regions.extend(problems.parse(REGIONS, region));
    }
    if !text(CLUSTER).is_empty() {
        request.cluster = problems.parse(CLUSTER, text(CLUSTER));
    }
    if !text(NAMESPACE).is_empty() {
        request.namespace = problems.parse(NAMESPACE, text(NAMESPACE));
    }
    if !text(WORKSPACE).is_empty()
        && let Some(id) = problems.parse::<WorkspaceId>(WORKSPACE, text(WORKSPACE))
    {
        // To a caller, a workspace that it may not act for does not exist.
        let own = |id| {
            if caller.check(queries, id).is_ok() { Some(queries.describe(id)) } else { None }
        };
        match own(&id).unwrap_or_else(|| Err(Error::NoWorkspace(id.clone()))) {
            Ok(seen) => request.cluster = Some(seen.cluster),
            Err(error) => problems.add(WORKSPACE, error),
        }
    }
    problems.finish(Some(request))
}

/// Breaks ties the same way for every call about the same source.
pub fn seed(source: Option<&BuildSource>) -> String {
    let encoded = source.map(BuildSource::encode_to_vec).unwrap_or_default();
    let digest = ring::digest::digest(&ring::digest::SHA256, &encoded);
    URL_SAFE_NO_PAD.encode(digest)
}

/// Whether a metadata key is forwarded, rather than belonging to a connection or to Spaceport.
pub fn passes(key: &str) -> bool {
    let ours = ["te", "content-type", "user-agent", "host", "connection"].contains(&key);
    !ours && !key.starts_with("grpc-") && !key.starts_with("x-spaceport-")
}
