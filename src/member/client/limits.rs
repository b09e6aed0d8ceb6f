//! Limits of one cluster's client.

use std::time::Duration;

/// Rates, concurrency and timeouts of one cluster's client.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// From the call to the last byte of the answer; watches only to the answer's head.
    pub request_timeout: Duration,
    /// To open a connection.
    pub connect_timeout: Duration,
    /// Calls a second in the long run.
    pub qps: u32,
    /// Calls at once after a quiet time.
    pub burst: u32,
    /// Calls in flight, watches not counted once they run.
    pub in_flight: usize,
    /// Silence after which a watch goes on over a new connection. An apiserver sends a bookmark about every minute, save
    /// for kinds that nothing happened to since it was started.
    pub watch_silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            qps: 400,
            burst: 800,
            in_flight: 256,
            watch_silence: Duration::from_secs(100),
        }
    }
}
