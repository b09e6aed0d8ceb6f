//! Stores the content of a running workspace. Its name follows from the Snapshot resource, so that an agent that was killed goes on
//! under the name that is already known.

use content::initializer::Fault;
use content::initializer::scrub::Scrubber;
use content::store::{Digest, Format, Key};
use jiff::Timestamp;
use k8s::resources::{Snapshot, Workspace};
use tokio::sync::watch;
use tokio::time::Instant;

use super::context::Context;
use super::error::{Error, Failure};
use super::exchange::Worker;
use super::subject::Subject;
use super::upload::{self, Sending};
use super::volumes;
use crate::helper::Progress;
use crate::state::{Begun, Known, SnapshotRecord, Stage};

/// Tries of one snapshot.
const TRIES: u32 = 3;

/// The name under which a snapshot is stored.
pub(super) fn name(context: &Context, workspace: &Workspace, snapshot: &Snapshot) -> Result<String, Error> {
    let subject = Subject::of(workspace)?;
    Ok(context.store.snapshot_name(&key(context, &subject, snapshot))?)
}

fn key(context: &Context, subject: &Subject, snapshot: &Snapshot) -> Key {
    subject.keys().snapshot(number(snapshot), context.settings.format)
}

/// The nanoseconds at the end of the resource's name, or a number that is as unique.
fn number(snapshot: &Snapshot) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    let name = snapshot.metadata.name.as_deref().unwrap_or_default();
    let nanos = name.rsplit('-').next().filter(|last| last.len() >= 18);
    if let Some(nanos) = nanos.and_then(|nanos| nanos.parse().ok()) {
        return nanos;
    }
    let created = snapshot.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let [a, b, c, d, ..] = *Digest::of(name.as_bytes()).as_bytes();
    let seconds = u64::try_from(created.as_second()).unwrap_or(0);
    seconds.saturating_mul(SECOND).saturating_add(u64::from(u32::from_be_bytes([a, b, c, d])) % SECOND)
}

/// Makes and proves a snapshot, unless that was done already.
pub(super) async fn run(
    context: &Context,
    workspace: &Workspace,
    snapshot: &Snapshot,
    progress: &watch::Sender<Progress>,
) -> Result<(), Error> {
    let subject = Subject::of(workspace)?;
    let instance = &subject.origin.instance;
    let key = key(context, &subject, snapshot);
    // Names of resources may be too long for a file.
    let file = Digest::of(snapshot.metadata.name.as_deref().unwrap_or_default().as_bytes());
    let path = context.disk.layout().snapshots().join(format!("{file}.json"));
    let journal = path.with_extension("upload");
    let before = context.disk.load::<SnapshotRecord>(instance, path.clone()).await;
    let before = before.ok().flatten().filter(|record| record.object == key.path());
    if before.as_ref().is_some_and(|record| record.proven) {
        return Ok(());
    }
    let sent = upload::sent(context, instance, journal.clone()).await;
    let begun = before.and_then(|record| record.begun);
    let begun = Begun::next(begun.as_ref(), context.disk.agents(), sent);
    if let Some(agents) = begun.is_deadly() {
        return Err(Error::Snapshot(Failure::deadly(agents).sentence()));
    }
    let mut record = SnapshotRecord {
        version: 1,
        instance: instance.clone(),
        owner: subject.origin.owner.clone(),
        object: key.path().to_owned(),
        proven: false,
        folder: context.disk.layout().content(instance),
        begun: Some(begun),
    };
    context.disk.save(instance, path.clone(), &record).await?;
    let until = Instant::now() + context.settings.deadlines.snapshot;
    let sending = Sending {
        instance,
        key: &key,
        excludes: context.settings.excludes.of(&subject.class),
        plain: context.settings.format == Format::Tar,
        // A file of a running workspace can be written without a new time, so this is no state of unchanged content.
        tree: None,
        journal,
    };
    let worker = Worker {
        helper: &context.helper,
        folder: record.folder.clone(),
        until,
        scrubber: Scrubber::default(),
        progress,
    };
    let made = tokio::time::timeout_at(until, make(context, &subject, &worker, &sending)).await;
    let made = made.unwrap_or_else(|_| {
        let seconds = context.settings.deadlines.snapshot.as_secs();
        Err(Failure::platform(format!("it took longer than {seconds} s")))
    });
    made.map_err(|failure| Error::Snapshot(failure.sentence()))?;
    record.proven = true;
    record.begun = None;
    context.disk.save(instance, path, &record).await?;
    Ok(())
}

async fn make(
    context: &Context,
    subject: &Subject,
    worker: &Worker<'_>,
    sending: &Sending<'_>,
) -> Result<(), Failure> {
    let mut tries = 0;
    volumes::shown(context, &subject.origin.instance).await?;
    loop {
        tries += 1;
        let sent = try_once(context, subject, worker, sending).await;
        match sent {
            Err(failure) if failure.is_passing && tries < TRIES => {
                tracing::warn!(instance = %subject.origin.instance, reason = %failure, "the snapshot failed and is tried again");
                tokio::time::sleep(context.settings.retry.after(tries)).await;
            }
            other => return other,
        }
    }
}

async fn try_once(
    context: &Context,
    subject: &Subject,
    worker: &Worker<'_>,
    sending: &Sending<'_>,
) -> Result<(), Failure> {
    let is_there = match context.disk.read(&subject.origin.instance).await {
        Known::State(state) => state.origin.is_same_resource(&subject.origin) && state.stage == Stage::Ready,
        // That a folder exists proves nothing.
        Known::Nothing => false,
        Known::Broken(problem) => return Err(Failure::lasting(Fault::Platform, problem)),
    };
    if !is_there {
        let message = "the node has no complete content of the workspace yet, or its backup has begun";
        return Err(Failure::lasting(Fault::User, message));
    }
    worker.step("writing the archive");
    let (written, uploaded) = sending.send(context, worker).await?;
    worker.step("proving the archive");
    sending.prove(context, written, &uploaded).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(name: &str) -> Snapshot {
        Snapshot::new(name, k8s::resources::SnapshotSpec::default())
    }

    #[test]
    fn the_number_is_that_of_the_resource_and_the_same_each_time() {
        assert_eq!(number(&snapshot("ws-1-1732873453123456789")), 1_732_873_453_123_456_789);
        let other = number(&snapshot("mine-1"));
        assert_eq!(other, number(&snapshot("mine-1")));
        assert_ne!(other, number(&snapshot("mine-2")));
    }
}
