//! Reads of workspaces, answered from the index.

use std::sync::Arc;

use crate::view::events::{Event, Filter};
use crate::view::index::{Expired, From, Index, Subscription};
use crate::view::seen::Seen;
use crate::{Error, Result};
use domain::ended::Ended;
use domain::names::WorkspaceId;

/// Reads of workspaces. Each is answered from the index, at once.
#[derive(Debug)]
pub struct Queries {
    index: Arc<Index>,
}

impl Queries {
    pub(crate) fn new(index: Arc<Index>) -> Arc<Self> {
        Arc::new(Self { index })
    }

    /// The first `limit` workspaces asked for whose id comes after the one given, sorted by id.
    pub fn list(&self, filter: &Filter, after: &str, limit: usize) -> Vec<Seen> {
        self.index.list(filter, after, limit)
    }

    /// One workspace.
    pub fn describe(&self, id: &WorkspaceId) -> Result<Seen> {
        self.index.get(id).ok_or_else(|| Error::NoWorkspace(id.clone()))
    }

    /// A workspace that is over, for as long as its id is taken.
    pub fn describe_ended(&self, id: &WorkspaceId) -> Result<Ended> {
        if let Some(ended) = self.index.ended(id) {
            return Ok(ended);
        }
        match self.index.record_of(id) {
            Some(_) => Err(Error::Precondition { id: id.clone(), reason: "it has not ended yet".to_owned() }),
            None => Err(Error::NoWorkspace(id.clone())),
        }
    }

    /// Whose a workspace is, as its record says.
    pub fn owner_of(&self, id: &WorkspaceId) -> Option<String> {
        self.place_of(id).map(|(owner, _)| owner)
    }

    /// Whose a workspace is, and its cluster, as its record says.
    pub fn place_of(&self, id: &WorkspaceId) -> Option<(String, String)> {
        self.index.record_of(id).map(|(record, _)| (record.owner.to_string(), record.cluster.to_string()))
    }

    /// Changes of workspaces.
    pub fn subscribe(&self, filter: Filter, from: &From) -> Result<Subscription, Expired> {
        self.index.subscribe(filter, from)
    }

    /// The token with which a subscriber resumes after an event.
    pub fn resume_token(&self, event: &Event) -> String {
        self.index.token(event)
    }
}
