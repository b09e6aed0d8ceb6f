//! State in etcd that outlives every replica: the election, registered clusters, and placement records.
//!
//! # Keys
//! This is the one place that documents them. All are below a prefix, `/spaceport/` by default. Values are JSON
//! unless noted otherwise; `v` is the schema version of a value, and an unknown `v` is an error that names the key.
//! The "version" of a key is its etcd `mod_revision`.
//!
//! | key | value | written by |
//! |---|---|---|
//! | `installation` | `{v:1, id, incarnation, secret, opened}`: a random UUID, a count from 1, 32 sealed random bytes, who opened the last 20 incarnations | the first replica, by create-if-absent; then the leader |
//! | `leader/<lease id, 16 hex digits>` | `{v:1, replica, address}`: a candidate; under its lease | each replica for itself |
//! | `clusters/<name>/spec` | `{v:1, spec, apiServer, kubeconfig}`: the specification, and the sealed kubeconfig | the leader |
//! | `clusters/<name>/status` | `{v:1, status}`: the last observed status, opaque to this crate | the leader |
//! | `addresses/<API address, percent-encoded>` | the cluster's name as plain text: makes API addresses unique | the leader |
//! | `departed/<name>` | `{v:1, clusterUid, at, status}`: a former cluster, which was deregistered while records name it, and its last status | the leader |
//! | `placements/<workspace id>` | `{v:1, …}`: the fields of a [`PlacementRecord`](domain::record::PlacementRecord) | the leader |
//! | `drains/<cluster>` | `{v:1, …}`: the fields of a [`Drain`](domain::drain::Drain); exists only while the cluster is registered | the leader |
//! | `meta/<meta id>` | the workspace id as plain text: exists exactly while a live placement has this meta id | the leader |
//! | `hosts/<meta id>/<other meta id>` | the workspace id as plain text: a live placement has the other meta id, and its URL is that of a port of the first; see `placements/claim.rs` | the leader |
//! | `decisions/<workspace id>` | `{v:1, …}`: an [`Explanation`](domain::placement::explain::Explanation); under a lease of some hours | the leader |
//!
//! # Who may write
//! The candidate whose `leader/` key is the oldest leads; the revision that created the key is the *epoch* of its
//! [`Term`]. Every write of a leader is one transaction that etcd applies only while that key exists with that revision,
//! and it is not sent once the term has ended by this replica's monotonic clock. So a late write of an earlier leader
//! changes nothing.
//!
//! Every change of an existing key compares the version that the change was decided on. Changes that belong together (a
//! placement and its meta id, a cluster and its address) are one transaction.
//!
//! # Errors
//! Every call ends within `Options::request_timeout`. After [`Error::Ambiguous`], a write may or may not have been applied;
//! after all other errors it was not. Reads fail over to the next endpoint; writes do so only if they certainly were not sent.
//!
//! # Assumptions and caveats
//! * etcd 3.5.8 or later: earlier ones could answer a progress request before older events.
//! * The monotonic clock may stop while a machine is suspended. A resumed replica may consider its term valid for up to
//!   `stop_after`; etcd still rejects its writes, and so do the fences of member clusters.
//! * Losing the sealing key loses the kubeconfigs and the installation's secret, nothing else.

mod client;
mod clusters;
mod decisions;
mod drains;
mod election_thread;
mod error;
mod failure;
mod former_clusters;
mod guard;
mod heartbeat;
mod installation;
mod keys;
mod leader;
mod lease;
mod list_watch;
mod meter;
mod mirror;
mod mirrored;
mod placements;
mod registration;
mod reseal;
mod seal;
mod term;
mod timing;
mod value;

pub use client::{Options, Store, Tls, User};
pub use clusters::normal_address;
pub use election_thread::ElectionThreadError;
pub use error::Error;
pub use former_clusters::FormerCluster;
pub use installation::Installation;
pub use leader::{Election, Leader, Leadership, Replica};
pub use meter::EtcdMeter;
pub use mirror::{Mirror, MirrorEvent, Progress, Seen};
pub use mirrored::{Item, Mirrored};
pub use placements::Claim;
pub use registration::{ClusterEntry, NewCluster, Registration, StoredRegistration};
pub use seal::{Error as SealError, Sealed, Sealer, SealingKey};
pub use term::Term;
pub use timing::Timing;

/// Result of the store's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;
