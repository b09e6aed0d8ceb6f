//! Compares the Workspaces and pods of a cluster with its placement records. An admin decides what to do about differences.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::names::{ClusterName, Namespace};
use super::record::{PlacementRecord, RecordState};

/// Ended records are listed by default if they ended within the last hour.
const RECENT: SignedDuration = SignedDuration::from_hours(1);

/// Owner of a resource, by its labels and annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// This installation.
    Us,
    /// Another installation of Spaceport, by its id.
    Installation(String),
    /// Another manager, by its label.
    Manager(String),
    /// No manager is named: managers other than Spaceport treat such resources as their own.
    Nobody,
}

/// A Workspace resource in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name: the instance id.
    pub name: String,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its owner.
    pub keeper: Keeper,
    /// Whether its annotations name this installation, which created or adopted it.
    pub made_here: bool,
    /// The long-lived id.
    pub meta: String,
    /// The owner.
    pub owner: String,
    /// Its phase, by name.
    pub phase: String,
    /// Its class.
    pub class: String,
    /// Digest of its start request, by its annotation; empty if it has none.
    pub digest: String,
    /// Generation of its placement, by its annotation.
    pub generation: u32,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// Result of comparing a record with a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Both exist and agree: the workspace is managed.
    Adopted,
    /// The record was written, and the resource is not there: it is being created, or its creation failed.
    Starting,
    /// The record's resource is gone. The record ends, or has ended.
    Finished,
    /// The record has ended and the resource still exists: it is being stopped.
    Ending,
    /// An owned resource without a record.
    Unknown,
    /// An owned resource whose record names another place.
    Elsewhere(ClusterName, Namespace),
    /// A resource of another manager or of none: ignored.
    Foreign,
    /// A record exists, but the resource still names another manager: its adoption was interrupted.
    Handover,
    /// A resource of another installation of Spaceport: ignored.
    OtherInstallation,
    /// The record has a former name of this cluster, or the name of a cluster that is not registered.
    Left(ClusterName),
    /// An owned resource with the name of a record of another start.
    Different,
    /// An owned pod whose resource is gone.
    PodLeft(LeftPod),
}

/// A pod without its Workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftPod {
    /// Its name.
    pub pod: String,
    /// Foreign finalizers on it.
    pub held_by: Vec<String>,
}

/// One workspace id in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The instance id, or the resource's name if that is not a valid id.
    pub workspace: String,
    /// The namespace.
    pub namespace: Namespace,
    /// Result of the comparison.
    pub standing: Standing,
    /// The long-lived id.
    pub meta: String,
    /// The owner.
    pub owner: String,
    /// The resource, if it exists.
    pub found: Option<Found>,
    /// When the record was written or ended.
    pub at: Option<Timestamp>,
}

impl Row {
    /// Whether the row is listed by default: record and resource differ, and the record did not end long ago.
    pub fn is_difference(&self, now: Timestamp) -> bool {
        match self.standing {
            Standing::Adopted => false,
            Standing::Finished => self.at.is_none_or(|at| now.duration_since(at) <= RECENT),
            _ => true,
        }
    }
}

/// Compares the resources of a registered cluster with records: those that name it, those with a former name of it
/// (`formerly`, none of which is registered now), and those of the ids found there. Sorted by namespace and id. Records that
/// were given up do not count.
pub fn compare(
    cluster: &ClusterName,
    formerly: &BTreeSet<ClusterName>,
    records: &[PlacementRecord],
    found: Vec<Found>,
) -> Vec<Row> {
    let records: Vec<&PlacementRecord> = records.iter().filter(|record| record.given_up.is_none()).collect();
    let by_id: BTreeMap<&str, &PlacementRecord> =
        records.iter().map(|record| (record.workspace.as_str(), *record)).collect();
    let mut seen = BTreeSet::new();
    let mut rows = Vec::with_capacity(found.len());
    for one in found {
        let record = by_id.get(one.name.as_str()).copied();
        let here = record.filter(|record| record.cluster == *cluster && record.namespace == one.namespace);
        let row = row(one, record, here, formerly);
        if here.is_some() || matches!(row.standing, Standing::Left(_)) {
            seen.extend(record.map(|record| record.workspace.clone()));
        }
        rows.push(row);
    }
    let absent = |record: &&PlacementRecord| !seen.contains(&record.workspace);
    let here = records.iter().copied().filter(|record| record.cluster == *cluster);
    rows.extend(here.filter(absent).map(absent_row));
    let before = records.iter().copied();
    let before = before.filter(|record| formerly.contains(&record.cluster) && record.is_live());
    rows.extend(before.filter(absent).map(left_row));
    by_place(rows)
}

