//! The gRPC API: parse, call a use case, convert. No policy lives here.

mod access;
mod clusters;
mod convert;
mod error;
mod parse;
mod peers;
mod workspaces;
