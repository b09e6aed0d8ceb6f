//! Creates the secrets and the resource of a start where its record says. Repeatable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::prepare::prepare;
use super::started::Started;
use crate::fleet::{Fleet, Place};
use crate::metrics::metering::Meters;
use crate::view::index::Index;
use crate::workspaces::settle::queue::Queue;
use crate::{Error, Result};
use domain::acceptance::RejectedStart;
use domain::class::Quantity;
use domain::names::Region;
use domain::placement::{Target, one_try};
use domain::record::{PlacementRecord, RecordState};
use domain::signing::SigningKeys;
use domain::workspace::Start;
use k8s::convert::{self, Build, budget};
use k8s::resources::names;
use member::apply::{Created, MadeFor, Owner, Purpose, Writer};
use member::client;
use store::Term;

/// Creates the secrets and the resource of starts.
pub(crate) struct Creation {
    fleet: Arc<Fleet>,
    index: Arc<Index>,
    queue: Queue,
    meters: Meters,
    keyed: Arc<ArcSwap<SigningKeys>>,
    /// This installation's id.
    installation: Arc<str>,
    /// For placing one workspace, all clusters tried included.
    pub(super) deadline: Duration,
}

impl Creation {
    pub(crate) fn new(
        (fleet, index): (Arc<Fleet>, Arc<Index>),
        queue: Queue,
        meters: Meters,
        keyed: Arc<ArcSwap<SigningKeys>>,
        installation: Arc<str>,
        deadline: Duration,
    ) -> Arc<Self> {
        Arc::new(Self { fleet, index, queue, meters, keyed, installation, deadline })
    }

    /// The record of a start that goes to `target`.
    pub(super) fn new_record(&self, start: &Start, target: &Target) -> PlacementRecord {
        let keyed = self.keyed.load();
        PlacementRecord {
            workspace: start.id.clone(),
            meta: start.meta.clone(),
            owner: start.owner.clone(),
            cluster: target.cluster.clone(),
            namespace: target.namespace.clone(),
            generation: 1,
            digest: keyed.digest(&start.canonical),
            keying: Some(keyed.keying(Uuid::new_v4().simple().to_string())),
            placed_at: Timestamp::now(),
            state: RecordState::Placed,
            given_up: None,
            ending: None,
            port_of: None,
        }
    }

    /// Writes secrets and resource where the record says. Repeatable.
    pub(super) async fn create(
        &self,
        term: &Term,
        start: &Start,
        record: &PlacementRecord,
        target: &Target,
        deadline: Instant,
    ) -> Result<Started> {
        let (writer, place, region) = self.fleet.reach(term, record).await?;
        let undecided = |reason: String| Error::Undecided {
            id: start.id.clone(),
            cluster: record.cluster.clone(),
            reason,
        };
        let within = one_try(self.deadline);
        let writer = writer.within(within);
        // An absence that was seen before says nothing of what is sent now.
        self.queue.not_absent(&start.id);
        let workspace = self.resource(&place, start, record, target);
        prepare(&writer, &place, start, &workspace, deadline.min(Instant::now() + within)).await?;
        let in_secrets = AtomicBool::new(true);
        let create = self.write(&writer, &place, (start, record), &workspace, &in_secrets);
        let until = Instant::now() + within;
        match client::until(deadline.min(until), create).await {
            Err(waited) => {
                let reason = format!("no answer within {within:?}");
                // One that came late and had less time says nothing of the cluster, nor one that waited for our own limiter.
                if until <= deadline && waited == client::Waited::ForAnswer {
                    if in_secrets.load(Ordering::Relaxed) {
                        place.acceptance.secrets_timed_out(reason.clone());
                    } else {
                        place.acceptance.workspace_timed_out(reason.clone());
                    }
                }
                return Err(undecided(reason));
            }
            Ok(Err(Error::Cluster(error))) if !error.is_definite_refusal() => {
                return Err(undecided(error.to_string()));
            }
            Ok(outcome) => outcome?,
        }
        self.queue.push(&start.id);
        Ok(self.answer(record, &place, region))
    }

