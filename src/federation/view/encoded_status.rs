//! A workspace's view with its encoded message.

use std::fmt;
use std::ops::Deref;
use std::sync::OnceLock;

use bytes::Bytes;

use domain::workspace::View;

/// A view with its encoding, made on first use: a state is encoded once, however many clients list it or subscribe.
pub struct Shown {
    view: View,
    encoded: OnceLock<Bytes>,
}

impl Shown {
    /// The encoding; `encode` is called unless it was made before.
    pub fn encoded(&self, encode: impl FnOnce(&View) -> Bytes) -> Bytes {
        self.encoded.get_or_init(|| encode(&self.view)).clone()
    }
}

impl From<View> for Shown {
    fn from(view: View) -> Self {
        Self { view, encoded: OnceLock::new() }
    }
}

impl Deref for Shown {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.fmt(f)
    }
}
