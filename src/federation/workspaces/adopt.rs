//! Adopting and discarding workspaces that have no placement record.
//!
//! *Flow.* A plan comes from [`crate::workspaces::diff`]; each workspace is then read again under its lock,
//! from its apiserver. An orphan of this installation is claimed by one transaction in etcd. A workspace of
//! another manager, or of another installation of Spaceport, is first recorded as placed; then its pods,
//! its secrets and last its Workspace are labelled as managed here ([`take_over`]). A workspace whose
//! record names the cluster by a former name keeps its record, which moves ([`relocate`]). *Guarantees.* A
//! call that is cut off at any point leaves a state that a repeated call continues from. Objects of others
//! are written only after the evidence that their manager is at work was read and found expired
//! ([`rivals`]).

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
