//! The gRPC API: parse, call a use case, convert. No policy lives here.

pub mod convert;
pub mod parse;
