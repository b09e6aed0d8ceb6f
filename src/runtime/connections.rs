//! Limits connections fairly among client addresses, so that one address cannot exhaust the slots of others.
//!
//! There are two policies for a full table. [`Yields::Oldest`] is for short connections (handshakes, admin HTTP): a new
//! connection always gets a slot, and the oldest connection of the busiest address is closed. [`Yields::Newest`] is for long
//! connections (gRPC): a new connection is rejected at the cap of its address; at the total cap it replaces the newest
//! connection of a busier address.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGaugeVec, Opts};
use tokio_util::sync::CancellationToken;

/// Client address: an IPv4 address, or the /64 network of an IPv6 address, which one host may own completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

impl From<SocketAddr> for Origin {
    fn from(address: SocketAddr) -> Self {
        Self::from(address.ip())
    }
}

/// Maximum numbers of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// In total; at least 1.
    pub total: usize,
    /// From one address; at least 1.
    pub per_address: usize,
}

/// Which connection is closed when no slot is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Yields {
    /// The oldest of the busiest address.
    Oldest,
    /// The newest of the busiest address, which may be the new one.
    Newest,
}

/// Which cap rejected a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The cap of its address.
    Address,
    /// The total cap.
    Total,
}

/// A table of slots.
#[derive(Debug, Clone)]
pub struct Slots {
    caps: Caps,
    yields: Yields,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Slots by address, in the order in which they were taken.
    of: HashMap<Origin, BTreeMap<u64, CancellationToken>>,
    count: usize,
    next: u64,
}

/// A slot, released when dropped.
#[derive(Debug)]
pub struct Slot {
    origin: Origin,
    number: u64,
    displaced: CancellationToken,
    taken: Arc<Mutex<Taken>>,
}

impl Slots {
    /// A table with free slots only.
    pub fn new(caps: Caps, yields: Yields) -> Self {
        Self { caps, yields, taken: Arc::default() }
    }

    /// Takes a slot. A connection that is displaced for it is notified by [`Slot::displaced`].
    ///
    /// Never fails with [`Yields::Oldest`].
    pub fn take(&self, origin: Origin) -> Result<Slot, Full> {
        let mut taken = self.taken.lock();
        if taken.count_of(origin) >= self.caps.per_address {
            match self.yields {
                Yields::Oldest => taken.displace(origin, self.yields),
                Yields::Newest => return Err(Full::Address),
            }
        } else if taken.count >= self.caps.total {
            let busiest = taken.busiest(origin);
            if busiest == origin && self.yields == Yields::Newest {
                return Err(Full::Total);
            }
            taken.displace(busiest, self.yields);
        }
        let (number, displaced) = (taken.next, CancellationToken::new());
        taken.next += 1;
        taken.count += 1;
        taken.of.entry(origin).or_default().insert(number, displaced.clone());
        drop(taken);
        Ok(Slot { origin, number, displaced, taken: Arc::clone(&self.taken) })
    }

    /// Number of slots in use.
    pub fn count(&self) -> usize {
        self.taken.lock().count
    }
}

impl Taken {
    fn count_of(&self, origin: Origin) -> usize {
        self.of.get(&origin).map_or(0, BTreeMap::len)
    }

    /// The address with the most slots, where `newcomer` counts one more and loses ties.
    fn busiest(&self, newcomer: Origin) -> Origin {
        let others = self.of.iter().filter(|(origin, _)| **origin != newcomer);
        let other = others.map(|(origin, slots)| (slots.len(), *origin)).max_by_key(|(count, _)| *count);
        let own = self.count_of(newcomer) + 1;
        other.filter(|(count, _)| *count > own).map_or(newcomer, |(_, origin)| origin)
    }

    fn displace(&mut self, origin: Origin, which: Yields) {
        let Some(slots) = self.of.get_mut(&origin) else { return };
        let removed = match which {
            Yields::Oldest => slots.pop_first(),
            Yields::Newest => slots.pop_last(),
        };
        if let Some((_, displaced)) = removed {
            self.count -= 1;
            displaced.cancel();
        }
    }
}

impl Slot {
    /// Cancelled when another connection takes the slot, so that this one must close.
    pub fn displaced(&self) -> &CancellationToken {
        &self.displaced
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        let Some(slots) = taken.of.get_mut(&self.origin) else { return };
        let was_there = slots.remove(&self.number).is_some();
        if slots.is_empty() {
            taken.of.remove(&self.origin);
        }
        taken.count -= usize::from(was_there);
    }
}

/// Which of the process's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// gRPC.
    Grpc,
    /// Admin HTTP.
    Admin,
}

impl ServerKind {
    fn label(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Admin => "admin",
        }
    }
}

/// Why the server closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The cap of its address was reached.
    Address,
    /// The total cap was reached.
    Total,
    /// Another connection took its slot.
    Displaced,
    /// Its handshake did not end within the deadline.
    HandshakeTimeout,
    /// Its handshake failed.
    HandshakeFailed,
}

impl Closed {
    const ALL: [Self; 5] =
        [Self::Address, Self::Total, Self::Displaced, Self::HandshakeTimeout, Self::HandshakeFailed];

    fn label(self) -> &'static str {
        match self {
            Self::Address => "address_full",
            Self::Total => "full",
            Self::Displaced => "displaced",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HandshakeFailed => "handshake_failed",
        }
    }
}

impl From<Full> for Closed {
    fn from(full: Full) -> Self {
        match full {
            Full::Address => Self::Address,
            Full::Total => Self::Total,
        }
    }
}

/// Counts connections. Cloning shares it.
#[derive(Debug, Clone)]
pub struct ConnectionMeters {
    open: IntGaugeVec,
    closed: IntCounterVec,
}

impl ConnectionMeters {
    /// All at zero.
    pub fn new() -> Result<Self, prometheus::Error> {
        let open = Opts::new(
            "spaceport_connections",
            "Open connections of clients, without those in their handshake: to `grpc`, and to \
             `admin` HTTP.",
        );
        let closed = Opts::new(
            "spaceport_connections_closed_total",
            "Connections that the server closed: `address_full`: the limit of one client address was \
             reached; `full`: the limit of all connections was reached; `displaced`: a new \
             connection took its slot; `handshake_timeout`; `handshake_failed`.",
        );
        let meters = Self {
            open: IntGaugeVec::new(open, &["server"])?,
            closed: IntCounterVec::new(closed, &["server", "reason"])?,
        };
        for server in [ServerKind::Grpc, ServerKind::Admin] {
            meters.open.with_label_values(&[server.label()]);
            for reason in Closed::ALL {
                meters.closed.with_label_values(&[server.label(), reason.label()]);
            }
        }
        Ok(meters)
    }

    /// The server closed a connection.
    pub fn closed(&self, server: ServerKind, why: Closed) {
        self.closed.with_label_values(&[server.label(), why.label()]).inc();
    }

    /// Counts a connection until the result is dropped.
    pub fn opened(&self, server: ServerKind) -> Open {
        let gauge = self.open.with_label_values(&[server.label()]);
        gauge.inc();
        Open(gauge)
    }
}

impl Collector for ConnectionMeters {
    fn desc(&self) -> Vec<&Desc> {
        self.open.desc().into_iter().chain(self.closed.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.open.collect().into_iter().chain(self.closed.collect()).collect()
    }
}

/// An open connection, counted.
#[derive(Debug)]
pub struct Open(prometheus::IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests;
