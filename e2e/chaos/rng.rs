//! Random choices that a seed repeats: SplitMix64, one stream for each name.

use std::ops::Range;
use std::time::Duration;

/// A stream of choices.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream `name` of a seed; other names are other streams.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(seed ^ hash)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 where that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Whether something comes about that does so in `percent` of all cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A number of a range; its start where it is empty.
    pub fn within(&mut self, of: Range<u64>) -> u64 {
        of.start + self.below(of.end.saturating_sub(of.start))
    }

    /// So many milliseconds.
    pub fn millis(&mut self, of: Range<u64>) -> Duration {
        Duration::from_millis(self.within(of))
    }

    /// A place in a list of that length; none where it is empty.
    pub fn place(&mut self, length: usize) -> Option<usize> {
        let at = self.below(u64::try_from(length).ok()?);
        usize::try_from(at).ok().filter(|at| *at < length)
    }

    /// One of several; none where there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.place(of.len())?)
    }

    /// The same in another order.
    pub fn shuffled<T>(&mut self, mut of: Vec<T>) -> Vec<T> {
        let mut order = Vec::new();
        while let Some(at) = self.place(of.len()) {
            order.push(of.swap_remove(at));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(mut rng: Rng) -> Vec<u64> {
        (0..20).map(|_| rng.below(1000)).collect()
    }

    #[test]
    fn a_seed_and_a_name_repeat_their_choices_and_others_make_others() {
        let first = some(Rng::new(7, "nemesis"));
        assert_eq!(first, some(Rng::new(7, "nemesis")));
        assert_ne!(first, some(Rng::new(8, "nemesis")));
        assert_ne!(first, some(Rng::new(7, "client-0")));
        assert_eq!(Rng::new(7, "x").pick::<u8>(&[]), None);
        let mut order = Rng::new(7, "x").shuffled(vec![1, 2, 3]);
        order.sort_unstable();
        assert_eq!(order, [1, 2, 3]);
    }
}
