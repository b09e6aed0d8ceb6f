//! Which workspaces of a cluster an admin may take over, and which stray resources may be discarded. Pure: what is there
//! and what is recorded is told by [`super::diff`].

use super::diff::{Found, Keeper, Row, Standing};
use super::names::{MetaId, OwnerId, WorkspaceId};

/// How a workspace is adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It is ours: a record is all that it lacks.
    Claim,
    /// Another manager's: recorded, and then its labels are changed.
    TakeOver,
    /// Ours, and its record names the cluster as it was called before: the record moves. Also where the resource is gone:
    /// then the record ends.
    Move,
}

/// Whose workspaces are taken over beside our own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct From {
    /// Those of other kinds of managers, and those that name none.
    pub others: bool,
    /// Those of this installation of Spaceport.
    pub installation: Option<String>,
}

/// Names of a workspace that can be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The instance id.
    pub id: WorkspaceId,
    /// The long-lived id.
    pub meta: MetaId,
    /// The owner.
    pub owner: OwnerId,
}

/// Whether a workspace is looked at where none is named: it has no record, or is only half adopted.
pub fn is_candidate(row: &Row) -> bool {
    matches!(
        row.standing,
        Standing::Unknown
            | Standing::Elsewhere(..)
            | Standing::Foreign
            | Standing::Handover
            | Standing::Left(_)
            | Standing::OtherInstallation
    )
}

/// How a workspace would be adopted, or why not, in words that follow its name.
pub fn way(row: &Row, from: &From) -> Result<Way, String> {
    if matches!(row.standing, Standing::Left(_)) {
        return Ok(Way::Move);
    }
    let Some(found) = &row.found else { return Err("has no resource there".to_owned()) };
    let way = match &row.standing {
        Standing::Unknown => Way::Claim,
        Standing::Handover => Way::TakeOver,
        Standing::Foreign if from.others => Way::TakeOver,
        Standing::OtherInstallation if is_named(&found.keeper, from) => Way::TakeOver,
        Standing::Foreign => {
            return Err(format!("{}; --others takes such workspaces over", kept_by(found)));
        }
        Standing::Elsewhere(cluster, namespace) => {
            return Err(format!("is recorded in namespace {namespace} of cluster {cluster}"));
        }
        Standing::OtherInstallation => {
            let id = installation(&found.keeper);
            return Err(format!("{}; --installation {id} takes such workspaces over", kept_by(found)));
        }
        Standing::Different => return Err("has the name of a record that is of another start".to_owned()),
        Standing::Ending => return Err("has ended and is being stopped".to_owned()),
        Standing::Adopted
        | Standing::Starting
        | Standing::Finished
        | Standing::Left(_)
        | Standing::PodLeft(_) => {
            return Err("has a record already".to_owned());
        }
    };
    if found.deleting {
        return Err("is being deleted".to_owned());
    }
    names(found).map(|_| way)
}

/// The names of a workspace, or which of them keeps no rule of ours.
pub fn names(found: &Found) -> Result<Names, String> {
    let bad = |error: super::names::Error| format!("cannot be recorded: its {error}");
    Ok(Names {
        id: found.name.parse().map_err(bad)?,
        meta: found.meta.parse().map_err(bad)?,
        owner: found.owner.parse().map_err(bad)?,
    })
}

/// Whether a resource may be discarded, or why not, in words that follow its name.
pub fn discardable(row: &Row) -> Result<(), String> {
    let Some(found) = &row.found else { return Err("has no resource there".to_owned()) };
    match row.standing {
        Standing::Unknown | Standing::Elsewhere(..) | Standing::Different => Ok(()),
        // What came back with a restored cluster stays until an admin discards it; anything else ends no otherwise than it would.
        Standing::Ending if !found.deleting => Ok(()),
        Standing::Foreign | Standing::Handover | Standing::OtherInstallation => {
            Err(format!("{} and is never discarded", kept_by(found)))
        }
        Standing::Left(_) => Err("has a record of the cluster's former name: adopt it first".to_owned()),
        Standing::Ending => Err("has ended and is being deleted".to_owned()),
        Standing::Adopted | Standing::Starting | Standing::Finished | Standing::PodLeft(_) => {
            Err("has a record: stop it instead".to_owned())
        }
    }
}

fn kept_by(found: &Found) -> String {
    match &found.keeper {
        Keeper::Manager(manager) => format!("belongs to the manager {manager}"),
        Keeper::Nobody => "names no manager, which others take for theirs".to_owned(),
        Keeper::Installation(id) => format!("belongs to the installation {id} of Spaceport"),
        Keeper::Us => "belongs to Spaceport".to_owned(),
    }
}

fn installation(keeper: &Keeper) -> &str {
    match keeper {
        Keeper::Installation(id) => id,
        _ => "",
    }
}

