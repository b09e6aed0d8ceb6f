//! A Workspace as clients see it.

use crate::cluster::resources::Workspace;
use crate::domain::workspace::View;

/// Renders the URL of a port; `None` where it cannot be rendered.
pub trait UrlRenderer: Send + Sync {
    /// URL of `port` of the workspace with this instance id and meta id.
    fn port_url(&self, id: &str, meta: &str, port: u16) -> Option<String>;
}

/// What a view takes from the configuration.
pub struct ViewSettings<'a> {
    /// Inactivity timeout as Go duration text, where the workspace has none of its own.
    pub default_timeout: String,
    /// Closed timeout likewise.
    pub closed_timeout: String,
    /// Renders port URLs.
    pub urls: &'a dyn UrlRenderer,
}

/// What is seen of a workspace; `None` where its name is no workspace id or its namespace none of ours.
pub fn view(workspace: &Workspace, settings: &ViewSettings<'_>) -> Option<View> {
    let _ = (workspace, settings);
    todo!()
}
