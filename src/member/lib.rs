//! One member cluster: client, watches, caches, writes, fence, canary, logs, maintenance and health probe.
//!
//! Member clusters share nothing, so that one that hangs, throttles or returns wrong data does not affect another.

pub mod acceptance;
pub mod apply;
pub mod cache;
pub mod canary;
pub mod client;
pub mod error;
pub mod fence;
pub mod health;
pub mod logs;
pub mod maintenance;
mod member;
pub mod pages;
pub mod rivals;
pub mod sessions;
pub mod tasks;
pub mod texts;
pub mod watch;

pub use error::{Error, Result};
pub use member::{Member, MemberOptions, reader};
