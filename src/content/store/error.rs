//! Errors of object stores. They name store, bucket and object, and never hold a secret or a signed URL.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use http::StatusCode;
use object_store::client::{HttpError, HttpErrorKind};

use super::names::{BackupId, InvalidName};
use super::problem::{CredentialProblem, Refusal, SKEWED};

/// Characters of a cause that is quoted.
const QUOTED: usize = 200;

/// Who can mend an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The user: such as too many blobs.
    User,
    /// The admin of this installation: the configuration or its credentials are wrong.
    Configuration,
    /// The store, the network or Spaceport.
    Platform,
}

/// Store, bucket and object of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// Name of the store, such as `s3:content`.
    pub store: String,
    /// The bucket, or the folder of a local store.
    pub bucket: String,
    /// The object or prefix; empty for the bucket itself.
    pub key: String,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store {}, bucket {}", self.store, self.bucket)?;
        if self.key.is_empty() { Ok(()) } else { write!(f, ", object {}", self.key) }
    }
}

/// An error of an object store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings of the store cannot be used.
    #[error("content.storage: {0}")]
    Settings(String),
    /// A name is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// An owner has no bucket in this store, because its name would not be valid.
    #[error("store {store}: {bucket:?} is no valid bucket name, so this owner cannot have a bucket")]
    Bucket {
        /// The store.
        store: String,
        /// The name that is not valid.
        bucket: String,
    },
    /// The credentials of the store cannot be read.
    #[error("{at}: credentials: {problem}")]
    Credentials {
        /// Where.
        at: At,
        /// What is wrong with them.
        problem: String,
    },
    /// There is no such object.
    #[error("{0}: there is no such object")]
    NotFound(At),
    /// There is no such bucket.
    #[error("{0}: there is no such bucket")]
    NoBucket(At),
    /// There is an object already.
    #[error("{0}: the object exists already")]
    Exists(At),
    /// The object was replaced while it was read.
    #[error("{0}: the object was replaced while it was read")]
    Replaced(At),
    /// The store rejects the credentials, or they lack a right.
    #[error("{at}: the store {}", if *known { "denies access to these credentials" } else { "does not accept the credentials" })]
    Denied {
        /// Where.
        at: At,
        /// Whether the store knows the credentials.
        known: bool,
    },
    /// The clocks differ so much that signatures are refused.
    #[error(
        "{0}: the store refuses all requests because its clock differs by more than 15 min from the one of this machine: correct the clock"
    )]
    Clock(At),
    /// The store rejects the request.
    #[error("{at}: the store answered {status} ({code})")]
    Rejected {
        /// Where.
        at: At,
        /// HTTP status.
        status: u16,
        /// Error code of the store.
        code: String,
    },
    /// The store cannot be reached, is overloaded or failed.
    #[error("{at}: the store is not available: {why}")]
    Unavailable {
        /// Where.
        at: At,
        /// Status or cause.
        why: String,
    },
    /// Reading or writing the folder of a local store failed.
    #[error("{at}: {error}")]
    Folder {
        /// Where.
        at: At,
        /// Error of the operating system.
        error: io::Error,
    },
    /// The stream that is uploaded failed.
    #[error("{at}: reading what is uploaded failed: {error}")]
    Source {
        /// Where it would have gone.
        at: At,
        /// Error of the stream.
        error: io::Error,
    },
    /// The state of an upload could not be kept.
    #[error("{at}: keeping the state of the upload failed: {error}")]
    Journal {
        /// Object of the upload.
        at: At,
        /// Error of the journal.
        error: io::Error,
    },
    /// The store does not know a resumed upload any more: it must begin again.
    #[error("{0}: the store does not know this upload any more; begin again")]
    UploadGone(At),
    /// The object has more parts than a store accepts.
    #[error("{at}: larger than {limit} bytes, which is what content.upload.partSize allows")]
    TooLarge {
        /// Where.
        at: At,
        /// Maximum bytes.
        limit: u64,
    },
    /// The upload was cancelled.
    #[error("{at}: the upload was cancelled{}", if *aborted { "" } else { ", and is still to be aborted" })]
    Cancelled {
        /// Where.
        at: At,
        /// Whether its parts were removed from the store.
        aborted: bool,
    },
    /// Another agent wrote this head.
    #[error("{at}: head {id:?} was written by agent {agent} for another backup")]
    HeadTaken {
        /// Where.
        at: At,
        /// The head.
        id: BackupId,
        /// Who wrote it.
        agent: String,
    },
    /// A head cannot be understood.
    #[error("{at}: the head is not valid: {problem}")]
    BadHead {
        /// Where.
        at: At,
        /// What is wrong with it.
        problem: String,
    },
    /// The store replaces objects that it was asked only to create.
    #[error(
        "{0}: the store ignores conditional creates (If-None-Match), so it cannot elect the newest backup"
    )]
    Unconditional(At),
    /// An object is not what was written.
    #[error(transparent)]
    NotProven(#[from] NotProven),
    /// The bytes that were downloaded are not those that were stored.
    #[error("{at}: the content is corrupted: {problem}")]
    Corrupted {
        /// Where.
        at: At,
        /// What differs.
        problem: String,
    },
    /// The blobs of an owner use up the quota.
    #[error(
        "owner {owner}: blobs take {used} bytes, and content.storage.blobQuota is {quota}; delete some blobs first"
    )]
    Quota {
        /// The owner.
        owner: String,
        /// Bytes of all blobs counted so far.
        used: u64,
        /// Bytes allowed.
        quota: u64,
    },
    /// There are more objects than this operation reads.
    #[error("{at}: more than {limit} objects")]
    TooMany {
        /// Where.
        at: At,
        /// The limit.
        limit: usize,
    },
    /// Objects are still there after they were deleted.
    #[error(
        "{at}: {left} objects are still there after they were deleted: are they locked, or still being written?"
    )]
    NotDeleted {
        /// The prefix.
        at: At,
        /// How many.
        left: usize,
    },
    /// This kind of store cannot do it.
    #[error("{at}: this kind of store has no {what}")]
    Unsupported {
        /// Where.
        at: At,
        /// What it lacks.
        what: String,
    },
}

