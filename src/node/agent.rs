//! Watches, work queue, conditions, housekeeping and disk guard.
