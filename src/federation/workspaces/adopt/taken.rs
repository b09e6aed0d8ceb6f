//! Which ids, URLs and folders of a workspace are taken. A plan reads this from the index; when the plan is
//! carried out, the transaction that records the workspace decides, and the refusal reads the same.

use std::collections::HashMap;

use crate::Error;
use crate::view::index::Index;
use crate::workspaces::hosts::Hosts;
use domain::adoption::{Names, Way, names as names_of};
use domain::diff::{Row, Standing};
use domain::names::{MetaId, WorkspaceId};
use domain::record::PlacementRecord;
use store::Claim;

/// What live workspaces have, and the workspaces of the same plan that come before.
pub(super) struct Taken<'a> {
    index: &'a Index,
    hosts_of: &'a Hosts,
    /// Meta ids that have a port whose URL is that of a live workspace.
    hosts: HashMap<MetaId, WorkspaceId>,
    planned: HashMap<MetaId, WorkspaceId>,
}

impl<'a> Taken<'a> {
    /// As it is now.
    pub(super) fn of(index: &'a Index, hosts_of: &'a Hosts) -> Self {
        let mut hosts = HashMap::new();
        for (record, _) in index.live_records() {
            for owner in record.port_of() {
                hosts.insert(owner.clone(), record.workspace.clone());
            }
        }
        for (workspace, meta) in index.unnoted() {
            hosts.extend(hosts_of.port_of(&meta).into_iter().map(|owner| (owner, workspace.clone())));
        }
        Self { index, hosts_of, hosts, planned: HashMap::new() }
    }

    /// Why a workspace cannot be recorded in this way, in words that follow its name; else it counts as planned.
    pub(super) fn in_the_way(&mut self, row: &Row, way: Way) -> Option<String> {
        // The record exists, and moves or is continued.
        if way == Way::Move || row.standing == Standing::Handover {
            return None;
        }
        let names = names_of(row.found.as_ref()?).ok()?;
        let claim = self.claim(&names, way);
        if let Some(why) = claim.and_then(|claim| why(&claim, &names.id, &names.meta)) {
            return Some(why);
        }
        if let Some(first) = self.planned.get(&names.meta) {
            return Some(format!(
                "has the meta id {} of workspace {first}, which is adopted before it",
                names.meta
            ));
        }
        self.planned.insert(names.meta, names.id);
        None
    }

    fn claim(&self, Names { id, meta, .. }: &Names, way: Way) -> Option<Claim> {
        let index = self.index;
        let given_up = |record: &PlacementRecord| way == Way::Claim && record.given_up.is_some();
        if let Some((record, version)) = index.record_of(id).filter(|(record, _)| !given_up(record)) {
            return Some(Claim::IdTaken(Box::new(record), version));
        }
        let other = |workspace: &WorkspaceId| workspace != id;
        if let Some(workspace) = index.live_of_meta(meta.as_str()).filter(other) {
            return Some(Claim::MetaTaken { workspace });
        }
        let is_live = |id: &WorkspaceId| index.record_of(id).is_some_and(|(record, _)| record.is_live());
        if let Some(workspace) = [id.daemon(), id.daemon_of()].into_iter().flatten().find(is_live) {
            return Some(Claim::FolderTaken { workspace });
        }
        let owners = self.hosts_of.port_of(meta);
        let of_port = owners.iter().find_map(|owner| index.live_of_meta(owner.as_str()));
        let holder = of_port.or_else(|| self.hosts.get(meta).cloned()).filter(other)?;
        Some(Claim::HostTaken { workspace: holder })
    }
}

/// What a claim that was refused says of the workspace; `None` where it was not.
pub(super) fn why(claim: &Claim, id: &WorkspaceId, meta: &MetaId) -> Option<String> {
    match claim {
        Claim::Claimed { .. } => None,
        Claim::IdTaken(record, _) => {
            let place = format!("{}/{}", record.cluster, record.namespace);
            Some(format!("is recorded at {place}"))
        }
        Claim::MetaTaken { workspace } => {
            Some(format!("has the meta id {meta} of workspace {workspace}, which is still live"))
        }
        Claim::HostTaken { workspace } => {
            Some(Error::HostTaken { meta: meta.clone(), workspace: workspace.clone() }.to_string())
        }
        Claim::FolderTaken { workspace } => {
            Some(Error::FolderTaken { id: id.clone(), workspace: workspace.clone() }.to_string())
        }
    }
}
