//! Addresses of one node and its pods, free on this machine.
//!
//! 198.18.0.0/15 is set apart for tests of networks (RFC 2544), so nothing real has these addresses. Each node gets a
//! /24: the lower half is the link between this machine (.1) and the node (.2), the upper half are pods. A lock file
//! keeps two suites apart; the kernel releases it when its process ends.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

const LOCKS: &str = "/tmp/spaceport-e2e-subnets";
const NETWORKS: u16 = 512;

/// A /24 that this process holds.
#[derive(Debug)]
pub struct Subnet {
    /// Below 512.
    number: u16,
    _lock: File,
}

impl Subnet {
    /// The first one that is free.
    pub fn claim() -> Result<Self> {
        fs::create_dir_all(LOCKS).with_context(|| format!("cannot make {LOCKS}"))?;
        let routes = fs::read_to_string("/proc/net/route").context("cannot read the routes")?;
        for number in 0..NETWORKS {
            let file = Path::new(LOCKS).join(number.to_string());
            let lock = File::create(&file).with_context(|| format!("cannot make {}", file.display()))?;
            if lock.try_lock().is_ok() && !is_routed(&routes, address(number, 0)) {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("none of {NETWORKS} networks of 198.18.0.0/15 is free")
    }

    /// This machine, as the node and its pods see it.
    pub fn host(&self) -> Ipv4Addr {
        address(self.number, 1)
    }

    pub fn node(&self) -> Ipv4Addr {
        address(self.number, 2)
    }

    /// Network of the pods.
    pub fn pods(&self) -> String {
        format!("{}/25", address(self.number, 128))
    }

    /// Name of the interface on this machine: at most 15 letters.
    pub fn link(&self) -> String {
        format!("spaceport{}", self.number)
    }
}

fn address(number: u16, last: u8) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(198, 18 + high, low, last)
}

/// Whether a route, other than the default one, leads into the /24 of this address.
fn is_routed(routes: &str, network: Ipv4Addr) -> bool {
    let number = |text: &str| u32::from_str_radix(text, 16).map(u32::from_be).ok();
    routes.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace();
        let to = fields.nth(1).and_then(number);
        let mask = fields.nth(5).and_then(number);
        let (Some(to), Some(mask)) = (to, mask) else { return false };
        let common = mask & 0xffff_ff00;
        mask != 0 && to & common == network.to_bits() & common
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        spaceport3\t800312C6\t020312C6\t0003\t0\t0\t0\t80FFFFFF\t0\t0\t0\n";

    #[test]
    fn a_network_with_a_route_is_not_free() {
        assert!(is_routed(ROUTES, address(3, 0)));
        assert!(!is_routed(ROUTES, address(4, 0)));
        assert!(!is_routed(ROUTES, address(259, 0)), "198.19.3.0 is another network than 198.18.3.0");
    }

    #[test]
    fn a_claimed_network_is_not_claimed_again() -> Result<()> {
        let (one, other) = (Subnet::claim()?, Subnet::claim()?);
        assert_ne!(one.host(), other.host());
        assert!(other.link().len() <= 15);
        Ok(())
    }
}
