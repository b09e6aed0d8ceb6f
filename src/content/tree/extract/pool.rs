//! The threads that make small files.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use super::super::error::Error;
use super::super::meta::{Meta, Owner};
use super::super::notes::Notes;
use super::directory::Directory;
use super::node::{Node, Place};

/// Jobs that wait for one thread; with [`super::extractor::SMALL`] that bounds the memory.
const WAITING: usize = 64;

/// The number of an entry, and a hash of it that lacks only the digest of its data.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    pub(crate) number: usize,
    pub(crate) hasher: DefaultHasher,
}

impl Ticket {
    pub(crate) fn seal(mut self, digest: &blake3::Hash) -> (usize, u64) {
        self.hasher.write(digest.as_bytes());
        (self.number, self.hasher.finish())
    }
}

pub(super) enum Job {
    Make(Box<New>),
    Wait(SyncSender<()>),
}

/// An entry to make.
pub(super) struct New {
    pub(super) directory: Arc<Directory>,
    pub(super) name: Vec<u8>,
    pub(super) node: Node,
    pub(super) meta: Meta,
    pub(super) ticket: Option<Ticket>,
}

/// What the threads report.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) notes: Notes,
    /// Entries by number, with their complete hashes.
    pub(crate) sealed: Vec<(usize, u64)>,
}

/// Handles of the threads; each ends when its sender is dropped.
pub(crate) struct Lanes<'s> {
    pub(super) senders: Vec<SyncSender<Job>>,
    handles: Vec<ScopedJoinHandle<'s, Result<Outcome, Error>>>,
}

/// Starts `count` threads, at least one.
pub(crate) fn scope<'s>(scope: &'s Scope<'s, '_>, count: usize) -> Lanes<'s> {
    let owner = Owner::of_this_process();
    let (senders, handles) = (0..count.max(1))
        .map(|_| {
            let (sender, jobs) = sync_channel(WAITING);
            (sender, scope.spawn(move || work(&jobs, owner)))
        })
        .unzip();
    Lanes { senders, handles }
}

impl Lanes<'_> {
    pub(super) fn send(&self, lane: usize, job: Job) -> Result<(), Error> {
        let sender = self.senders.get(lane % self.senders.len().max(1)).ok_or(Error::Stopped)?;
        sender.send(job).map_err(|_| Error::Stopped)
    }

    /// Blocks until everything that was sent is done.
    pub(super) fn wait(&self) -> Result<(), Error> {
        let (done, answers) = sync_channel(self.senders.len());
        for sender in &self.senders {
            sender.send(Job::Wait(done.clone())).map_err(|_| Error::Stopped)?;
        }
        drop(done);
        (0..self.senders.len()).try_for_each(|_| answers.recv().map_err(|_| Error::Stopped))
    }

    /// Ends the threads and returns the first error of one of them.
    pub(super) fn join(self) -> Result<Outcome, Error> {
        drop(self.senders);
        let mut all = Outcome::default();
        let mut failure = None;
        for handle in self.handles {
            match handle.join() {
                Ok(Ok(outcome)) => {
                    all.notes.append(outcome.notes);
                    all.sealed.extend(outcome.sealed);
                }
                Ok(Err(error)) => failure = failure.or(Some(error)),
                Err(_) => failure = failure.or(Some(Error::Stopped)),
            }
        }
        failure.map_or(Ok(all), Err)
    }
}

fn work(jobs: &Receiver<Job>, owner: Owner) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    for job in jobs {
        match job {
            Job::Wait(done) => {
                // Who waits may have given up.
                let _ = done.send(());
            }
            Job::Make(new) => make(*new, owner, &mut outcome)?,
        }
    }
    Ok(outcome)
}

fn make(new: New, owner: Owner, outcome: &mut Outcome) -> Result<(), Error> {
    let New { directory, name, node, meta, ticket } = new;
    Place { directory: &directory, name: &name, owner }.make(&node, &meta, &mut outcome.notes)?;
    if let (Some(ticket), Node::File { data, .. }) = (ticket, &node) {
        outcome.sealed.push(ticket.seal(&blake3::hash(data)));
    }
    match Arc::into_inner(directory) {
        Some(directory) => directory.finish(&mut outcome.notes),
        None => Ok(()),
    }
}
