//! Values that must not reach a log, an error or a debug print.

use std::fmt;

/// A value that is not printed by accident: `Debug` redacts it, and there is no `Display` and no `Serialize`.
///
/// Reading it needs [`Secret::expose`], which is easy to find in a review.
#[derive(Clone, Default)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// Unwraps the value.
    pub fn into_exposed(self) -> T {
        self.0
    }

    /// Derives a secret from this one.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Secret<U> {
        Secret(change(self.0))
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_even_inside_another_type() {
        #[derive(Debug)]
        struct Login {
            #[expect(dead_code, reason = "read by Debug only")]
            password: Secret<String>,
        }
        let printed = format!("{:?}", Login { password: Secret::new("hunter2".to_owned()) });
        assert_eq!(printed, "Login { password: [redacted] }");
    }

    #[test]
    fn the_value_can_be_exposed() {
        assert_eq!(*Secret::new(41).map(|n| n + 1).expose(), 42);
    }
}
