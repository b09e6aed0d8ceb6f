//! Shared by the stories, the chaos run, the demo and the benchmarks.

#![allow(missing_docs, reason = "its users are the targets beside it")]

pub mod chaos;
pub mod harness;
