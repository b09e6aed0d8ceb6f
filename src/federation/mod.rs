//! Use cases over the whole fleet: start, stop, observe, register; the index and its subscribers.

pub mod events;
pub mod index;
