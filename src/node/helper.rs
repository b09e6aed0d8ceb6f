//! The process that touches the files of a user: in namespaces of its own, without capabilities and credentials.