impl Error {
    /// Who can mend it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Name(_) | Self::Quota { .. } | Self::TooLarge { .. } => Fault::User,
            Self::Settings(_)
            | Self::Bucket { .. }
            | Self::Credentials { .. }
            | Self::NoBucket(_)
            | Self::Denied { .. }
            | Self::Unconditional(_)
            | Self::Unsupported { .. } => Fault::Configuration,
            _ => Fault::Platform,
        }
    }

    /// Whether the same call may succeed later without a change of configuration or content.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::Clock(_)
            | Self::Folder { .. }
            | Self::Credentials { .. }
            | Self::Denied { .. } => true,
            Self::NotProven(not) => not.is_retryable(),
            _ => false,
        }
    }

    /// Classifies an error of the client library.
    pub(super) fn of(at: &At, error: &object_store::Error) -> Self {
        use object_store::Error as Raw;
        let at = at.clone();
        match error {
            Raw::NotFound { .. } => Self::NotFound(at),
            Raw::AlreadyExists { .. } => Self::Exists(at),
            Raw::Precondition { .. } | Raw::NotModified { .. } => Self::Replaced(at),
            Raw::PermissionDenied { .. } => Self::Denied { at, known: true },
            Raw::Unauthenticated { .. } => Self::Denied { at, known: false },
            Raw::NotSupported { .. } | Raw::NotImplemented { .. } => {
                Self::Unsupported { at, what: "such operation".to_owned() }
            }
            other => Self::by_cause(at, other),
        }
    }

    /// Classifies by the first known type in the chain of causes.
    fn by_cause(at: At, error: &object_store::Error) -> Self {
        let mut cause: &(dyn StdError + 'static) = error;
        let mut kind = None;
        loop {
            if let Some(refusal) = cause.downcast_ref::<Refusal>() {
                return refusal.at(at);
            }
            if let Some(problem) = cause.downcast_ref::<CredentialProblem>() {
                return Self::Credentials { at, problem: problem.0.clone() };
            }
            if let Some(http) = cause.downcast_ref::<HttpError>() {
                kind = Some(http.kind());
            } else if kind.is_none()
                && let Some(error) = cause.downcast_ref::<io::Error>()
            {
                return Self::Folder { at, error: same(error) };
            }
            match cause.source() {
                Some(next) => cause = next,
                None => break,
            }
        }
        let text: String = cause.to_string().chars().take(QUOTED).collect();
        Self::Unavailable {
            at,
            why: kind.map_or_else(|| text.clone(), |kind| format!("{}: {text}", what(kind))),
        }
    }
}

fn what(kind: HttpErrorKind) -> &'static str {
    match kind {
        HttpErrorKind::Connect => "cannot connect",
        HttpErrorKind::Timeout => "no answer in time",
        HttpErrorKind::Interrupted | HttpErrorKind::Request => "the connection was interrupted",
        HttpErrorKind::Decode => "the answer cannot be decoded",
        _ => "the request failed",
    }
}

/// The same error: [`io::Error`] cannot be cloned.
fn same(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl Refusal {
    pub(super) fn at(&self, at: At) -> Error {
        let Self { status, code } = self;
        let overloaded = status.is_server_error()
            || matches!(*status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
            || code == "RequestTimeout";
        match code.as_str() {
            "NoSuchBucket" => Error::NoBucket(At { key: String::new(), ..at }),
            SKEWED => Error::Clock(At { key: String::new(), ..at }),
            _ if *status == StatusCode::FORBIDDEN => Error::Denied { at, known: true },
            _ if *status == StatusCode::UNAUTHORIZED => Error::Denied { at, known: false },
            _ if overloaded => Error::Unavailable { at, why: self.to_string() },
            _ => Error::Rejected { at, status: status.as_u16(), code: code.clone() },
        }
    }
}

/// Why an object is not proven.
#[derive(Debug, thiserror::Error)]
pub enum NotProven {
    /// There is no object.
    #[error("{0}: the object is not there")]
    Missing(At),
    /// The object is shorter or longer.
    #[error("{at}: the object has {found} bytes instead of {expected}")]
    Size {
        /// Where.
        at: At,
        /// Bytes that were sent.
        expected: u64,
        /// Bytes that the store has.
        found: u64,
    },
    /// What was uploaded is not what the writer of the archive wrote.
    #[error("{0}: what was uploaded is not what was written: the stream between them lost or changed bytes")]
    Stream(At),
    /// The content or the index differs.
    #[error("{at}: {} is corrupted: its digest is not the one that was sent", Part(*index))]
    Content {
        /// Where.
        at: At,
        /// Whether it is the index at the end, rather than the rest.
        index: bool,
    },
    /// The store failed, so nothing is known.
    #[error("not proven: {0}")]
    Store(Box<Error>),
}

struct Part(bool);

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { "the index at the end of the object" } else { "the object" })
    }
}

impl NotProven {
    /// Whether proving the same object again may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}

impl From<Error> for NotProven {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound(at) => Self::Missing(at),
            Error::NotProven(not) => not,
            error => Self::Store(Box::new(error)),
        }
    }
}
