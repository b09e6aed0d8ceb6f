//! Every end-to-end test, one module a story.

#[path = "../harness/mod.rs"]
mod harness;
mod store;
