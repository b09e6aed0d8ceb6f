//! Flags that select workspaces.

use clap::Args;

use crate::value_parsers::pair;
use domain::names::{MetaId, OwnerId};
use proto::wsman::MetadataFilter;

/// Which workspaces; absent filters match everything.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only workspaces of this owner
    #[arg(long)]
    owner: Option<OwnerId>,
    /// Only runs of this workspace
    #[arg(long)]
    meta_id: Option<MetaId>,
    /// Only workspaces with this annotation; repeatable
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = pair)]
    annotations: Vec<(String, String)>,
}

impl From<FilterArgs> for MetadataFilter {
    fn from(args: FilterArgs) -> Self {
        Self {
            owner: args.owner.map(String::from).unwrap_or_default(),
            meta_id: args.meta_id.map(String::from).unwrap_or_default(),
            annotations: args.annotations.into_iter().collect(),
        }
    }
}
