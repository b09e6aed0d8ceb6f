//! The seven initializers as a plan: a list of steps, checked, with the secrets of the workspace's Secret put in.
//!
//! A resource holds an encoded `WorkspaceInitializer` in which secrets are references (`extracted-secret/<key>`) to keys of the
//! Secret `<id>-tokens`. [`parse`] resolves them and flattens composites. Nothing here runs anything.

mod error;
pub mod one_time;
mod parse;
mod plan;
pub mod reach;
pub mod scrub;

pub use error::{Error, Fault};
pub use parse::parse;
pub use plan::{
    Auth, Digest, Download, Folder, Git, Login, Object, Plan, Prebuild, RemoteFile, Step, Target,
};

#[cfg(test)]
mod tests;
