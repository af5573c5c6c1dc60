//! The machine's limit for sums: vectors loaded from the nearest cache and added, nothing else.
//! In: numbers that fit that cache. Out: their sum, many times over; how long that takes is for the caller to measure.

use crate::cpu::{Isa, Job, Vectors};
use crate::lanes::{Element, SumLane};

/// Vectors that are added side by side.
const SIDE: usize = 8;

/// Adds all numbers `rounds` times and returns how many additions that were, and a number that depends on all of them.
pub fn additions<E: Element>(isa: Isa, numbers: &[E], rounds: usize) -> (u64, i32) {
    isa.run(Additions { numbers, rounds })
}

struct Additions<'a, E> {
    numbers: &'a [E],
    rounds: usize,
}

impl<E: Element> Job for Additions<'_, E> {
    type Out = (u64, i32);
    #[inline(always)]
    fn run<V: Vectors>(self) -> (u64, i32) {
        let lanes = E::Wide::<V>::LANES;
        let mut sums = [E::Wide::<V>::splat(E::default()); SIDE];
        for _ in 0..self.rounds {
            for numbers in std::hint::black_box(self.numbers).chunks_exact(SIDE * lanes) {
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.plus(E::Wide::<V>::load(&numbers[i * lanes..]));
                }
            }
        }
        let mut left = [E::default(); 32];
        let mut all = 0i32;
        for sum in sums {
            sum.store(&mut left);
            all = left[..lanes].iter().fold(all, |a, x| a.wrapping_add(x.wide()));
        }
        let each = self.numbers.len() / (SIDE * lanes) * SIDE * lanes;
        ((self.rounds * each) as u64, all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_adds_everything() {
        let numbers: Vec<i16> = (0..1024).map(|i| i % 7).collect();
        let want = 3 * numbers.iter().map(|&x| i32::from(x)).sum::<i32>();
        for isa in Isa::available() {
            assert_eq!(additions(isa, &numbers, 3), (3 * 1024, want), "{}", isa.name());
        }
    }
}