    /// `in_secrets`: whether the Secrets are being written.
    async fn write(
        &self,
        writer: &Writer,
        place: &Place,
        (start, record): (&Start, &PlacementRecord),
        workspace: &k8s::resources::Workspace,
        in_secrets: &AtomicBool,
    ) -> Result<()> {
        let id = start.id.as_str();
        let env_uid = self.put_secrets(writer, place, start, record).await.inspect_err(|error| {
            place.acceptance.secrets_failed(self.of_start(start), error);
        })?;
        in_secrets.store(false, Ordering::Relaxed);
        // Its answer may be lost.
        place.cache.await_creation(id);
        let made = match writer.create_workspace(workspace).await {
            Ok(Created::New(made)) => {
                self.meters.started(&record.cluster, start.kind, &made.spec.class);
                Ok(made)
            }
            Ok(Created::Exists) => match writer.get_workspace(start.id.as_str()).await {
                Ok(Some(found)) if is_ours(&found, record) => Ok(found),
                Ok(found) => Err(taken(writer, start, found.is_some())),
                // It is there, whoever made it.
                Err(error) => Err(member::Error::Ambiguous {
                    cluster: writer.cluster().clone(),
                    action: format!("create Workspace {}", start.id),
                    reason: format!("one of this name is there, and {}", error.cause()),
                }),
            },
            Err(error) => Err(error),
        };
        match &made {
            Ok(_) => place.acceptance.started(),
            Err(error) => place.acceptance.start_failed(self.of_start(start), error),
        }
        let made = made?;
        let owner = made.metadata.uid.clone().map(|uid| Owner { name: id.to_owned(), uid });
        place.cache.offer(made);
        if let Some((owner, uid)) = owner.zip(env_uid) {
            give_secret(writer, &uid, &owner).await;
        }
        Ok(())
    }

