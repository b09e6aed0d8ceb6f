//! Operations on the content of workspaces: real helpers, a real store in a folder, and what the apiserver would hold in memory.

pub mod backups;
pub mod deadly;
pub mod faults;
pub mod housekeeping;
pub mod initializers;
pub mod kills;
pub mod scene;
pub mod storage;
