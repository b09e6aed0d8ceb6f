//! Initialise, back up, snapshot, wipe: lists of steps that can be killed after any of them.