/// Rows of a cluster that is not registered, from its records alone, by namespace and id.
pub fn left(records: &[PlacementRecord]) -> Vec<Row> {
    let live = records.iter().filter(|record| record.is_live());
    by_place(live.map(left_row).collect())
}

fn by_place(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| (&a.namespace, &a.workspace).cmp(&(&b.namespace, &b.workspace)));
    rows
}

fn left_row(record: &PlacementRecord) -> Row {
    let standing = Standing::Left(record.cluster.clone());
    Row { standing, at: Some(record.placed_at), ..absent_row(record) }
}

fn row(
    found: Found,
    record: Option<&PlacementRecord>,
    here: Option<&PlacementRecord>,
    formerly: &BTreeSet<ClusterName>,
) -> Row {
    let is_of = |record: &PlacementRecord| record.is_of(&found.digest, found.generation);
    // Its label was removed by hand: record and annotations still agree that it is owned.
    let lost_label = found.keeper == Keeper::Nobody && found.made_here && here.is_some_and(is_of);
    let keeper = if lost_label { &Keeper::Us } else { &found.keeper };
    let standing = match (keeper, here, record) {
        (Keeper::Us, Some(here), _) if !here.takes(&found.digest, found.generation) => Standing::Different,
        (Keeper::Us, Some(here), _) if here.is_live() => Standing::Adopted,
        (Keeper::Us, Some(_), _) => Standing::Ending,
        (Keeper::Us, None, None) => Standing::Unknown,
        (Keeper::Us, None, Some(other)) => {
            let moves = formerly.contains(&other.cluster) && other.namespace == found.namespace;
            if moves && other.is_live() && is_of(other) {
                Standing::Left(other.cluster.clone())
            } else {
                Standing::Elsewhere(other.cluster.clone(), other.namespace.clone())
            }
        }
        // Other records are of a start whose name was taken.
        (_, Some(here), _) if here.is_live() && here.digest.is_adopted() => Standing::Handover,
        (Keeper::Installation(_), ..) => Standing::OtherInstallation,
        (Keeper::Manager(_) | Keeper::Nobody, ..) => Standing::Foreign,
    };
    Row {
        workspace: found.name.clone(),
        namespace: found.namespace.clone(),
        standing,
        meta: found.meta.clone(),
        owner: found.owner.clone(),
        found: Some(found),
        at: here.map(changed_at),
    }
}

fn absent_row(record: &PlacementRecord) -> Row {
    Row {
        workspace: record.workspace.to_string(),
        namespace: record.namespace.clone(),
        standing: match record.state {
            RecordState::Placed => Standing::Starting,
            RecordState::Confirmed | RecordState::Ended { .. } => Standing::Finished,
        },
        meta: record.meta.to_string(),
        owner: record.owner.to_string(),
        found: None,
        // One that has not ended yet ends now.
        at: (record.state != RecordState::Confirmed).then(|| changed_at(record)),
    }
}

