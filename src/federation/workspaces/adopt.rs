//! What an admin does about workspaces without a record: adopting and discarding.
//!
//! *Flow.* A plan from [`crate::workspaces::diff`]; each workspace is then looked at again under its lock, by the apiserver's word.
//! One of ours is claimed: one transaction in etcd. One of another manager's is recorded as placed, then its pods name
//! us, then its secrets, then its Workspace ([`take_over`]); likewise one of another installation of Spaceport. One whose record names the cluster
//! as it was called before keeps its record, which moves ([`relocate`]). *Guarantees.* A cut-off at any point leaves a state
//! that a repeat goes on from. Of others' objects nothing is written before what tells that they are at work was read and is
//! dead ([`rivals`]).

mod adopting;
pub(crate) mod claims;
mod discard;
mod outcome;
pub(crate) mod relocate;
mod rivals;
pub(crate) mod site;
mod take_over;
mod taken;

pub use self::adopting::{Adopting, Adoption};
pub use self::discard::{Discard, Discarding};
pub use self::outcome::{MOST, Outcome};
