//! Deletes orphans.

use std::sync::Arc;

use futures::StreamExt as _;

use super::outcome::{AT_ONCE, MOST, Outcome, WITHIN};
use super::site::{Site, Sites};
use crate::fleet::{Connected, Fleet};
use crate::leadership::Leadership;
use crate::workspaces::diff::Comparison;
use crate::{Error, Result};
use domain::adoption::discardable;
use domain::diff::Row;
use domain::names::{ClusterName, Namespace, WorkspaceId};
use member::apply::Deleted;
use store::Term;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Discard {
    /// These.
    pub workspaces: Vec<WorkspaceId>,
    /// Only in this namespace of the cluster.
    pub namespace: Option<Namespace>,
    /// Also where a pod is there, which then ends as one that is stopped does.
    pub force: bool,
}

/// Deletes resources that no record places where they are.
pub struct Discarding {
    leadership: Arc<Leadership>,
    fleet: Arc<Fleet>,
    comparison: Arc<Comparison>,
    sites: Arc<Sites>,
}

impl Discarding {
    pub(crate) fn new(
        leadership: Arc<Leadership>,
        fleet: Arc<Fleet>,
        comparison: Arc<Comparison>,
        sites: Arc<Sites>,
    ) -> Arc<Self> {
        Arc::new(Self { leadership, fleet, comparison, sites })
    }

    /// Deletes stray resources. Repeatable.
    pub async fn discard(&self, name: &ClusterName, asked: &Discard) -> Result<Vec<(Row, Outcome)>> {
        let term = self.leadership.term()?;
        if !(1..=MOST).contains(&asked.workspaces.len()) {
            return Err(Error::Invalid {
                field: "workspaces".into(),
                rule: format!("must name 1 to {MOST}"),
            });
        }
        let connected = self.fleet.usable(name)?;
        let mut rows = self.comparison.compared_of(&connected, &asked.workspaces).await?;
        if let Some(namespace) = &asked.namespace {
            connected.place(namespace)?;
            rows.retain(|row| row.namespace == *namespace);
        }
        let strays =
            |id: &str| rows.iter().filter(|row| row.workspace == id && discardable(row).is_ok()).count();
        let judged: Vec<(Row, Result<(), String>)> = rows
            .iter()
            .map(|row| {
                let verdict = discardable(row).and_then(|()| {
                    let only = strays(&row.workspace) == 1;
                    only.then_some(()).ok_or_else(|| "is in several namespaces; name one".to_owned())
                });
                (row.clone(), verdict)
            })
            .collect();
        let act = async |(row, verdict): (Row, Result<(), String>)| {
            let outcome = match verdict {
                Ok(()) => self.discard_in_time(&term, &connected, &row, asked.force).await,
                Err(why) => Outcome::Refused(why),
            };
            (row, outcome)
        };
        Ok(futures::stream::iter(judged).map(act).buffered(AT_ONCE).collect().await)
    }

    async fn discard_in_time(&self, term: &Term, connected: &Connected, row: &Row, force: bool) -> Outcome {
        let discarding = self.discard_one(term, connected, row, force);
        let outcome = match tokio::time::timeout(WITHIN, discarding).await {
            Ok(Ok(())) => Outcome::Discarded,
            Ok(Err(Error::Precondition { reason, .. })) => Outcome::Refused(reason),
            Ok(Err(error)) => Outcome::Refused(format!("is not discarded: {error}; repeat the call")),
            Err(_) => Outcome::Refused(format!("is not discarded within {WITHIN:?}; repeat the call")),
        };
        let cluster = connected.member.name();
        tracing::info!(%cluster, workspace = row.workspace, force, ?outcome, "discard");
        outcome
    }

    async fn discard_one(&self, term: &Term, connected: &Connected, row: &Row, force: bool) -> Result<()> {
        let (id, _turn, site) = self.sites.look_again(term, connected, row).await?;
        let Site { row, workspace, writer, .. } = site;
        let refused = |reason: String| Error::Precondition { id: id.clone(), reason };
        discardable(&row).map_err(refused)?;
        let uid = workspace.metadata.uid.as_deref().unwrap_or_default();
        if !force && let Some((pod, _)) = writer.pods_of(id.as_str(), uid).await?.first() {
            let reason = format!("has the pod {pod}; adopt and stop it, or let --force end it");
            return Err(refused(reason));
        }
        match writer.delete_workspace(id.as_str(), uid).await? {
            Deleted::Accepted | Deleted::NotFound => Ok(()),
            Deleted::Conflict => Err(Error::Contended { what: format!("workspace {id}") }),
        }
    }
}