fn changed_at(record: &PlacementRecord) -> Timestamp {
    match record.state {
        RecordState::Ended { at, .. } => at,
        RecordState::Placed | RecordState::Confirmed => record.placed_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Digest;

    fn record(id: &str, cluster: &str, state: RecordState) -> PlacementRecord {
        PlacementRecord {
            workspace: id.parse().unwrap(),
            meta: format!("meta-{id}").parse().unwrap(),
            cluster: cluster.parse().unwrap(),
            ..PlacementRecord::sample(state)
        }
    }

    fn found(name: &str, keeper: Keeper) -> Found {
        Found {
            name: name.to_owned(),
            namespace: "workspaces".parse().unwrap(),
            made_here: keeper == Keeper::Us,
            keeper,
            meta: format!("meta-{name}"),
            owner: "jane".to_owned(),
            phase: "Running".to_owned(),
            class: "small".to_owned(),
            digest: String::new(),
            generation: 1,
            deleting: false,
        }
    }

    const NOON: Timestamp = Timestamp::constant(43_200, 0);
    const ENDED: RecordState = RecordState::Ended { at: NOON, expires: Timestamp::constant(99_999, 0) };

    fn standings(records: &[PlacementRecord], seen: Vec<Found>) -> Vec<(String, Standing)> {
        let rows = compare(&"eu-1".parse().unwrap(), &BTreeSet::new(), records, seen);
        rows.into_iter().map(|row| (row.workspace, row.standing)).collect()
    }

    #[test]
    fn a_resource_without_its_label_is_owned_if_record_and_annotations_agree() {
        let bare = || Found { made_here: true, ..found("a", Keeper::Nobody) };
        let of = |record: &PlacementRecord, found: Found| {
            standings(std::slice::from_ref(record), vec![found])[0].1.clone()
        };
        let live = record("a", "eu-1", RecordState::Confirmed);
        assert_eq!(of(&live, bare()), Standing::Adopted);
        assert_eq!(of(&record("a", "eu-1", ENDED), bare()), Standing::Ending);
        let adopted = PlacementRecord { digest: Digest::adopted(), ..live.clone() };
        assert_eq!(of(&adopted, bare()), Standing::Adopted);
        // Annotations that differ from the record prove nothing.
        assert_eq!(of(&live, Found { generation: 2, ..bare() }), Standing::Foreign);
        assert_eq!(of(&live, Found { digest: "f".repeat(64), ..bare() }), Standing::Foreign);
        assert_eq!(of(&live, Found { made_here: false, ..bare() }), Standing::Foreign);
        assert_eq!(of(&live, found("a", Keeper::Manager("other".into()))), Standing::Foreign);
        assert_eq!(of(&record("a", "us-1", RecordState::Confirmed), bare()), Standing::Foreign);
    }

    #[test]
    fn an_owned_resource_is_adopted_only_at_the_place_of_its_record() {
        let records = [
            record("a", "eu-1", RecordState::Confirmed),
            record("b", "us-1", RecordState::Confirmed),
            record("c", "eu-1", ENDED),
        ];
        let seen = ["a", "b", "c", "d"].map(|name| found(name, Keeper::Us)).to_vec();
        let elsewhere = Standing::Elsewhere("us-1".parse().unwrap(), "workspaces".parse().unwrap());
        let expected = [Standing::Adopted, elsewhere, Standing::Ending, Standing::Unknown];
        let told: Vec<Standing> =
            standings(&records, seen).into_iter().map(|(_, standing)| standing).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_record_without_its_resource_is_starting_or_finished() {
        let records = [
            record("a", "eu-1", RecordState::Placed),
            record("b", "eu-1", RecordState::Confirmed),
            record("c", "eu-1", ENDED),
            record("d", "us-1", RecordState::Confirmed),
        ];
        let told: Vec<Standing> =
            standings(&records, Vec::new()).into_iter().map(|(_, standing)| standing).collect();
        assert_eq!(told, [Standing::Starting, Standing::Finished, Standing::Finished]);
    }

    #[test]
    fn foreign_resources_are_ignored_unless_their_adoption_was_interrupted() {
        let begun = PlacementRecord { digest: Digest::adopted(), ..record("a", "eu-1", RecordState::Placed) };
        let records =
            [begun, record("b", "us-1", RecordState::Confirmed), record("e", "eu-1", RecordState::Placed)];
        let theirs = || Keeper::Manager("other".to_owned());
        let installation = Keeper::Installation("i".to_owned());
        let seen = vec![
            found("a", theirs()),
            found("b", theirs()),
            found("c", Keeper::Nobody),
            found("d", installation),
            found("e", theirs()),
        ];
        let told: Vec<Standing> =
            standings(&records, seen).into_iter().map(|(_, standing)| standing).collect();
        let expected = [
            Standing::Handover,
            Standing::Foreign,
            Standing::Foreign,
            Standing::OtherInstallation,
            Standing::Foreign,
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn the_same_id_in_another_namespace_is_another_resource() {
        let other = Found { namespace: "second".parse().unwrap(), ..found("a", Keeper::Us) };
        let records = [record("a", "eu-1", RecordState::Confirmed)];
        let told = standings(&records, vec![other, found("a", Keeper::Us)]);
        let elsewhere = Standing::Elsewhere("eu-1".parse().unwrap(), "workspaces".parse().unwrap());
        assert_eq!(told, [("a".to_owned(), elsewhere), ("a".to_owned(), Standing::Adopted)]);
    }

    #[test]
    fn matching_rows_and_old_ends_are_no_differences() {
        let records = [record("a", "eu-1", RecordState::Confirmed), record("b", "eu-1", ENDED)];
        let rows =
            compare(&"eu-1".parse().unwrap(), &BTreeSet::new(), &records, vec![found("a", Keeper::Us)]);
        let later = |hours| NOON + SignedDuration::from_hours(hours);
        let told = |now| rows.iter().map(|row| row.is_difference(now)).collect::<Vec<_>>();
        assert_eq!(told(later(0)), [false, true]);
        assert_eq!(told(later(2)), [false, false]);
    }

    #[test]
    fn records_of_an_unregistered_cluster_are_listed_as_left() {
        let records = [record("a", "eu-1", RecordState::Confirmed), record("b", "eu-1", ENDED)];
        let rows = left(&records);
        assert_eq!(rows.len(), 1);
        let left = Standing::Left("eu-1".parse().unwrap());
        assert_eq!((rows[0].workspace.as_str(), &rows[0].standing), ("a", &left));
    }

    #[test]
    fn records_that_were_given_up_do_not_count_when_their_cluster_returns() {
        let given_up = |id: &str| {
            let record = record(id, "eu-1", RecordState::Confirmed);
            record.given_up("it burned down".to_owned(), 0, NOON, Timestamp::MAX)
        };
        let told = standings(&[given_up("a"), given_up("gone")], vec![found("a", Keeper::Us)]);
        assert_eq!(told, [("a".to_owned(), Standing::Unknown)]);
    }

    #[test]
    fn live_records_under_a_former_name_of_the_cluster_are_left_and_only_of_the_same_start() {
        let formerly = BTreeSet::from(["old".parse().unwrap()]);
        let records = [
            record("a", "old", RecordState::Confirmed),
            record("b", "old", RecordState::Confirmed),
            record("c", "old", RecordState::Placed),
            record("d", "old", ENDED),
            record("e", "us-1", RecordState::Confirmed),
        ];
        let other = Found { digest: "f".repeat(64), ..found("b", Keeper::Us) };
        let seen = vec![found("a", Keeper::Us), other, found("d", Keeper::Us), found("e", Keeper::Us)];
        let rows = compare(&"new".parse().unwrap(), &formerly, &records, seen);
        let told: Vec<(&str, &Standing)> =
            rows.iter().map(|row| (row.workspace.as_str(), &row.standing)).collect();
        let left = Standing::Left("old".parse().unwrap());
        let at = |name: &str| Standing::Elsewhere(name.parse().unwrap(), "workspaces".parse().unwrap());
        let (old, us) = (at("old"), at("us-1"));
        // A missing resource is listed, too: its record moves, and ends.
        assert_eq!(told, [("a", &left), ("b", &old), ("b", &left), ("c", &left), ("d", &old), ("e", &us)]);
    }

    #[test]
    fn a_resource_of_another_start_with_the_name_of_a_record_is_different() {
        let other = Found { digest: "f".repeat(64), ..found("a", Keeper::Us) };
        for state in [RecordState::Placed, RecordState::Confirmed, ENDED] {
            let told = standings(&[record("a", "eu-1", state)], vec![other.clone()]);
            assert_eq!(told, [("a".to_owned(), Standing::Different)]);
        }
    }
}
