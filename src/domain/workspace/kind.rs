//! Kinds of workspaces.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kind of a workspace. Prebuilds and image builds are headless: they end by themselves.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Kind {
    /// A user works in it.
    #[default]
    Regular,
    /// Prepares content; leaves a snapshot.
    Prebuild,
    /// Builds an image; nothing to back up.
    ImageBuild,
}

impl Kind {
    /// Whether it runs a task to its end, without a user.
    pub fn is_headless(self) -> bool {
        self != Self::Regular
    }
}
