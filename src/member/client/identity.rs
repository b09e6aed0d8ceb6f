//! The identity that calls act under: impersonation headers for the fence.

use http::{HeaderName, HeaderValue, Request};
use kube::client::Body;

use domain::epoch::Epoch;

/// User that holds the rights where the fence is on.
pub const FENCE_USER: &str = "spaceport";
/// Header of the extra `spaceport.dev/epoch`.
pub const FENCE_EXTRA: &str = "impersonate-extra-spaceport.dev%2fepoch";

/// Identity of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Identity {
    /// Under the login's own name: the fence is off.
    #[default]
    Login,
    /// As user `spaceport` without an epoch: the cluster takes reads.
    Reader,
    /// As user `spaceport` in a leadership: the cluster takes writes too, unless it has seen a later one.
    Leader(Epoch),
}

impl Identity {
    /// Sets the headers of a request.
    pub(super) fn stamp(self, request: &mut Request<Body>) {
        if self == Self::Login {
            return;
        }
        let headers = request.headers_mut();
        headers.insert(HeaderName::from_static("impersonate-user"), HeaderValue::from_static(FENCE_USER));
        if let Self::Leader(epoch) = self
            && let Ok(epoch) = HeaderValue::from_str(&epoch.to_string())
        {
            headers.insert(HeaderName::from_static(FENCE_EXTRA), epoch);
        }
    }
}
