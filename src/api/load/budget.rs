//! A bounded amount that callers share.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The caller's share.
    Share,
    /// The total.
    Total,
}

/// How much of the total one caller may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Half of what the others leave: alone it may hold half of the total, and others always get something.
    AsMuchAsIsLeft,
    /// This much.
    Fixed(u64),
}

/// An amount that callers take from.
#[derive(Debug)]
pub struct Budget<K> {
    total: u64,
    share: Share,
    held: Mutex<Holdings<K>>,
}

#[derive(Debug)]
struct Holdings<K> {
    by_caller: HashMap<K, u64>,
    sum: u64,
}

/// What one call holds; returned on drop.
#[derive(Debug)]
pub struct Held<K: Hash + Eq + Clone> {
    budget: Arc<Budget<K>>,
    caller: K,
    amount: u64,
}

impl<K: Hash + Eq + Clone> Budget<K> {
    /// Nothing of `total` is held.
    pub fn new(total: u64, share: Share) -> Arc<Self> {
        Arc::new(Self { total, share, held: Mutex::new(Holdings { by_caller: HashMap::new(), sum: 0 }) })
    }

    /// A handle through which `caller` takes; it holds nothing at first.
    pub fn hold(self: &Arc<Self>, caller: K) -> Held<K> {
        Held { budget: Arc::clone(self), caller, amount: 0 }
    }

    /// What all callers hold together.
    #[cfg(test)]
    pub fn sum(&self) -> u64 {
        self.held.lock().sum
    }

    fn take(&self, caller: &K, amount: u64) -> Result<(), Full> {
        // An entry of zero would never be removed.
        if amount == 0 {
            return Ok(());
        }
        let mut held = self.held.lock();
        let sum = held.sum.saturating_add(amount);
        if sum > self.total {
            return Err(Full::Total);
        }
        let own = held.by_caller.get(caller).copied().unwrap_or(0).saturating_add(amount);
        let most = match self.share {
            Share::AsMuchAsIsLeft => self.total - sum,
            Share::Fixed(most) => most,
        };
        if own > most {
            return Err(Full::Share);
        }
        held.sum = sum;
        match held.by_caller.get_mut(caller) {
            Some(amount) => *amount = own,
            None => {
                held.by_caller.insert(caller.clone(), own);
            }
        }
        Ok(())
    }

    fn give_back(&self, caller: &K, amount: u64) {
        let mut held = self.held.lock();
        held.sum = held.sum.saturating_sub(amount);
        if let Some(own) = held.by_caller.get_mut(caller) {
            *own = own.saturating_sub(amount);
            if *own == 0 {
                held.by_caller.remove(caller);
            }
        }
    }
}

impl<K: Hash + Eq + Clone> Held<K> {
    /// Takes more; on error takes nothing.
    pub fn grow(&mut self, amount: u64) -> Result<(), Full> {
        self.budget.take(&self.caller, amount)?;
        self.amount += amount;
        Ok(())
    }

    /// Returns everything.
    pub fn release(&mut self) {
        if self.amount > 0 {
            self.budget.give_back(&self.caller, std::mem::take(&mut self.amount));
        }
    }
}

impl<K: Hash + Eq + Clone> Drop for Held<K> {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_caller_gets_half_and_the_next_half_of_the_rest() {
        let budget = Budget::new(100, Share::AsMuchAsIsLeft);
        let (mut one, mut other) = (budget.hold("one"), budget.hold("other"));
        assert_eq!((one.grow(50), one.grow(1)), (Ok(()), Err(Full::Share)));
        assert_eq!((other.grow(25), other.grow(1)), (Ok(()), Err(Full::Share)));
        drop(one);
        assert_eq!(other.grow(25), Ok(()));
        assert_eq!(budget.sum(), 50);
    }

    #[test]
    fn calls_of_one_caller_share_its_part_and_give_it_back() {
        let budget = Budget::new(10, Share::Fixed(2));
        let mut calls: Vec<_> = (0..3).map(|_| budget.hold("one")).collect();
        let taken: Vec<_> = calls.iter_mut().map(|call| call.grow(1)).collect();
        assert_eq!(taken, [Ok(()), Ok(()), Err(Full::Share)]);
        calls[0].release();
        assert_eq!(calls[2].grow(1), Ok(()));
        let mut others: Vec<_> = (0..9).map(|n| budget.hold(["a", "b", "c", "d", "e"][n / 2])).collect();
        let taken: Vec<_> = others.iter_mut().map(|call| call.grow(1)).collect();
        assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 8);
        assert_eq!(taken[8], Err(Full::Total));
    }

    #[test]
    fn taking_nothing_leaves_no_entry() {
        let budget = Budget::new(10, Share::AsMuchAsIsLeft);
        assert_eq!(budget.hold("one").grow(0), Ok(()));
        assert!(budget.held.lock().by_caller.is_empty());
    }

    proptest! {
        /// For any sequence of operations: the total is never exceeded, a caller that holds nothing gets a byte, and
        /// everything is returned.
        #[test]
        fn nobody_takes_everything(steps in proptest::collection::vec((0u8..4, 0u64..60), 1..100)) {
            let budget = Budget::new(100, Share::AsMuchAsIsLeft);
            let mut held = Vec::new();
            for (caller, amount) in steps {
                if amount == 0 && !held.is_empty() {
                    held.remove(0);
                    continue;
                }
                let mut holding = budget.hold(caller);
                if holding.grow(amount).is_ok() {
                    held.push(holding);
                }
                prop_assert!(budget.sum() < 100);
            }
            if budget.sum() < 99 {
                prop_assert!(budget.hold(9).grow(1).is_ok());
            }
            drop(held);
            prop_assert_eq!(budget.sum(), 0);
            prop_assert!(budget.held.lock().by_caller.is_empty());
        }
    }
}
