//! In-memory caches of a member cluster's objects. Synchronous: locks are held for microseconds and never across await.

mod capacity;
mod namespace;
mod nodes;
mod observer;
mod queue;

pub(crate) use capacity::key;
pub use capacity::reservation::Reservation;
pub use capacity::{Capacity, RoomsByShape, ShapeKey, Source, Totals};
pub use namespace::NamespaceCache;
pub use nodes::NodeCache;
pub use observer::Observer;
