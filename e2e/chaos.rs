//! The chaos run: checks that Spaceport keeps its guarantees while everything that may fail does.
//!
//! A [`run`] builds a [`stage`], then [`clients`], an [`admin`] and [`subscribers`] use it while a [`nemesis`] injects
//! faults. An [`observer`] reads what happened from the apiservers' [`audit`] logs: fenced writes, and [`lifetimes`] of
//! workspaces and pods. The result is a [`history::History`], plain data; [`checker::check`] is a pure function over
//! it, tested itself with bad histories, one for each guarantee. [`restores`] restores a cluster from backups, one
//! after the other. [`content`] kills what keeps the files of workspaces on real nodes.
#![allow(dead_code, reason = "each target that includes this module uses a part of it")]

pub mod admin;
pub mod audit;
pub mod checker;
pub mod clients;
pub mod content;
pub mod history;
pub mod lifetimes;
pub mod nemesis;
pub mod observer;
pub mod restores;
pub mod rng;
pub mod run;
pub mod stage;
pub mod subscribers;
