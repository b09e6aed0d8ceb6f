//! Parses kubeconfigs: chooses one context, and reports problems by field.
//!
//! The command line accepts any kubeconfig, embeds the files that it names and sends only the chosen context
//! ([`Chosen::minimal`]). The manager accepts only self-contained ones ([`Chosen::login`]).

mod context;
mod document;
pub mod encoding;
pub mod exec;
mod login;
pub mod pem;
mod problem;
mod section;
#[cfg(test)]
mod tests;

pub use context::{Chosen, choose, contexts};
pub use document::{Aliases, LARGEST};
pub use login::{Identity, Login};
pub use problem::{Problem, Read};
pub use section::Section;
