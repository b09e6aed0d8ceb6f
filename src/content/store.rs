//! An object store by its configuration: names, heads, uploads, presigned URLs, quota, pruning.
