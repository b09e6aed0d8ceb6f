//! What the agent keeps on disk for each workspace: what began, and what is proven.
