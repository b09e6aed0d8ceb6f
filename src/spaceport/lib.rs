//! The manager: wires all crates together.

pub mod manager;
