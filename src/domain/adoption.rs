//! Which workspaces of a cluster an admin may adopt, and which orphans may be discarded. Pure, over the rows of
//! [`super::diff`].

use super::diff::{Found, Keeper, Row, Standing};
use super::names::{MetaId, OwnerId, WorkspaceId};

/// How a workspace is adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// This installation owns it, and only the record is missing.
    Claim,
    /// Another manager owns it: a record is written, then its labels are changed.
    TakeOver,
    /// This installation owns it, and its record has a former name of the cluster: the record moves. If the resource is gone,
    /// the record then ends.
    Move,
}

/// Whose workspaces are adopted, in addition to those of this installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct From {
    /// Those of managers other than Spaceport, and those without a manager.
    pub others: bool,
    /// Those of another installation of Spaceport, by its id.
    pub installation: Option<String>,
}

/// Names of a workspace, valid for a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The instance id.
    pub id: WorkspaceId,
    /// The long-lived id.
    pub meta: MetaId,
    /// The owner.
    pub owner: OwnerId,
}

/// Whether an adoption without explicit names considers the workspace: it has no record, or was adopted only partly.
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

/// How a workspace would be adopted. The error is the rest of a sentence that begins with its name.
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

/// The names of a workspace, or which of them is invalid.
pub fn names(found: &Found) -> Result<Names, String> {
    let bad = |error: super::names::Error| format!("cannot be recorded: its {error}");
    Ok(Names {
        id: found.name.parse().map_err(bad)?,
        meta: found.meta.parse().map_err(bad)?,
        owner: found.owner.parse().map_err(bad)?,
    })
}

/// Whether a resource may be discarded. The error is the rest of a sentence that begins with its name.
pub fn discardable(row: &Row) -> Result<(), String> {
    let Some(found) = &row.found else { return Err("has no resource there".to_owned()) };
    match row.standing {
        Standing::Unknown | Standing::Elsewhere(..) | Standing::Different => Ok(()),
        // A resource that came back with a restored cluster stays until an admin discards it. Other ended ones are stopped
        // anyway.
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
        Keeper::Nobody => "names no manager, so other managers treat it as theirs".to_owned(),
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
    fn an_orphan_is_claimed_and_a_foreign_resource_is_taken_over_only_on_request() {
        assert_eq!(way(&row(Standing::Unknown, Keeper::Us), &OURS), Ok(Way::Claim));
        assert_eq!(way(&row(Standing::Foreign, theirs()), &others()), Ok(Way::TakeOver));
        assert_eq!(way(&row(Standing::Foreign, Keeper::Nobody), &others()), Ok(Way::TakeOver));
        let refused = way(&row(Standing::Foreign, theirs()), &OURS).unwrap_err();
        assert!(refused.contains("manager other") && refused.contains("--others"), "{refused}");
        // An adoption that was begun continues.
        assert_eq!(way(&row(Standing::Handover, theirs()), &OURS), Ok(Way::TakeOver));
    }

    #[test]
    fn workspaces_of_another_installation_are_taken_over_only_if_it_is_named() {
        let theirs = row(Standing::OtherInstallation, Keeper::Installation("a".to_owned()));
        let from = |id: &str| From { others: true, installation: Some(id.to_owned()) };
        assert_eq!(way(&theirs, &from("a")), Ok(Way::TakeOver));
        for from in [from("b"), from(""), others(), OURS] {
            let refused = way(&theirs, &from).unwrap_err();
            assert!(refused.contains("--installation a takes"), "{refused}");
        }
    }

    #[test]
    fn a_record_with_a_former_name_of_the_cluster_moves_with_or_without_its_resource() {
        let mut left = row(Standing::Left("old".parse().unwrap()), Keeper::Us);
        assert_eq!(way(&left, &OURS), Ok(Way::Move));
        left.found = None;
        assert_eq!(way(&left, &OURS), Ok(Way::Move));
    }

    #[test]
    fn workspaces_with_a_record_are_not_adopted() {
        let elsewhere = Standing::Elsewhere("us-1".parse().unwrap(), "ws".parse().unwrap());
        for standing in [Standing::Adopted, Standing::Ending, Standing::Different, elsewhere] {
            assert!(way(&row(standing.clone(), Keeper::Us), &others()).is_err(), "{standing:?}");
        }
    }

    #[test]
    fn workspaces_that_are_being_deleted_or_have_invalid_names_are_not_adopted() {
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
    fn only_owned_resources_without_a_live_record_are_discarded() {
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
