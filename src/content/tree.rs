//! A tree of files by directory file descriptors: walk, extraction, excludes, and the state of unchanged content.
