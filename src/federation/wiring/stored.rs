//! The use cases about stored content.

use content::store::Settings;

use super::base::Base;
use crate::federation::Stored;
use crate::stored::backups::Backups;
use crate::stored::blobs::Blobs;
use crate::stored::deletion::Deletion;
use crate::stored::objects::Objects;
use crate::stored::reads::StoredReads;

pub(super) fn stored(base: &Base, content: Option<Settings>) -> Stored {
    let objects = Objects::new(content);
    Stored {
        backups: Backups::new(objects.clone(), base.index.clone()),
        reads: StoredReads::new(objects.clone()),
        blobs: Blobs::new(objects.clone()),
        deletion: Deletion::new(objects, base.store.clone()),
    }
}
