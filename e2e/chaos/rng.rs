//! Seeded random choices: the same seed and stream name repeat the same choices.

use std::hash::Hasher as _;
use std::ops::Range;
use std::time::Duration;

use fnv::FnvHasher;

/// One stream of choices.
#[derive(Clone, Debug)]
pub struct Rng(fastrand::Rng);

impl Rng {
    /// The stream `name` of a seed; streams of other names are independent.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut hasher = FnvHasher::default();
        hasher.write(name.as_bytes());
        Self(fastrand::Rng::with_seed(seed ^ hasher.finish()))
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.u64(..bound.max(1))
    }

    /// True in `percent` of all cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A number in a range; its start if it is empty.
    pub fn within(&mut self, of: Range<u64>) -> u64 {
        of.start + self.below(of.end.saturating_sub(of.start))
    }

    /// A duration in a range of milliseconds.
    pub fn millis(&mut self, of: Range<u64>) -> Duration {
        Duration::from_millis(self.within(of))
    }

    /// An index into a list of this length; `None` if it is empty.
    pub fn place(&mut self, length: usize) -> Option<usize> {
        (length > 0).then(|| self.0.usize(..length))
    }

    /// One of several; `None` if there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        self.0.choice(of)
    }

    /// The same elements in another order.
    pub fn shuffled<T>(&mut self, mut of: Vec<T>) -> Vec<T> {
        self.0.shuffle(&mut of);
        of
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(mut rng: Rng) -> Vec<u64> {
        (0..20).map(|_| rng.below(1000)).collect()
    }

    #[test]
    fn a_seed_and_a_name_repeat_their_choices_and_others_differ() {
        let first = some(Rng::new(7, "nemesis"));
        assert_eq!(first, some(Rng::new(7, "nemesis")));
        assert_ne!(first, some(Rng::new(8, "nemesis")));
        assert_ne!(first, some(Rng::new(7, "client-0")));
        assert_eq!(Rng::new(7, "x").pick::<u8>(&[]), None);
        let shuffled = || Rng::new(7, "x").shuffled((0..20).collect::<Vec<_>>());
        assert_eq!(shuffled(), shuffled());
        let mut order = shuffled();
        order.sort_unstable();
        assert_eq!(order, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn empty_ranges_and_bounds_have_a_value() {
        let mut rng = Rng::new(7, "x");
        assert_eq!((rng.below(0), rng.within(5..5), rng.place(0)), (0, 5, None));
        assert!((0..100).all(|_| (3..6).contains(&rng.within(3..6))));
        assert!((0..100).all(|_| !rng.chance(0) && rng.chance(100)));
    }
}
