//! The state of an upload that has not ended, as an agent keeps it.

use serde::{Deserialize, Serialize};

use crate::store::digest::Digest;

/// What is known of an upload that has not ended. An agent keeps it in its state file, and resumes the upload or aborts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadState {
    /// Version of this form.
    pub version: u32,
    /// Path of the object below its owner.
    pub key: String,
    /// The store's id of the upload.
    pub upload_id: String,
    /// Bytes of every part but the last.
    pub part_size: u64,
    /// Parts that the store has, by index; not necessarily without gaps.
    pub parts: Vec<PartDone>,
    /// Set once everything was sent, before the store is asked to make the object.
    pub whole: Option<Whole>,
}

/// A part that the store has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartDone {
    /// Index, from 0.
    pub index: u64,
    /// Its bytes.
    pub size: u64,
    /// Its BLAKE3 digest.
    pub digest: Digest,
    /// Its MD5 digest in hexadecimal, which most stores answer as ETag.
    pub md5: String,
    /// The store's name of this part; its ETag in S3 and GCS.
    pub id: String,
}

/// Size and digest of the whole object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// Its bytes.
    pub size: u64,
    /// Its BLAKE3 digest.
    pub digest: Digest,
}

impl UploadState {
    pub(super) const VERSION: u32 = 1;

    /// Bytes that the store has.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.size).sum()
    }

    pub(super) fn part(&self, index: u64) -> Option<&PartDone> {
        self.parts.iter().find(|part| part.index == index)
    }

    pub(super) fn record(&mut self, part: PartDone) {
        self.parts.retain(|known| known.index != part.index);
        let at = self.parts.partition_point(|known| known.index < part.index);
        self.parts.insert(at, part);
    }
}
