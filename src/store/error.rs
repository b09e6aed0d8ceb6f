//! What can go wrong in the store.

use std::{fmt, io, time::Duration};

use super::seal;
use domain::causes;
use domain::names::ClusterName;

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
    #[error("cannot {doing}: {}", unavailable(endpoints, *within, cause))]
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
    /// A sibling call just found that the connection is refused.
    KnownRefused(String),
}

impl Error {
    /// Whether etcd refused a value for its size: it refuses the same again.
    pub fn is_too_large(&self) -> bool {
        let Self::Refused { cause: Cause::Client(etcd_client::Error::GRpcStatus(status)), .. } = self else {
            return false;
        };
        super::failure::is_too_large(status)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence(time) => write!(f, "no answer in {time:?}"),
            Self::Known(text) | Self::KnownRefused(text) => f.write_str(text),
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

/// Why no endpoint answered. What was refused at once took no time.
fn unavailable(endpoints: &str, within: Duration, cause: &Cause) -> String {
    if cause.is_refused() {
        format!("etcd at {endpoints} refused the connection: nothing listens there ({cause})")
    } else {
        format!("no answer from etcd at {endpoints} within {within:?}: {cause}")
    }
}

impl Cause {
    /// Whether the last member that was tried refused the connection.
    fn is_refused(&self) -> bool {
        let error: &(dyn std::error::Error + 'static) = match self {
            Self::Silence(_) | Self::Known(_) => return false,
            Self::KnownRefused(_) => return true,
            Self::Client(etcd_client::Error::GRpcStatus(status)) => status,
            Self::Client(etcd_client::Error::TransportError(error)) => error,
            Self::Client(error) => error,
        };
        causes::find::<io::Error>(error).is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// The same for a call that waited for this one.
    pub(super) fn known(&self) -> Self {
        let text = self.to_string();
        if self.is_refused() { Self::KnownRefused(text) } else { Self::Known(text) }
    }
}

fn last_source(error: &dyn std::error::Error) -> Option<&dyn std::error::Error> {
    std::iter::successors(error.source(), |error| error.source()).last()
}

#[cfg(test)]
mod tests {
    use tonic::{ConnectError, Status};

    use super::*;

    fn told(cause: Cause) -> String {
        let (doing, endpoints) = ("read the installation".to_owned(), "http://127.0.0.1:1".to_owned());
        Error::Unavailable { doing, endpoints, within: Duration::from_secs(3), cause }.to_string()
    }

    #[test]
    fn a_connection_that_etcd_refuses_is_told_as_refused_and_not_as_late() {
        let refused = || {
            let io = io::Error::from(io::ErrorKind::ConnectionRefused);
            Cause::Client(etcd_client::Error::GRpcStatus(Status::from_error(Box::new(ConnectError(
                Box::new(io),
            )))))
        };
        for cause in [refused(), refused().known()] {
            let text = told(cause);
            assert!(text.contains("etcd at http://127.0.0.1:1 refused the connection"), "{text}");
            assert!(!text.contains("within"), "{text}");
        }
        let silent = told(Cause::Silence(Duration::from_secs(3)));
        assert!(silent.contains("no answer from etcd at http://127.0.0.1:1 within 3s"), "{silent}");
        assert_eq!(told(Cause::Silence(Duration::from_secs(3)).known()), silent);
    }
}
