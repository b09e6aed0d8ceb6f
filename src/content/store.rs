//! Object stores that hold the content of workspaces: names, uploads that resume, proofs, heads, downloads, presigned URLs,
//! deletion and pruning. `docs/protocols/content-heads.md` and `docs/protocols/content-uploads.md` explain the protocols.
//!
//! A [`Store`] is opened from [`Settings`]. Objects are addressed by [`Key`]s, which only [`names`] builds, each below one
//! owner. [`Store::upload`] returns what it sent, [`Store::prove`] turns that into a [`Proven`], and only with a `Proven` can
//! [`Store::write_head`] make a backup the newest one.

pub use blobs::BlobUsage;
pub use connector::install_tls;
pub use delete::Deleted;
pub use digest::Digest;
pub use download::{Download, DownloadOptions};
pub use error::{At, Error, Fault, NotProven};
pub use head::{Head, Tail};
pub use heads::{Backup, Backups, Choice, HeadMeta, ProvenHead};
pub use names::{BackupId, BlobName, Format, Key, ObjectName, Prefix, WorkspaceKeys};
pub use open::Store;
pub use presign::Presigned;
pub use prove::{Expectation, Proof, Proven, Written};
pub use prune::{ListedArchive, ListedHead, PruneInput, PrunePlan, PrunePolicy, Pruned};
pub use retry::RetryPolicy;
pub use settings::{Settings, UploadLimits};
pub use upload::{Journal, NoJournal, PartDone, Sums, UploadOptions, UploadState, Uploaded, Whole};

mod blobs;
mod buckets;
pub mod catalog;
mod conditional;
mod connector;
mod credentials;
mod delete;
mod digest;
mod download;
mod error;
mod folder;
mod head;
mod heads;
mod listing;
mod logs;
pub mod names;
mod open;
mod plugins;
mod presign;
mod problem;
mod prove;
mod prune;
mod retry;
mod settings;
mod upload;

#[cfg(test)]
mod tests;
