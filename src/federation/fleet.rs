//! The member clusters of this replica. Each has its own client, watches, controllers and tasks, and shares
//! none of them.

pub mod callbacks;
mod canary;
mod candidacy;
mod candidates;
mod connect;
mod connected;
mod gate;
mod login_watch;
mod logins;
mod members;
mod raise;
mod ready;
mod registrations;
mod reload;
pub mod settings;
mod slot;
mod slots;
#[cfg(test)]
pub(crate) mod tests;
mod watcher;

pub use candidacy::InFlight;
pub use connect::FleetOptions;
pub use connected::{Connected, InUse, Place};
pub(crate) use connected::{ago, last_answer};
pub use gate::{Gate, State as GateState};
pub use logins::{Failure, LoginState};
pub use members::Fleet;
pub use slot::Broken;
