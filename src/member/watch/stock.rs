//! Memory limit of the objects that are kept of one cluster, so that a cluster that creates them without end costs
//! bounded memory.
//!
//! All watches of a cluster share one limit. A watch that exceeds it lists everything again from time to time; until such
//! a list completes it accepts no new object.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an object costs besides its text.
const EACH: u64 = 512;

/// The bound of one cluster, in bytes of objects as text.
#[derive(Debug)]
pub(super) struct Stock {
    most: u64,
    kept: AtomicU64,
}

/// More than fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is kept.
    Take,
    /// It is left out until a list has come to its end.
    LeaveOut,
}

/// What one watch keeps.
#[derive(Debug)]
pub(super) struct Shelf {
    stock: Arc<Stock>,
    /// Bytes of each object, and the list that last named it; by a keyed hash of namespace and name.
    objects: HashMap<u64, (u64, u64)>,
    hasher: RandomState,
    list: u64,
    /// Bytes of the list under way, whatever it repeats.
    listed: u64,
    overflowed: bool,
}

impl Stock {
    pub(super) fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { most, kept: AtomicU64::new(0) })
    }

    fn grow(&self, bytes: u64) -> Result<(), Full> {
        let fits = |kept: u64| kept.checked_add(bytes).filter(|kept| *kept <= self.most);
        self.kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map(drop).map_err(|_| Full)
    }

    fn shrink(&self, bytes: u64) {
        self.kept.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that may be kept.
    pub(super) fn most(&self) -> u64 {
        self.most
    }
}

impl Shelf {
    pub(super) fn new(stock: Arc<Stock>) -> Self {
        Self {
            stock,
            objects: HashMap::new(),
            hasher: RandomState::new(),
            list: 0,
            listed: 0,
            overflowed: false,
        }
    }

    /// A list begins.
    pub(super) fn begin(&mut self) {
        self.list += 1;
        self.listed = 0;
    }

    /// A list names an object of so many bytes.
    pub(super) fn list(&mut self, namespace: &str, name: &str, bytes: usize) -> Result<Verdict, Full> {
        let cost = cost(bytes);
        self.listed = self.listed.saturating_add(cost);
        if self.listed > self.stock.most {
            self.overflowed = true;
            return Err(Full);
        }
        self.put(namespace, name, cost)
    }

    /// A watch event has an object of so many bytes.
    pub(super) fn change(&mut self, namespace: &str, name: &str, bytes: usize) -> Result<Verdict, Full> {
        self.put(namespace, name, cost(bytes))
    }

    fn put(&mut self, namespace: &str, name: &str, cost: u64) -> Result<Verdict, Full> {
        let key = self.hasher.hash_one((namespace, name));
        let known = self.objects.get(&key).map(|(cost, _)| *cost);
        if known.is_none() && self.overflowed {
            return Ok(Verdict::LeaveOut);
        }
        let before = known.unwrap_or(0);
        if cost > before {
            self.stock.grow(cost - before).inspect_err(|Full| self.overflowed = true)?;
        } else {
            self.stock.shrink(before - cost);
        }
        self.objects.insert(key, (cost, self.list));
        Ok(Verdict::Take)
    }

    /// An object is gone.
    pub(super) fn remove(&mut self, namespace: &str, name: &str) {
        if let Some((cost, _)) = self.objects.remove(&self.hasher.hash_one((namespace, name))) {
            self.stock.shrink(cost);
        }
    }

    /// The list is complete. An error says that objects were left out of it: everything must be listed again.
    pub(super) fn end(&mut self) -> Result<(), Full> {
        let (list, stock) = (self.list, &self.stock);
        self.objects.retain(|_, (cost, named)| {
            let stays = *named == list;
            if !stays {
                stock.shrink(*cost);
            }
            stays
        });
        if std::mem::take(&mut self.overflowed) { Err(Full) } else { Ok(()) }
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.stock.shrink(self.objects.values().map(|(cost, _)| cost).sum());
    }
}

fn cost(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(EACH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn shelf(kib: u64) -> (Arc<Stock>, Shelf) {
        let stock = Stock::new(kib * 1024);
        (Arc::clone(&stock), Shelf::new(stock))
    }

    fn kept(stock: &Stock) -> u64 {
        stock.kept.load(Ordering::Relaxed)
    }

    #[test]
    fn a_complete_list_releases_what_it_does_not_name() {
        let (stock, mut shelf) = shelf(8);
        for name in ["a", "b", "c"] {
            assert_eq!(shelf.change("ns", name, 2 * KIB), Ok(Verdict::Take));
        }
        assert_eq!(shelf.change("ns", "d", 2 * KIB), Err(Full));
        shelf.begin();
        assert_eq!(shelf.list("ns", "a", KIB), Ok(Verdict::Take));
        assert_eq!(shelf.list("ns", "new", KIB), Ok(Verdict::LeaveOut), "it did not fit a moment ago");
        assert_eq!(shelf.end(), Err(Full), "something was left out");
        shelf.begin();
        assert_eq!(shelf.list("ns", "a", KIB), Ok(Verdict::Take));
        assert_eq!(shelf.list("ns", "new", KIB), Ok(Verdict::Take));
        assert_eq!(shelf.end(), Ok(()));
        assert_eq!(kept(&stock), 2 * (KIB as u64 + EACH));
        shelf.remove("ns", "new");
        drop(shelf);
        assert_eq!(kept(&stock), 0);
    }

    #[test]
    fn a_list_without_end_is_full_whether_or_not_it_repeats_itself() {
        for repeats in [true, false] {
            let (stock, mut shelf) = shelf(64);
            shelf.begin();
            let full = (0..1000).find(|n| {
                let name = if repeats { "same".to_owned() } else { n.to_string() };
                shelf.list("ns", &name, KIB) == Err(Full)
            });
            assert_eq!(full, Some(42));
            assert!(kept(&stock) <= 64 * 1024);
            // And so is every try after it, with other names.
            shelf.begin();
            let full = (0..1000).find(|n| shelf.list("ns", &format!("again-{n}"), KIB) == Err(Full));
            assert_eq!(full, Some(42));
            assert!(kept(&stock) <= 64 * 1024);
        }
    }

    #[test]
    fn watches_of_a_cluster_share_its_bound() {
        let stock = Stock::new(4 * 1024);
        let (mut one, mut other) = (Shelf::new(Arc::clone(&stock)), Shelf::new(Arc::clone(&stock)));
        assert_eq!(one.change("ns", "a", 3 * KIB), Ok(Verdict::Take));
        assert_eq!(other.change("ns", "a", KIB), Err(Full));
        drop(one);
        other.begin();
        assert_eq!(other.end(), Err(Full), "it may have left something out");
        assert_eq!(other.change("ns", "a", KIB), Ok(Verdict::Take));
    }
}
