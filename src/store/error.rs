//! What can go wrong in the store.

use std::{fmt, time::Duration};

use super::seal;
use crate::domain::names::ClusterName;

/// A call of the store that failed. Only [`Error::Ambiguous`] leaves open whether a write was applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options cannot be used; nothing was tried.
    #[error("etcd {field}: {rule}")]
    Options {
        /// The option.
        field: &'static str,
        /// What is wrong with it.
        rule: String,
    },
    /// No endpoint answered; nothing was changed.
    #[error("cannot {doing}: no answer from etcd at {endpoints} within {within:?}: {cause}")]
    Unavailable {
        /// What was tried.
        doing: String,
        /// The endpoints, separated by commas.
        endpoints: String,
        /// How long was tried at most.
        within: Duration,
        /// Why the last try failed.
        cause: Cause,
    },
    /// The write may or may not have been applied: it was sent, and the answer is missing.
    #[error("cannot tell whether etcd did this: {doing}: {cause}")]
    Ambiguous {
        /// What was tried.
        doing: String,
        /// What came instead of an answer.
        cause: Cause,
    },
    /// etcd refused, for example for a missing permission or a full database; nothing was changed.
    #[error("etcd refuses to {doing}: {cause}")]
    Refused {
        /// What was tried.
        doing: String,
        /// etcd's answer.
        cause: Cause,
    },
    /// The term is over, here or in etcd; nothing was changed.
    #[error("cannot {doing}: no longer the leader of epoch {epoch}")]
    NotLeader {
        /// What was tried.
        doing: String,
        /// The epoch that is over.
        epoch: i64,
    },
    /// The key changed, or went, since the version that the change was decided on; nothing was changed.
    #[error("cannot {doing}: key {key} changed meanwhile")]
    Conflict {
        /// What was tried.
        doing: String,
        /// The key that changed.
        key: String,
    },
    /// A cluster of this name is registered.
    #[error("cluster {cluster} is already registered")]
    ClusterExists {
        /// The cluster.
        cluster: ClusterName,
    },
    /// No cluster of this name is registered.
    #[error("cluster {cluster} is not registered")]
    ClusterNotFound {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Another cluster has this API address.
    #[error("API address {address} belongs to cluster {cluster}")]
    AddressInUse {
        /// The address, normalised.
        address: String,
        /// The cluster that has it.
        cluster: ClusterName,
    },
    /// Not the address of a Kubernetes API.
    #[error("cluster {cluster}: API address {rule}")]
    Address {
        /// The cluster.
        cluster: ClusterName,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// A value of a form that this version of Spaceport does not know.
    #[error("key {key} has version {version} of its form, which this version of spaceport does not know")]
    UnknownVersion {
        /// The key.
        key: String,
        /// The version found.
        version: u64,
    },
    /// A value that cannot be read.
    #[error("key {key} cannot be read: {reason}")]
    Malformed {
        /// The key.
        key: String,
        /// Why; never part of the value.
        reason: String,
    },
    /// A value that cannot be sealed or unsealed.
    #[error("key {key}: {source}")]
    Seal {
        /// The key.
        key: String,
        /// Why.
        source: seal::Error,
    },
}

/// What came instead of a good answer.
#[derive(Debug)]
pub enum Cause {
    /// Nothing, for this long.
    Silence(Duration),
    /// The client library's error.
    Client(etcd_client::Error),
    /// A sibling call just found out the same.
    Known(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence(time) => write!(f, "no answer in {time:?}"),
            Self::Known(text) => f.write_str(text),
            Self::Client(etcd_client::Error::GRpcStatus(status)) => {
                f.write_str(status.message())?;
                // The last link of the chain is the one that names the reason, such as `connection refused`.
                match last_source(status) {
                    Some(last) => write!(f, ": {last}"),
                    None => Ok(()),
                }
            }
            Self::Client(etcd_client::Error::TransportError(error)) => match last_source(error) {
                Some(last) => write!(f, "{error}: {last}"),
                None => error.fmt(f),
            },
            Self::Client(error) => error.fmt(f),
        }
    }
}

fn last_source(error: &dyn std::error::Error) -> Option<&dyn std::error::Error> {
    std::iter::successors(error.source(), |error| error.source()).last()
}
