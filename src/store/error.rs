//! Errors of the store.

use std::{fmt, io, time::Duration};

use super::seal;
use domain::causes;
use domain::names::ClusterName;

/// A failed call. Only after [`Error::Ambiguous`] it is unknown whether a write was applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Invalid options; nothing was sent.
    #[error("etcd {field}: {rule}")]
    Options {
        /// The option.
        field: &'static str,
        /// Rule that it breaks.
        rule: String,
    },
    /// No endpoint answered; nothing was changed.
    #[error("cannot {doing}: {}", unavailable(endpoints, *within, cause))]
    Unavailable {
        /// What was tried.
        doing: String,
        /// The endpoints, separated by commas.
        endpoints: String,
        /// Deadline of the call.
        within: Duration,
        /// Cause of the last failure.
        cause: Cause,
    },
    /// The write may or may not have been applied: it was sent, and the response is missing.
    #[error("it is not known whether etcd did this: {doing}: {cause}")]
    Ambiguous {
        /// What was tried.
        doing: String,
        /// Cause.
        cause: Cause,
    },
    /// etcd rejected the call, for example for a missing permission or a full database; nothing was changed.
    #[error("etcd refuses to {doing}: {cause}")]
    Refused {
        /// What was tried.
        doing: String,
        /// etcd's response.
        cause: Cause,
    },
    /// The term has ended, on this replica or in etcd; nothing was changed.
    #[error("cannot {doing}: no longer the leader of epoch {epoch}")]
    NotLeader {
        /// What was tried.
        doing: String,
        /// The epoch of the ended term.
        epoch: i64,
    },
    /// The key changed or was removed since the version that the change was decided on; nothing was changed.
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
        /// The normalized address.
        address: String,
        /// The cluster that has it.
        cluster: ClusterName,
    },
    /// An invalid address of a Kubernetes API.
    #[error("cluster {cluster}: API address {rule}")]
    Address {
        /// The cluster.
        cluster: ClusterName,
        /// Rule that it breaks.
        rule: &'static str,
    },
    /// A value of a schema version that this version of Spaceport does not know.
    #[error("key {key} has schema version {version}, which this version of spaceport does not know")]
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
        /// Cause; never part of the value.
        reason: String,
    },
    /// A value that cannot be sealed or unsealed.
    #[error("key {key}: {source}")]
    Seal {
        /// The key.
        key: String,
        /// Cause.
        source: seal::Error,
    },
}

/// Cause of a failed call.
#[derive(Debug)]
pub enum Cause {
    /// No response within this time.
    Silence(Duration),
    /// The client library's error.
    Client(etcd_client::Error),
    /// A concurrent call just failed with this text.
    Known(String),
    /// A concurrent call just failed because the connection was refused.
    KnownRefused(String),
}

impl Error {
    /// Whether etcd rejected a value for its size, so that a retry cannot succeed.
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
                // The last error of the chain names the reason, such as `connection refused`.
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

/// Why no endpoint answered. A refused connection fails at once, so the deadline is not named.
fn unavailable(endpoints: &str, within: Duration, cause: &Cause) -> String {
    if cause.is_refused() {
        format!("etcd at {endpoints} refused the connection: nothing listens there ({cause})")
    } else {
        format!("no answer from etcd at {endpoints} within {within:?}: {cause}")
    }
}

impl Cause {
    /// Whether the last member refused the connection.
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

    /// The cause for a call that waited for this one.
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
    fn a_refused_connection_is_not_reported_as_a_timeout() {
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
