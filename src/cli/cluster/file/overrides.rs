//! What flags of the command line override in a cluster file.

use std::path::Path;

use crate::cluster::kubeconfig::Plugins;
use crate::input::Patience;
use domain::names::ClusterName;
use domain::secret_ref::SecretRef;

/// Source of a kubeconfig from the command line, which overrides the document.
#[derive(Clone, Copy)]
pub enum Login<'a> {
    /// A file.
    File(&'a Path),
    /// A Secret of the host cluster.
    Secret(&'a SecretRef),
}

impl<'a> Login<'a> {
    /// From the flags, which exclude each other.
    pub fn of(file: Option<&'a Path>, secret: Option<&'a SecretRef>) -> Option<Self> {
        secret.map(Self::Secret).or(file.map(Self::File))
    }
}

/// What the flags override in each document.
#[derive(Clone, Copy, Default)]
pub struct Overrides<'a> {
    /// The cluster's name.
    pub name: Option<&'a ClusterName>,
    /// Source of the kubeconfig.
    pub login: Option<Login<'a>>,
    /// Context of the kubeconfig.
    pub context: Option<&'a str>,
    /// What to do about login plugins.
    pub plugins: Plugins,
    /// How long reading one file may take.
    pub patience: Patience,
}