    /// Whose start it is, and whether nobody else has workspaces.
    fn of_start<'a>(&self, start: &'a Start) -> RejectedStart<'a> {
        RejectedStart {
            workspace: start.id.as_str(),
            owner: start.owner.as_str(),
            is_only_owner: !self.index.has_other_owner(&start.owner),
        }
    }

    /// Puts the secrets of a start; answers the uid of that with its variables.
    async fn put_secrets(
        &self,
        writer: &Writer,
        place: &Place,
        start: &Start,
        record: &PlacementRecord,
    ) -> member::Result<Option<String>> {
        let id = start.id.as_str();
        let secrets = convert::secrets(start, place.settings.load().node_agent);
        let installation = &*self.installation;
        let purpose = Purpose { workspace: id, installation, placed_at: record.placed_at };
        let mut env_uid = None;
        if let Some(content) = &secrets.env {
            let name = names::env_secret(id);
            env_uid = Some(writer.put_secret(&record.namespace, &name, purpose, content).await?);
        }
        if let Some(content) = &secrets.tokens {
            writer.put_secret(&place.secrets_namespace, &names::token_secret(id), purpose, content).await?;
        }
        Ok(env_uid)
    }

    /// Deletes the secrets of a start that its cluster rejected: nothing refers to them. One that cannot be deleted now is
    /// swept later.
    pub(super) async fn take_back_secrets(&self, term: &Term, start: &Start, record: &PlacementRecord) {
        let Ok((writer, place, _)) = self.fleet.reach(term, record).await else { return };
        let id = start.id.as_str();
        let secrets = convert::secrets(start, place.settings.load().node_agent);
        let (installation, placed_at) = (&*self.installation, record.placed_at.to_string());
        let made_for = MadeFor { workspace: id, installation, placed_at: Some(placed_at.as_str()) };
        for (namespace, name, made) in [
            (&record.namespace, names::env_secret(id), secrets.env.is_some()),
            (&place.secrets_namespace, names::token_secret(id), secrets.tokens.is_some()),
        ] {
            if made && let Err(error) = writer.delete_secret(namespace, &name, made_for).await {
                tracing::warn!(workspace = %start.id, %error, "a secret of a refused start is left over");
            }
        }
    }

    /// Whether everything fits that is made of a start there: resource, secrets, and the pod that the controller will make.
    pub(super) fn check_size(&self, start: &Start, record: &PlacementRecord, target: &Target) -> Result<()> {
        let Some((place, workspace)) = self.planned(start, record, target) else { return Ok(()) };
        let agent = place.settings.load().node_agent;
        budget::of_start(start, &workspace, &convert::secrets(start, agent))?;
        Ok(place.planned_pod(workspace).as_ref().map_or(Ok(()), budget::of_pod)?)
    }

    /// What a start is answered that a cluster refused for its size, where no other takes it. Clusters store what the budget
    /// allows, so this one stores less than others; it refuses a repeated call, too.
    pub(super) fn too_large(
        &self,
        start: &Start,
        record: &PlacementRecord,
        target: &Target,
        error: &member::Error,
    ) -> Error {
        let rule = format!("makes an object too large that no cluster stores: {error}");
        Error::Invalid { field: self.largest_field(start, record, target).into(), rule }
    }

    /// The field of a start that takes most of its resource.
    fn largest_field(&self, start: &Start, record: &PlacementRecord, target: &Target) -> &'static str {
        self.planned(start, record, target).map_or("spec", |(_, workspace)| budget::largest(&workspace))
    }

    /// What a start is answered.
    pub(super) fn answer(&self, record: &PlacementRecord, place: &Place, region: Region) -> Started {
        Started {
            url: place.settings.load().url(record.workspace.as_str(), record.meta.as_str()),
            owner_token: self.keyed.load().owner_token(
                &record.workspace,
                record.generation,
                record.keying.as_ref(),
            ),
            cluster: record.cluster.clone(),
            region,
            namespace: record.namespace.clone(),
        }
    }

    /// The resource of a start as it will be made; `None` where its place is served no longer, as making it will find out.
    fn planned(
        &self,
        start: &Start,
        record: &PlacementRecord,
        target: &Target,
    ) -> Option<(Place, k8s::resources::Workspace)> {
        let place = self.fleet.get(&target.cluster)?.place(&target.namespace).ok()?;
        let workspace = self.resource(&place, start, record, target);
        Some((place, workspace))
    }

    fn resource(
        &self,
        place: &Place,
        start: &Start,
        record: &PlacementRecord,
        target: &Target,
    ) -> k8s::resources::Workspace {
        let settings = place.settings.load();
        let class = settings.classes.get(target.class.as_str());
        let cpu = class.map(|class| &class.limits.cpu);
        let storage = class.map(|class| class.limits.storage.value()).filter(|bytes| *bytes > 0);
        // A class without a limit has a quantity of zero, which a node agent would take for one.
        let limit = |quantity: &Quantity| (!quantity.is_zero()).then(|| quantity.as_str().to_owned());
        let (min, burst) = (cpu.and_then(|cpu| limit(&cpu.min)), cpu.and_then(|cpu| limit(&cpu.burst)));
        convert::workspace(
            start,
            &Build {
                namespace: &record.namespace,
                class: target.class.as_str(),
                generation: record.generation,
                digest: &record.digest,
                keying: record.keying.as_ref(),
                installation: &self.installation,
                placed_at: record.placed_at,
                node_agent: settings.node_agent,
                storage_quota: storage.and_then(|bytes| i64::try_from(bytes).ok()),
                cpu_min_limit: min.as_deref(),
                cpu_burst_limit: burst.as_deref(),
                ssh_ca_public_key: settings.ssh_gateway_ca_public_key.as_deref(),
            },
        )
    }
}

/// The workspace is there, so where this fails it starts all the same: its finalizer deletes the secret, or a sweep.
async fn give_secret(writer: &Writer, uid: &str, owner: &Owner) {
    if let Err(error) = writer.give_secret(&names::env_secret(&owner.name), uid, owner).await {
        tracing::warn!(workspace = owner.name, %error, "the secret of its environment has no owner");
    }
}

/// Whether a resource that is there already came from the same request and generation.
fn is_ours(found: &k8s::resources::Workspace, record: &PlacementRecord) -> bool {
    let annotations = found.metadata.annotations.as_ref();
    let is = |key: &str, value: &str| annotations.and_then(|all| all.get(key)).is_some_and(|is| is == value);
    found.metadata.deletion_timestamp.is_none()
        && is(names::SPEC_DIGEST, &record.digest.0)
        && is(names::GENERATION, &record.generation.to_string())
}

/// The name belongs to something else there: a definite refusal.
fn taken(writer: &Writer, start: &Start, exists: bool) -> member::Error {
    let why = if exists {
        "another workspace of this name exists there"
    } else {
        "another workspace of this name existed there a moment ago"
    };
    member::Error::Refused {
        cluster: writer.cluster().clone(),
        action: format!("create Workspace {}", start.id),
        code: 409,
        reason: "AlreadyExists",
        rule: member::error::Rule::Own(why),
    }
}
