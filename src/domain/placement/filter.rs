//! Which clusters fit, and why the others do not.

use std::fmt;
use std::sync::Arc;

use super::capacity::{Available, Shortage};
use super::{Candidate, CandidateNamespace, Offer, PlacementRequest};
use crate::cluster::Capacity;
use crate::health::Health;
use crate::names::{ClassId, ClusterName, Namespace, Region};

/// Why a cluster does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// Its health is not Available.
    Unhealthy(Health),
    /// Writes of this term are not possible, for this reason.
    Barred(String),
    /// It is cordoned.
    Cordoned,
    /// It is being drained, or was.
    Draining,
    /// Its weight is 0.
    NoWeight,
    /// Another cluster was requested.
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
    /// Every fitting namespace rejects or fails new workspaces, for this reason.
    Closed(String),
    /// Its nodes and pods were not listed yet.
    CapacityUnknown,
    /// No node has enough available.
    Capacity(ClassId, Arc<Shortage>),
    /// Another start reserved the last available capacity a moment ago.
    Overtaken(ClassId),
    /// It rejected the Workspace of this start.
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
            Self::Closed(reason) => write!(f, "accepts no workspaces now: {reason}"),
            Self::CapacityUnknown => f.write_str("has not listed its nodes and pods yet"),
            Self::Capacity(class, shortage) => write!(f, "has no capacity for class {class}: {shortage}"),
            Self::Overtaken(class) => {
                write!(f, "has no capacity for class {class}: another start took the last")
            }
            Self::Refused(reason) => write!(f, "refused: {reason}"),
        }
    }
}

impl Rejection {
    /// Whether the cluster may fit soon: its state is not known yet, or it may recover at any time.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::CapacityUnknown | Self::Closed(_) | Self::Unhealthy(Health::Connecting))
    }

    /// Bounded category of the reason.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unhealthy(_) => "unhealthy",
            Self::Barred(_) => "barred",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::NoWeight => "weight",
            Self::NotPinned(_) => "pinned",
            Self::Region(_) => "region",
            Self::Label(_) => "label",
            Self::Permission(_) => "permission",
            Self::Namespace(_) => "namespace",
            Self::Class(_) | Self::NoPreferredClass => "class",
            Self::Maintenance => "maintenance",
            Self::Closed(_) => "closed",
            Self::CapacityUnknown => "unknown",
            Self::Capacity(..) | Self::Overtaken(_) => "capacity",
            Self::Refused(_) => "refused",
        }
    }

    /// The requested cluster, if it is none of the candidates.
    pub fn unknown_pin(verdicts: &[(ClusterName, Self)]) -> Option<&ClusterName> {
        let (_, Self::NotPinned(wanted)) = verdicts.first()? else { return None };
        verdicts.iter().all(|(_, why)| matches!(why, Self::NotPinned(_))).then_some(wanted)
    }

    /// Whether only capacity is missing.
    pub fn is_capacity(&self) -> bool {
        matches!(self, Self::Capacity(..) | Self::Overtaken(_))
    }
}

/// The offer for a request, or why the cluster is rejected.
pub(super) fn admit<'a>(
    request: &PlacementRequest,
    candidate: &'a Candidate,
) -> Result<&'a Offer, Rejection> {
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
    let (first, others) = offers(request, candidate)?;
    if candidate.health != Health::Available {
        return Err(Rejection::Unhealthy(candidate.health));
    }
    if let Some(reason) = &candidate.barred {
        return Err(Rejection::Barred(reason.clone()));
    }
    let refused = match has_room(request, candidate, first) {
        Ok(()) => return Ok(first),
        Err(refused) => refused,
    };
    others.into_iter().find(|offer| has_room(request, candidate, offer).is_ok()).ok_or(refused)
}

/// The offers of all namespaces that fit, in the order of the registration, those that are the last choice after the others.
fn offers<'a>(
    request: &PlacementRequest,
    candidate: &'a Candidate,
) -> Result<(&'a Offer, Vec<&'a Offer>), Rejection> {
    let named = |namespace: &&CandidateNamespace| {
        request.namespace.as_ref().is_none_or(|wanted| *wanted == namespace.name)
    };
    let mut open = candidate.namespaces.iter().filter(named).filter_map(|namespace| {
        let class = request.class.as_ref().or(namespace.preferred_class.as_ref())?;
        namespace.offers.get(class).map(|offer| (offer, namespace))
    });
    let is_open = |namespace: &CandidateNamespace| !namespace.maintenance && namespace.closed.is_none();
    let (fits, last): (Vec<_>, Vec<_>) = open
        .by_ref()
        .filter(|(_, namespace)| is_open(namespace))
        .partition(|(_, namespace)| namespace.last_choice.is_none());
    let mut fits = fits.into_iter().chain(last).map(|(offer, _)| offer);
    if let Some(first) = fits.next() {
        return Ok((first, fits.collect()));
    }
    if let Some(wanted) = &request.namespace
        && !candidate.namespaces.iter().any(|namespace| named(&namespace))
    {
        return Err(Rejection::Namespace(wanted.clone()));
    }
    let mut offering = candidate.namespaces.iter().filter(named).filter(|namespace| {
        let class = request.class.as_ref().or(namespace.preferred_class.as_ref());
        class.is_some_and(|class| namespace.offers.contains_key(class))
    });
    if let Some(first) = offering.next() {
        let mut all = std::iter::once(first).chain(offering);
        let closed = all.find_map(|namespace| {
            let reason = namespace.closed.as_ref().filter(|_| !namespace.maintenance)?;
            Some(format!("namespace {}: {reason}", namespace.name))
        });
        return Err(closed.map_or(Rejection::Maintenance, Rejection::Closed));
    }
    Err(request.class.clone().map_or(Rejection::NoPreferredClass, Rejection::Class))
}

fn has_room(request: &PlacementRequest, candidate: &Candidate, offer: &Offer) -> Result<(), Rejection> {
    let room = offer.rooms.of(request.kind);
    if candidate.capacity == Capacity::Unlimited && !room.is_quota_full() {
        return Ok(());
    }
    match room {
        Available::Unknown => Err(Rejection::CapacityUnknown),
        Available::Counted { left: 0, shortage, .. } => {
            Err(Rejection::Capacity(offer.target.class.clone(), shortage.clone().unwrap_or_default()))
        }
        Available::Counted { .. } => Ok(()),
    }
}
