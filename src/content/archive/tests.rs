//! Archives from trees on a real filesystem, and hostile ones. They run as root, as the helper does in its namespace.

mod damage;
mod hostile;
mod measure;
mod round_trip;
mod support;
mod tails;
mod trees;
