//! Classifies errors of calls to etcd: whether a call may be retried, and whether it was applied.

use tonic::{Code, ConnectError};

/// How a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing was sent, or the member has no leader and did nothing.
    NotSent,
    /// etcd requires a new token; nothing was applied.
    Token,
    /// etcd rejected the request; nothing was applied.
    Refused,
    /// Anything else: it may have been applied.
    Unknown,
}

impl Failure {
    /// Classifies an error of the client library.
    pub(super) fn of(error: &etcd_client::Error) -> Self {
        match error {
            etcd_client::Error::GRpcStatus(status) => Self::of_status(status),
            etcd_client::Error::InvalidArgs(_)
            | etcd_client::Error::InvalidUri(_)
            | etcd_client::Error::InvalidMetadataValue(_)
            | etcd_client::Error::EndpointsNotManaged => Self::NotSent,
            _ => Self::Unknown,
        }
    }

    fn of_status(status: &tonic::Status) -> Self {
        let message = status.message();
        if status.code() == Code::Unauthenticated || wants_token(message) {
            return Self::Token;
        }
        if never_connected(status) || message == "etcdserver: no leader" {
            return Self::NotSent;
        }
        if is_too_large(status) {
            return Self::Refused;
        }
        // An error of the client, such as a response that is too long to decode, is no evidence about the request.
        // A full database also returns this for the write that filled it, which is applied.
        if !message.starts_with("etcdserver:") || message.contains("database space exceeded") {
            return Self::Unknown;
        }
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::ResourceExhausted => Self::Refused,
            _ => Self::Unknown,
        }
    }
}

/// Whether etcd rejects the token: expired, issued before permissions changed, or missing.
pub(super) fn wants_token(message: &str) -> bool {
    ["invalid auth token", "revision of auth store is old", "user name is empty"]
        .iter()
        .any(|reason| message.contains(reason))
}

/// Whether etcd rejects a request for its size: by its own limit, or by that of its gRPC server, which is 512 KiB higher. A
/// response that is too long for this client has another message.
pub(super) fn is_too_large(status: &tonic::Status) -> bool {
    let message = status.message();
    let of_grpc =
        status.code() == Code::ResourceExhausted && message.starts_with("grpc: received message larger");
    message == "etcdserver: request is too large" || of_grpc
}

fn never_connected(status: &tonic::Status) -> bool {
    let mut at: Option<&dyn std::error::Error> = std::error::Error::source(status);
    while let Some(error) = at {
        if error.is::<ConnectError>() {
            return true;
        }
        at = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    fn check(status: Status, expected: Failure) {
        let text = status.to_string();
        assert_eq!(Failure::of(&etcd_client::Error::GRpcStatus(status)), expected, "{text}");
    }

    #[test]
    fn an_expired_missing_or_outdated_token_requires_a_new_one() {
        check(Status::unauthenticated("etcdserver: invalid auth token"), Failure::Token);
        check(Status::unknown("etcdserver: invalid auth token"), Failure::Token);
        check(Status::invalid_argument("etcdserver: revision of auth store is old"), Failure::Token);
        check(Status::invalid_argument("etcdserver: user name is empty"), Failure::Token);
    }

    #[test]
    fn only_a_rejection_by_the_server_is_definite() {
        check(Status::permission_denied("etcdserver: permission denied"), Failure::Refused);
        check(Status::invalid_argument("etcdserver: request is too large"), Failure::Refused);
        check(
            Status::resource_exhausted("grpc: received message larger than max (2 vs. 1)"),
            Failure::Refused,
        );
        check(Status::out_of_range("decoded message length too large"), Failure::Unknown);
        check(Status::unavailable("etcdserver: request timed out"), Failure::Unknown);
        check(Status::unavailable("etcdserver: leader changed"), Failure::Unknown);
        check(Status::unavailable("error reading a body from connection"), Failure::Unknown);
    }

    #[test]
    fn the_write_that_fills_the_database_may_be_applied() {
        check(Status::resource_exhausted("etcdserver: mvcc: database space exceeded"), Failure::Unknown);
    }

    #[test]
    fn a_refused_connection_certainly_sent_nothing() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        check(Status::from_error(Box::new(ConnectError(Box::new(refused)))), Failure::NotSent);
        check(Status::unavailable("etcdserver: no leader"), Failure::NotSent);
    }
}
