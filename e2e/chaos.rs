//! The chaos run: whether what Spaceport promised was kept in a run in which everything that may fail did.
//!
//! A [`run`] sets a [`stage`], lets [`clients`], an [`admin`] and [`subscribers`] use it while a [`nemesis`] breaks it, and an
//! [`observer`] reads what happened from the apiservers' [`audit`] logs: fenced writes, and [`lives`] of workspaces and pods. It is
//! recorded as a [`history::History`], plain data; [`checker::check`] is a pure function over it, and is itself tested with bad
//! histories, one for each promise. [`restores`] restores a cluster from backups, one after the other.
#![allow(dead_code, reason = "each target that includes this module uses a part of it")]

pub mod admin;
pub mod audit;
pub mod checker;
pub mod clients;
pub mod history;
pub mod lives;
pub mod nemesis;
pub mod observer;
pub mod restores;
pub mod rng;
pub mod run;
pub mod stage;
pub mod subscribers;
