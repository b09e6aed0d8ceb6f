//! Starting a workspace exactly once.
//!
//! *Flow.* Place (pure) -> record in etcd -> secrets and resource in the cluster -> answer. *Guarantees.* The record is
//! the first write and is unique by workspace id and by meta id over the federation. A start moves on to the next
//! cluster only after a definite refusal of its first call there; whatever is not known stays where it is and a
//! repeated call goes on there, refused or not.
//! The same request gets the same answer while the workspace lives, because token and URL are derived from it.
//! *Caveat.* A start that was cut off after the record and is not repeated is settled by the leader ([`super::settle`]).

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::fleet::Place;
use super::{Error, Federation, Result};
use crate::cluster;
use crate::cluster::apply::{Created, Writer};
use crate::cluster::convert::{self, Build};
use crate::cluster::resources::names;
use crate::domain::names::{ClusterName, Namespace, Region};
use crate::domain::placement::{self, Decision, Rejection, Target};
use crate::domain::record::{Digest, PlacementRecord, RecordState};
use crate::domain::workspace::{Phase, Start};
use crate::store::{Claim, Term};

/// The answer to a start.
#[derive(Clone, PartialEq, Eq)]
pub struct Started {
    /// Where the workspace is served.
    pub url: String,
    /// Opens it.
    pub owner_token: String,
    /// Where it was placed.
    pub cluster: ClusterName,
    /// The cluster's region.
    pub region: Region,
    /// The namespace there.
    pub namespace: Namespace,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// A record of ours and its version in etcd.
struct Held {
    record: PlacementRecord,
    version: i64,
}

impl Federation {
    /// Starts a workspace, or answers a repeated start as the first time.
    pub async fn start(&self, start: Start) -> Result<Started> {
        let term = self.term()?;
        let deadline = Instant::now() + self.options.placement_deadline;
        let within = self.options.placement_deadline;
        let late = |_| Error::Deadline { what: "waiting for another call about the same workspace", within };
        let _turn = timeout_at(deadline, self.locks.lock(&start.id)).await.map_err(late)?;
        let digest = self.keyed.digest(&start.canonical);
        if let Some((record, version)) = self.index.record_of(&start.id) {
            return self.repeat(&term, &start, &digest, Held { record, version }, deadline).await;
        }
        // Held from the decision to its record, so that no cluster is drained or taken out in between.
        let registry = self.registry.read().await;
        let decision = placement::place(&start.placement, &self.fleet.candidates());
        let Some((target, _)) = decision.ranked.first() else {
            return Err(unplaceable(&start, decision.rejected));
        };
        let record = new_record(&start, &digest, target);
        let claim = self.store.claim(&term, &record).await?;
        if let Claim::Claimed { version } = &claim {
            self.index.record(record.clone(), *version);
        }
        drop(registry);
        match claim {
            Claim::Claimed { version } => {
                self.place(&term, &start, Held { record, version }, decision, deadline).await
            }
            Claim::IdTaken(record, version) => {
                self.index.record((*record).clone(), version);
                self.repeat(&term, &start, &digest, Held { record: *record, version }, deadline).await
            }
            Claim::MetaTaken { workspace } => Err(Error::MetaTaken { meta: start.meta, workspace }),
        }
    }

    /// What changed at a ranked target since the candidates were read.
    fn no_longer(&self, target: &Target) -> Option<Rejection> {
        if self.index.is_draining(&target.cluster) {
            return Some(Rejection::Draining);
        }
        let serves = self.fleet.serves(&target.cluster, &target.namespace);
        (!serves).then(|| Rejection::Namespace(target.namespace.clone()))
    }