fn is_named(keeper: &Keeper, from: &From) -> bool {
    from.installation.as_deref().is_some_and(|named| named == installation(keeper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(standing: Standing, keeper: Keeper) -> Row {
        let namespace: super::super::names::Namespace = "workspaces".parse().unwrap();
        let found = Found {
            name: "a".to_owned(),
            namespace: namespace.clone(),
            made_here: keeper == Keeper::Us,
            keeper,
            meta: "meta-a".to_owned(),
            owner: "jane".to_owned(),
            phase: "Running".to_owned(),
            class: "small".to_owned(),
            digest: String::new(),
            generation: 1,
            deleting: false,
        };
        Row {
            workspace: "a".to_owned(),
            namespace,
            standing,
            meta: found.meta.clone(),
            owner: found.owner.clone(),
            found: Some(found),
            at: None,
        }
    }

    const OURS: From = From { others: false, installation: None };

    fn others() -> From {
        From { others: true, installation: None }
    }

    fn theirs() -> Keeper {
        Keeper::Manager("other".to_owned())
    }

    #[test]
    fn a_stray_of_ours_is_claimed_and_another_managers_is_taken_over_only_where_asked_for() {
        assert_eq!(way(&row(Standing::Unknown, Keeper::Us), &OURS), Ok(Way::Claim));
        assert_eq!(way(&row(Standing::Foreign, theirs()), &others()), Ok(Way::TakeOver));
        assert_eq!(way(&row(Standing::Foreign, Keeper::Nobody), &others()), Ok(Way::TakeOver));
        let refused = way(&row(Standing::Foreign, theirs()), &OURS).unwrap_err();
        assert!(refused.contains("manager other") && refused.contains("--others"), "{refused}");
        // What was begun is gone on with.
        assert_eq!(way(&row(Standing::Handover, theirs()), &OURS), Ok(Way::TakeOver));
    }

    #[test]
    fn another_installations_workspaces_are_taken_over_only_from_the_one_that_is_named() {
        let theirs = row(Standing::OtherInstallation, Keeper::Installation("a".to_owned()));
        let from = |id: &str| From { others: true, installation: Some(id.to_owned()) };
        assert_eq!(way(&theirs, &from("a")), Ok(Way::TakeOver));
        for from in [from("b"), from(""), others(), OURS] {
            let refused = way(&theirs, &from).unwrap_err();
            assert!(refused.contains("--installation a takes"), "{refused}");
        }
    }

    #[test]
    fn a_record_of_the_clusters_former_name_moves_whether_its_resource_is_there_or_not() {
        let mut left = row(Standing::Left("old".parse().unwrap()), Keeper::Us);
        assert_eq!(way(&left, &OURS), Ok(Way::Move));
        left.found = None;
        assert_eq!(way(&left, &OURS), Ok(Way::Move));
    }

    #[test]
    fn what_has_a_record_is_not_adopted() {
        let elsewhere = Standing::Elsewhere("us-1".parse().unwrap(), "ws".parse().unwrap());
        for standing in [Standing::Adopted, Standing::Ending, Standing::Different, elsewhere] {
            assert!(way(&row(standing.clone(), Keeper::Us), &others()).is_err(), "{standing:?}");
        }
    }

    #[test]
    fn what_is_being_deleted_or_cannot_be_named_is_not_adopted() {
        let with = |change: fn(&mut Found)| {
            let mut row = row(Standing::Unknown, Keeper::Us);
            row.found.as_mut().map(change).unwrap();
            way(&row, &others()).unwrap_err()
        };
        assert_eq!(with(|found| found.deleting = true), "is being deleted");
        assert!(with(|found| found.name = "a.b".to_owned()).contains("workspace id must be"));
        assert!(with(|found| found.meta = "Meta".to_owned()).contains("meta id must be"));
        assert!(with(|found| found.owner = String::new()).contains("owner must be"));
    }

    #[test]
    fn only_resources_of_ours_that_no_live_record_places_there_are_discarded() {
        let elsewhere = Standing::Elsewhere("us-1".parse().unwrap(), "ws".parse().unwrap());
        for standing in [Standing::Unknown, Standing::Different, Standing::Ending, elsewhere] {
            assert_eq!(discardable(&row(standing, Keeper::Us)), Ok(()));
        }
        for (standing, keeper) in [
            (Standing::Adopted, Keeper::Us),
            (Standing::Left("old".parse().unwrap()), Keeper::Us),
            (Standing::Foreign, theirs()),
            (Standing::Foreign, Keeper::Nobody),
            (Standing::Handover, theirs()),
            (Standing::OtherInstallation, Keeper::Installation("i".to_owned())),
        ] {
            assert!(discardable(&row(standing.clone(), keeper)).is_err(), "{standing:?}");
        }
        let mut deleted = row(Standing::Ending, Keeper::Us);
        deleted.found.as_mut().unwrap().deleting = true;
        assert!(discardable(&deleted).is_err());
    }
}
