//! The chaos checker: whether what Spaceport promised was kept in a run in which everything that may fail did.
//!
//! A run is recorded as a [`history::History`], plain data; [`checker::check`] is a pure function over it, and is itself
//! tested with bad histories, one for each promise. [`audit`] reads the fenced writes out of an apiserver's audit log.
#![allow(dead_code, reason = "each target that includes this module uses a part of it")]

pub mod audit;
pub mod checker;
pub mod history;
