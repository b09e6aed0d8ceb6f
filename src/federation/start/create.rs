//! Writing a start where its record says: secrets first, then the resource. Repeatable.

use tokio::time::{Instant, timeout_at};

use super::Started;
use crate::cluster;
use crate::cluster::apply::{Created, Owner, Purpose, Writer};
use crate::cluster::convert::{self, Build};
use crate::cluster::resources::names;
use crate::domain::placement::Target;
use crate::domain::record::PlacementRecord;
use crate::domain::workspace::Start;
use crate::federation::fleet::Place;
use crate::federation::{Error, Federation, Result};
use crate::store::Term;

impl Federation {
    /// Writes secrets and resource where the record says. Repeatable.
    pub(super) async fn create(
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
        let (id, secrets) = (start.id.as_str(), convert::secrets(start));
        let installation = self.installation.id.to_string();
        let purpose = Purpose { workspace: id, installation: &installation, placed_at: record.placed_at };
        if let Some(content) = &secrets.env {
            writer.put_secret(&record.namespace, &names::env_secret(id), purpose, content).await?;
        }
        if let Some(content) = &secrets.tokens {
            writer.put_secret(&place.secrets_namespace, &names::token_secret(id), purpose, content).await?;
        }
        let workspace = self.resource(place, start, record, target);
        // Its answer may be lost.
        place.cache.await_creation(id);
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
                let owner = made.metadata.uid.clone().map(|uid| Owner { name: id.to_owned(), uid });
                place.cache.offer(made);
                if let Some(owner) = owner.filter(|_| secrets.env.is_some()) {
                    give_secret(writer, &owner).await;
                }
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

    /// Nothing refers to them. One that cannot be deleted now is swept later.
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
}

/// The workspace is there, so where this fails it starts all the same: its finalizer deletes the secret, or a sweep.
async fn give_secret(writer: &Writer, owner: &Owner) {
    if let Err(error) = writer.give_secret(&names::env_secret(&owner.name), owner).await {
        tracing::warn!(workspace = owner.name, %error, "the secret of its environment has no owner");
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
