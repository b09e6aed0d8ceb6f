//! Requests about stored content.

use tonic::Status;

use super::Problems;
use domain::names::{MetaId, OwnerId, WorkspaceId};
use federation::stored::WorkspaceKeys;
use federation::stored::blobs::BlobSelection;
use proto::contentservice;
use proto::spaceport::v1;

/// Entries of a page if the request names no number.
const PAGE: usize = 100;
/// Entries of a page at most.
const PAGE_MAX: usize = 1_000;

/// Whose backups a `ListBackups` call asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupsOf {
    /// Of an instance, by its record, and the owner if the request names one.
    Instance(WorkspaceId, Option<OwnerId>),
    /// Of a workspace.
    Workspace(OwnerId, MetaId),
}

/// Whose backups, and how many of them.
pub fn list_backups(request: &v1::ListBackupsRequest) -> Result<(BackupsOf, usize), Status> {
    let v1::ListBackupsRequest { id, owner, meta_id, page_size, page_token: _ } = request;
    let mut problems = Problems::default();
    let of = if id.is_empty() {
        if owner.is_empty() && meta_id.is_empty() {
            problems.add("id", "is required, or owner and meta_id");
        }
        let (owner, meta) = (problems.parse("owner", owner), problems.parse("meta_id", meta_id));
        owner.zip(meta).map(|(owner, meta)| BackupsOf::Workspace(owner, meta))
    } else {
        if !meta_id.is_empty() {
            problems.add("meta_id", "cannot be used together with id");
        }
        let owner = problems.optional("owner", owner);
        problems.parse("id", id).map(|id| BackupsOf::Instance(id, owner))
    };
    let size = match usize::try_from(*page_size) {
        Ok(0) => PAGE,
        Ok(size) if size <= PAGE_MAX => size,
        _ => {
            problems.add("page_size", format_args!("must be at most {PAGE_MAX}"));
            PAGE_MAX
        }
    };
    problems.finish(of.map(|of| (of, size)))
}

/// A stored workspace.
pub fn stored_workspace(owner: &str, id: &str) -> Result<WorkspaceKeys, Status> {
    let mut problems = Problems::default();
    let (owner, id) = (problems.parse("owner_id", owner), problems.parse("workspace_id", id));
    problems.finish(owner.zip(id).map(|(owner, id)| WorkspaceKeys::new(owner, id)))
}

/// An instance of a stored workspace.
pub fn stored_instance(
    owner: &str,
    id: &str,
    instance: &str,
) -> Result<(WorkspaceKeys, WorkspaceId), Status> {
    let mut problems = Problems::default();
    let (owner, id) = (problems.parse("owner_id", owner), problems.parse("workspace_id", id));
    let instance = problems.parse("instance_id", instance);
    let keys = owner.zip(id).map(|(owner, id)| WorkspaceKeys::new(owner, id));
    problems.finish(keys.zip(instance))
}

/// Owner and blobs of a `Delete` call.
pub fn delete_blobs(request: contentservice::DeleteRequest) -> Result<(OwnerId, BlobSelection), Status> {
    use contentservice::delete_request::Name;
    let mut problems = Problems::default();
    let owner = problems.parse("owner_id", &request.owner_id);
    let selection = match request.name {
        Some(Name::Exact(name)) => Some(BlobSelection::Exact(name)),
        Some(Name::Prefix(prefix)) => Some(BlobSelection::Below(prefix)),
        None => {
            problems.add("name", "is required: exact or prefix");
            None
        }
    };
    problems.finish(owner.zip(selection))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(id: &str, owner: &str, meta_id: &str, page_size: u32) -> v1::ListBackupsRequest {
        let [id, owner, meta_id] = [id, owner, meta_id].map(str::to_owned);
        v1::ListBackupsRequest { id, owner, meta_id, page_size, page_token: String::new() }
    }

    #[test]
    fn backups_are_of_an_instance_or_of_a_workspace_of_an_owner() {
        let of = |id, owner, meta| list_backups(&list(id, owner, meta, 0)).map(|(of, _)| of);
        let id = "i-1".parse::<WorkspaceId>().unwrap();
        let jane: OwnerId = "jane".parse().unwrap();
        assert_eq!(of("i-1", "", "").unwrap(), BackupsOf::Instance(id.clone(), None));
        assert_eq!(of("i-1", "jane", "").unwrap(), BackupsOf::Instance(id, Some(jane.clone())));
        assert_eq!(of("", "jane", "ws").unwrap(), BackupsOf::Workspace(jane, "ws".parse().unwrap()));
        for (id, owner, meta, field) in [
            ("", "", "", "id"),
            ("", "jane", "", "meta_id"),
            ("", "", "ws", "owner"),
            ("i-1", "", "ws", "meta_id"),
            ("i-1", "../jane", "", "owner"),
            ("", "jane", "..", "meta_id"),
        ] {
            let rejected = of(id, owner, meta).unwrap_err();
            assert!(rejected.message().contains(field), "{rejected}");
        }
    }

    #[test]
    fn a_page_has_a_hundred_entries_unless_the_request_says_up_to_a_thousand() {
        let size = |size| list_backups(&list("i-1", "", "", size)).map(|(_, size)| size);
        assert_eq!((size(0).unwrap(), size(1).unwrap(), size(1000).unwrap()), (100, 1, 1000));
        assert!(size(1001).unwrap_err().message().contains("page_size"));
    }

    #[test]
    fn blobs_to_delete_are_named() {
        use contentservice::delete_request::Name;
        let request = |name| contentservice::DeleteRequest { owner_id: "jane".to_owned(), name };
        let below = delete_blobs(request(Some(Name::Prefix("a".to_owned())))).unwrap().1;
        assert_eq!(below, BlobSelection::Below("a".to_owned()));
        assert!(delete_blobs(request(None)).unwrap_err().message().contains("exact or prefix"));
    }
}