    /// Tries the ranked clusters in turn, the record going before each.
    async fn place(
        &self,
        term: &Term,
        start: &Start,
        mut held: Held,
        decision: Decision,
        deadline: Instant,
    ) -> Result<Started> {
        let mut rejected = decision.rejected;
        for (nth, (target, _)) in decision.ranked.into_iter().enumerate() {
            if nth > 0 {
                let _registry = self.registry.read().await;
                if let Some(rejection) = self.no_longer(&target) {
                    rejected.push((target.cluster, rejection));
                    continue;
                }
                let record = PlacementRecord {
                    cluster: target.cluster.clone(),
                    namespace: target.namespace.clone(),
                    ..held.record
                };
                let version = self.store.reclaim(term, &record, held.version).await?;
                self.index.record(record.clone(), version);
                held = Held { record, version };
            }
            match self.create(term, start, &held.record, &target, deadline).await {
                Ok(started) => return Ok(started),
                Err(Error::Cluster(error)) if error.is_definite_refusal() => {
                    tracing::warn!(workspace = %start.id, cluster = %target.cluster, %error, "start refused");
                    rejected.push((target.cluster, Rejection::Refused(error.to_string())));
                }
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        self.forget(term, &held).await?;
        Err(unplaceable(start, rejected))
    }

    /// Writes secrets and resource where the record says. Repeatable.
    async fn create(
        &self,
        term: &Term,
        start: &Start,
        record: &PlacementRecord,
        target: &Target,
        deadline: Instant,
    ) -> Result<Started> {
        let (writer, place, region) = self.reach(term, record).await?;
        let undecided = |reason: String| Error::Undecided {
            id: start.id.clone(),
            cluster: record.cluster.clone(),
            reason,
        };
        let create = self.write(&writer, &place, start, record, target);
        match timeout_at(deadline, create).await {
            Err(_) => {
                return Err(undecided(format!("no answer within {:?}", self.options.placement_deadline)));
            }
            Ok(Err(Error::Cluster(error))) if !error.is_definite_refusal() => {
                return Err(undecided(error.to_string()));
            }
            Ok(outcome) => outcome?,
        }
        self.settle.push(&start.id);
        Ok(self.answer(record, &place, region))
    }

    async fn write(
        &self,
        writer: &Writer,
        place: &Place,
        start: &Start,
        record: &PlacementRecord,
        target: &Target,
    ) -> Result<()> {
        let secrets = convert::secrets(start);
        if let Some(content) = &secrets.env {
            let name = names::env_secret(start.id.as_str());
            writer.put_secret(&record.namespace, &name, start.id.as_str(), content).await?;
        }
        if let Some(content) = &secrets.tokens {
            let name = names::token_secret(start.id.as_str());
            writer.put_secret(&place.secrets_namespace, &name, start.id.as_str(), content).await?;
        }
        let workspace = self.resource(place, start, record, target);
        let made = match writer.create_workspace(&workspace).await {
            Ok(Created::New(made)) => {
                self.meters().started(&record.cluster, start.kind, &made.spec.class);
                Ok(made)
            }
            Ok(Created::Exists) => match writer.get_workspace(start.id.as_str()).await {
                Ok(Some(found)) if is_ours(&found, record) => Ok(found),
                Ok(found) => Err(taken(writer, start, found.is_some())),
                // It is there, whoever made it.
                Err(error) => Err(cluster::Error::Ambiguous {
                    cluster: writer.cluster().clone(),
                    action: format!("create Workspace {}", start.id),
                    reason: format!("one of this name is there, and {}", error.cause()),
                }),
            },
            Err(error) => Err(error),
        };
        match made {
            Ok(made) => {
                place.cache.offer(made);
                Ok(())
            }
            Err(error) => {
                if error.is_definite_refusal() {
                    self.take_back_secrets(writer, place, start, record).await;
                }
                Err(error.into())
            }
        }
    }

    /// Nothing refers to them. One that cannot be deleted now is named in the log.
    async fn take_back_secrets(
        &self,
        writer: &Writer,
        place: &Place,
        start: &Start,
        record: &PlacementRecord,
    ) {
        let secrets = convert::secrets(start);
        let id = start.id.as_str();
        for (namespace, name, made) in [
            (&record.namespace, names::env_secret(id), secrets.env.is_some()),
            (&place.secrets_namespace, names::token_secret(id), secrets.tokens.is_some()),
        ] {
            if made && let Err(error) = writer.delete_secret(namespace, &name).await {
                tracing::warn!(workspace = %start.id, %error, "a secret of a refused start is left over");
            }
        }
    }

    fn resource(
        &self,
        place: &Place,
        start: &Start,
        record: &PlacementRecord,
        target: &Target,
    ) -> cluster::resources::Workspace {
        let settings = place.settings.load();
        let class = settings.classes.get(target.class.as_str());
        let cpu = class.map(|class| &class.limits.cpu);
        let storage = class.map(|class| class.limits.storage.value()).filter(|bytes| *bytes > 0);
        let min = cpu.map(|cpu| cpu.min.as_str().to_owned()).filter(|min| !min.is_empty());
        let burst = cpu.map(|cpu| cpu.burst.as_str().to_owned()).filter(|burst| !burst.is_empty());
        convert::workspace(
            start,
            &Build {
                namespace: &record.namespace,
                class: target.class.as_str(),
                generation: record.generation,
                digest: &record.digest,
                installation: &self.installation.id.to_string(),
                storage_quota: storage.and_then(|bytes| i64::try_from(bytes).ok()),
                cpu_min_limit: min.as_deref(),
                cpu_burst_limit: burst.as_deref(),
                ssh_ca_public_key: settings.ssh_gateway_ca_public_key.as_deref(),
            },
        )
    }

    /// Answers a start whose id has a record already.
    async fn repeat(
        &self,
        term: &Term,
        start: &Start,
        digest: &Digest,
        held: Held,
        deadline: Instant,
    ) -> Result<Started> {
        let exists = |reason| Err(Error::WorkspaceExists { id: start.id.clone(), reason });
        let record = &held.record;
        if !record.is_live() {
            return exists("it has ended; a new start needs a new id");
        }
        if record.digest != *digest {
            return exists("another request has this id");
        }
        let Some(connected) = self.fleet.get(&record.cluster) else {
            return Err(Error::NoCluster(record.cluster.clone()));
        };
        if let Some(seen) = self.index.get(&start.id) {
            if seen.view.phase == Phase::Stopped || seen.view.deleting {
                return exists("it has stopped; a new start needs a new id");
            }
            let place = connected.place(&record.namespace)?;
            return Ok(self.answer(record, &place, connected.region()));
        }
        // Recorded, but not known to exist: go on where the first call was cut off.
        let place = connected.place(&record.namespace)?;
        let class = start.placement.class.clone().or_else(|| place.settings.load().preferred_class.clone());
        let Some(class) = class else {
            return Err(Error::Invalid { field: "spec.class", rule: "is required there".to_owned() });
        };
        let target = Target {
            cluster: record.cluster.clone(),
            region: connected.region(),
            namespace: record.namespace.clone(),
            class,
        };
        match self.create(term, start, record, &target, deadline).await {
            // This call did nothing; the first may have, or may still arrive. Only settling, which asks the cluster, may
            // forget the record.
            Err(Error::Cluster(error)) if error.is_definite_refusal() => Err(Error::Undecided {
                id: start.id.clone(),
                cluster: record.cluster.clone(),
                reason: error.to_string(),
            }),
            outcome => outcome,
        }
    }

    fn answer(&self, record: &PlacementRecord, place: &Place, region: Region) -> Started {
        Started {
            url: place.settings.load().url(record.workspace.as_str(), record.meta.as_str()),
            owner_token: self.keyed.owner_token(&record.workspace, record.generation),
            cluster: record.cluster.clone(),
            region,
            namespace: record.namespace.clone(),
        }
    }

    async fn forget(&self, term: &Term, held: &Held) -> Result<()> {
        self.store.forget(term, &held.record, held.version).await?;
        self.index.record_gone(&held.record.workspace, held.version);
        Ok(())
    }

    /// Everything that is needed to write where a record says.
    pub(super) async fn reach(
        &self,
        term: &Term,
        record: &PlacementRecord,
    ) -> Result<(Writer, Place, Region)> {
        let connected =
            self.fleet.get(&record.cluster).ok_or_else(|| Error::NoCluster(record.cluster.clone()))?;
        let place = connected.place(&record.namespace)?;
        let pass = connected.gate.pass(&record.cluster, term).await?;
        let writer = connected.member.writer(&record.namespace, &pass);
        Ok((writer, place, connected.region()))
    }
}

fn new_record(start: &Start, digest: &Digest, target: &Target) -> PlacementRecord {
    PlacementRecord {
        workspace: start.id.clone(),
        meta: start.meta.clone(),
        owner: start.owner.clone(),
        cluster: target.cluster.clone(),
        namespace: target.namespace.clone(),
        generation: 1,
        digest: digest.clone(),
        placed_at: Timestamp::now(),
        state: RecordState::Placed,
    }
}

/// Whether a resource that is there already came from the same request and generation.
fn is_ours(found: &cluster::resources::Workspace, record: &PlacementRecord) -> bool {
    let annotations = found.metadata.annotations.as_ref();
    let is = |key: &str, value: &str| annotations.and_then(|all| all.get(key)).is_some_and(|is| is == value);
    found.metadata.deletion_timestamp.is_none()
        && is(names::SPEC_DIGEST, &record.digest.0)
        && is(names::GENERATION, &record.generation.to_string())
}

/// The name belongs to something else there: a definite refusal.
fn taken(writer: &Writer, start: &Start, exists: bool) -> cluster::Error {
    let message = if exists {
        "another workspace of this name exists there"
    } else {
        "another workspace of this name existed there a moment ago"
    };
    cluster::Error::Refused {
        cluster: writer.cluster().clone(),
        action: format!("create Workspace {}", start.id),
        code: 409,
        reason: "AlreadyExists".to_owned(),
        message: message.to_owned(),
    }
}

/// Where maintenance is all that keeps clusters from taking it, existing clients expect to be told just that.
fn unplaceable(start: &Start, verdicts: Vec<(ClusterName, Rejection)>) -> Error {
    let maintained: Vec<&str> = verdicts
        .iter()
        .filter(|(_, rejection)| *rejection == Rejection::Maintenance)
        .map(|(cluster, _)| cluster.as_str())
        .collect();
    if maintained.is_empty() {
        return Error::Unplaceable { id: start.id.clone(), verdicts };
    }
    Error::Maintenance { place: maintained.join(", "), verdicts }
}
