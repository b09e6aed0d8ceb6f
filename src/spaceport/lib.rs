//! The manager: the wiring of all rooms.

pub mod manager;
