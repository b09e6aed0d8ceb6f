//! Observer of a client's calls.

use super::meter::CallMeter;

/// Notified of every call, answered or not. Called from the request path: implementations must not block.
pub trait Signals: Send + Sync {
    /// The apiserver answered something, or a watch received data.
    fn answered(&self);
    /// A call failed; `reason` is one short sentence.
    fn missed(&self, reason: &str);
    /// Where calls are counted.
    fn meter(&self) -> Option<&CallMeter> {
        None
    }
}
