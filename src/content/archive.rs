//! The archive of a workspace: one `.tar.zst` object with an index at its end.
