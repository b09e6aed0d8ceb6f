//! Pure: what a workspace needs next, from its resource, the state on disk, its container and the time.
