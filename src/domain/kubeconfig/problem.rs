//! Problems of a kubeconfig, by field.

/// A field that cannot be used. The rule never quotes a value: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{rule}", of_field(field))]
pub struct Problem {
    /// Path of the field, such as `users[].user.exec`, or `(document)`.
    pub field: String,
    /// Rule that the field breaks.
    pub rule: String,
}

fn of_field(field: &str) -> String {
    if field.starts_with('(') { String::new() } else { format!("{field} ") }
}

/// A result of reading a kubeconfig.
pub type Read<T> = Result<T, Problem>;

pub(super) fn problem<T>(field: impl Into<String>, rule: impl Into<String>) -> Read<T> {
    Err(Problem { field: field.into(), rule: rule.into() })
}
