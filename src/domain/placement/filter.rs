//! Which clusters fit, and why the others do not.

use std::fmt;

use super::{Candidate, CandidateNamespace, PlacementRequest};
use crate::domain::health::Health;
use crate::domain::names::{ClassId, ClusterName, Namespace, Region};

/// Why a cluster does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// It does not answer well enough.
    Unhealthy(Health),
    /// It takes no writes of this leadership, for this reason.
    Barred(String),
    /// The admin keeps new workspaces away.
    Cordoned,
    /// It is being emptied, or was.
    Draining,
    /// Its weight is 0.
    NoWeight,
    /// Another cluster was asked for.
    NotPinned(ClusterName),
    /// Its region is not among those required.
    Region(Region),
    /// It lacks this label, or has another value.
    Label(String),
    /// The request lacks this permission.
    Permission(String),
    /// It has no such namespace.
    Namespace(Namespace),
    /// No namespace offers the class.
    Class(ClassId),
    /// The request names no class and no namespace has a preferred one.
    NoPreferredClass,
    /// Every fitting namespace is under maintenance.
    Maintenance,
    /// It refused this start when asked.
    Refused(String),
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unhealthy(Health::Connecting) => f.write_str("has not answered yet"),
            Self::Unhealthy(Health::Lost) => f.write_str("is lost"),
            Self::Unhealthy(_) => f.write_str("is suspect: it missed probes or is back too short a time"),
            Self::Barred(reason) => write!(f, "takes no writes: {reason}"),
            Self::Cordoned => f.write_str("is cordoned"),
            Self::Draining => f.write_str("is being drained"),
            Self::NoWeight => f.write_str("has weight 0"),
            Self::NotPinned(wanted) => write!(f, "is not the requested cluster {wanted}"),
            Self::Region(region) => write!(f, "is in region {region}, which is not among those required"),
            Self::Label(key) => write!(f, "does not carry the requested value of label {key}"),
            Self::Permission(permission) => write!(f, "needs permission {permission}"),
            Self::Namespace(namespace) => write!(f, "has no namespace {namespace}"),
            Self::Class(class) => write!(f, "does not offer class {class}"),
            Self::NoPreferredClass => f.write_str("has no preferred class and the request names none"),
            Self::Maintenance => f.write_str("is under maintenance"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
        }
    }
}

/// The namespace and class a request would get, or why it gets none.
pub(super) fn admit(
    request: &PlacementRequest,
    candidate: &Candidate,
) -> Result<(Namespace, ClassId), Rejection> {
    if let Some(pin) = &request.cluster
        && *pin != candidate.name
    {
        return Err(Rejection::NotPinned(pin.clone()));
    }
    if request.require_region && !request.regions.contains(&candidate.region) {
        return Err(Rejection::Region(candidate.region.clone()));
    }
    if let Some((key, _)) = request.labels.iter().find(|(k, v)| candidate.labels.get(*k) != Some(v)) {
        return Err(Rejection::Label(key.clone()));
    }
    let lacking = candidate
        .constraints
        .iter()
        .filter_map(|constraint| constraint.permission())
        .find(|permission| !request.permissions.contains(*permission));
    if let Some(permission) = lacking {
        return Err(Rejection::Permission(permission.to_owned()));
    }
    if candidate.cordoned {
        return Err(Rejection::Cordoned);
    }
    if candidate.draining {
        return Err(Rejection::Draining);
    }
    if candidate.weight == 0 {
        return Err(Rejection::NoWeight);
    }
    let namespace = namespace(request, candidate)?;
    if candidate.health != Health::Available {
        return Err(Rejection::Unhealthy(candidate.health));
    }
    if let Some(reason) = &candidate.barred {
        return Err(Rejection::Barred(reason.clone()));
    }
    Ok(namespace)
}

/// The first namespace of the registration that fits; the reason is the one of the namespace that came closest.
fn namespace(request: &PlacementRequest, candidate: &Candidate) -> Result<(Namespace, ClassId), Rejection> {
    let named: Vec<&CandidateNamespace> = candidate
        .namespaces
        .iter()
        .filter(|namespace| request.namespace.as_ref().is_none_or(|wanted| *wanted == namespace.name))
        .collect();
    if let Some(wanted) = request.namespace.as_ref().filter(|_| named.is_empty()) {
        return Err(Rejection::Namespace(wanted.clone()));
    }
    let mut fits = named.iter().filter_map(|namespace| {
        let class = request.class.as_ref().or(namespace.preferred_class.as_ref())?;
        namespace.classes.contains(class).then(|| (*namespace, class.clone()))
    });
    let Some(first) = fits.next() else {
        return Err(request.class.clone().map_or(Rejection::NoPreferredClass, Rejection::Class));
    };
    std::iter::once(first)
        .chain(fits)
        .find(|(namespace, _)| !namespace.maintenance)
        .map(|(namespace, class)| (namespace.name.clone(), class))
        .ok_or(Rejection::Maintenance)
}
