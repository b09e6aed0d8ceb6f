//! What must outlive every replica, in etcd: who leads, which clusters there are, and where each workspace is placed.
//!
//! # Keys
//! This is the one place that documents them. All are below a prefix, `/spaceport/` unless configured. Values are JSON
//! unless said otherwise; `v` is the version of a value's form, and a `v` that we do not know is an error that names the
//! key, never a guess. "Version" of a key means its etcd `mod_revision`.
//!
//! | key | value | written by |
//! |---|---|---|
//! | `installation` | `{v:1, id, incarnation, secret, opened}`: a random UUID, a count from 1, 32 random bytes sealed, who opened the last 20 incarnations | the first replica ever, by create-if-absent; then the leader |
//! | `leader/<lease id, 16 hex digits>` | `{v:1, replica, address}`: a candidate; under its lease | each replica, for itself |
//! | `clusters/<name>/spec` | `{v:1, spec, apiServer, kubeconfig}`: what the admin wants, kubeconfig sealed | the leader |
//! | `clusters/<name>/status` | `{v:1, status}`: what was last observed, in a form this room does not look into | the leader |
//! | `addresses/<API address, percent-encoded>` | the cluster's name, plain: makes API addresses unique | the leader |
//! | `departed/<name>` | `{v:1, clusterUid, at, status}`: which cluster a name stood for that was taken out while records name it, and its last status | the leader |
//! | `placements/<workspace id>` | `{v:1, …}`: the fields of a [`PlacementRecord`](domain::record::PlacementRecord) | the leader |
//! | `drains/<cluster>` | `{v:1, …}`: the fields of a [`Drain`](domain::drain::Drain); exists only while the cluster is registered | the leader |
//! | `meta/<meta id>` | the workspace id, plain: exists exactly while a live placement has this meta id | the leader |
//! | `hosts/<meta id>/<other meta id>` | the workspace id, plain: a live placement has the other meta id, and its URL is that of a port of the first; see `placements/claim.rs` | the leader |
//! | `decisions/<workspace id>` | `{v:1, …}`: an [`Explanation`](domain::placement::explain::Explanation); under a lease of some hours | the leader |
//!
//! # Who may write
//! The candidate whose `leader/` key is the oldest leads; the revision that created the key is the *epoch* of its
//! [`Term`]. Every write of a leader is one transaction that etcd applies only while that key exists with that revision,
//! and it is not even sent once the term has run out on this replica's own monotonic clock. So a write that arrives late
//! from a leader that was replaced changes nothing.
//!
//! Every change of an existing key compares the version that the change was decided on. Changes that belong together (a
//! placement and its meta id, a cluster and its address) are one transaction, so nothing is ever half-written.
//!
//! # Answers
//! Every call ends within `Options::request_timeout`. [`Error::Ambiguous`] means that a write may or may not have been
//! applied; all other errors mean that it was not. Reads move on to the next endpoint by themselves; a write does so only
//! where it certainly was not sent.
//!
//! # Assumptions and caveats
//! * etcd 3.5.8 or later: earlier ones could answer a progress request before older events.
//! * The monotonic clock may stand still while a whole machine is suspended. A replica resumed that way may believe in its
//!   term for up to `stop_after`; its etcd writes are still refused, and so are its cluster writes by the fence.
//! * Losing the sealing key loses the kubeconfigs and the installation's secret, nothing else.

mod apart;
mod backoff;
mod client;
mod clusters;
mod decisions;
mod departures;
mod drains;
mod error;
mod failure;
mod follow;
mod guard;
mod installation;
mod keys;
mod leader;
mod lease;
mod meter;
mod mirror;
mod placements;
mod reseal;
mod seal;
mod term;
mod value;

pub use apart::Fallen;
pub use client::{Options, Store, Tls, User};
pub use clusters::{ClusterEntry, NewCluster, Registration, StoredRegistration, normal_address};
pub use departures::Departure;
pub use error::Error;
pub use installation::Installation;
pub use leader::{Election, Leader, Leadership, Replica, Timing};
pub use meter::EtcdMeter;
pub use mirror::{Item, Mirror, MirrorEvent, Mirrored, Progress, Seen};
pub use placements::Claim;
pub use seal::{Error as SealError, Sealed, Sealer, SealingKey};
pub use term::Term;

/// What this room's calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
