//! Random numbers that depend on nothing but what they are for.
//! In: a seed and the purpose's number. Out: the same stream on every machine, whatever the threads.

/// SplitMix64 (Steele, Lea, Flood, 2014): a counter through a mixing function.
#[derive(Debug, Clone)]
pub struct Stream(u64);

impl Stream {
    /// The stream of this seed for this purpose (a parameter, an epoch, a sample).
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut start = Stream(seed ^ purpose.wrapping_mul(0xd1b5_4a32_d192_ed03));
        Stream(start.bits())
    }

    /// A stream of its own for something smaller: of an epoch, its samples.
    pub fn fork(&self, purpose: u64) -> Self {
        Stream::new(self.0, purpose)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1), 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In 0..n; n is at least 1.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.bits() as u128 * n.max(1) as u128) >> 64) as usize
    }

    /// Puts things in a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for i in (1..things.len()).rev() {
            things.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_everything_and_depends_on_the_seed() {
        let order = |seed| {
            let mut all: Vec<usize> = (0..100).collect();
            Stream::new(seed, 3).shuffle(&mut all);
            all
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        let mut sorted = order(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }
}
