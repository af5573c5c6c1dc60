//! Rounding of exact sums, step by step.
//! In: exact integers as f64, `[steps, size]`. Out: `currents[steps, size] +=` differences of the rounded running sums.

use crate::cpu::{Isa, Job, Vectors};

/// Adds to each step's currents round(sum up to t) - round(sum up to t - 1), where a sum is rounded by dropping `fraction` bits,
/// half upwards. `running` is room to work in.
///
/// # Panics
/// If `exact` and `currents` differ in length or are not whole steps of `size`.
pub fn round_steps(
    isa: Isa,
    exact: &[f64],
    size: usize,
    fraction: u32,
    running: &mut Vec<i64>,
    currents: &mut [i32],
) {
    assert!(exact.len() == currents.len() && size > 0 && exact.len().is_multiple_of(size), "whole steps");
    isa.run(RoundSteps { exact, size, fraction, running, currents });
}

struct RoundSteps<'a> {
    exact: &'a [f64],
    size: usize,
    fraction: u32,
    running: &'a mut Vec<i64>,
    currents: &'a mut [i32],
}

impl Job for RoundSteps<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let half = 1i64 << (self.fraction - 1);
        self.running.clear();
        self.running.resize(self.size, half);
        for (exact, currents) in
            self.exact.chunks_exact(self.size).zip(self.currents.chunks_exact_mut(self.size))
        {
            for ((sum, e), current) in self.running.iter_mut().zip(exact).zip(currents) {
                let before = *sum >> self.fraction;
                // SAFETY: finite and below 2^53 in magnitude: sums of products of bounded integers (and if a caller breaks
                // that, the comparison keeps the conversion defined).
                *sum += if e.abs() < 9_007_199_254_740_992.0 {
                    unsafe { e.to_int_unchecked::<i64>() }
                } else {
                    0
                };
                *current = current.wrapping_add(((*sum >> self.fraction) - before) as i32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_arrived_is_the_rounded_total() {
        let (steps, size) = (5, 37);
        let exact: Vec<f64> =
            (0..steps * size).map(|i| ((i as i64 * 7_919_773 % 40_009) - 20_000) as f64 * 131.0).collect();
        for isa in Isa::available() {
            let mut currents = vec![0; steps * size];
            round_steps(isa, &exact, size, 10, &mut vec![], &mut currents);
            for i in 0..size {
                let (mut total, mut arrived) = (0i64, 0i64);
                for t in 0..steps {
                    total += exact[t * size + i] as i64;
                    arrived += i64::from(currents[t * size + i]);
                    assert_eq!(arrived, (total + 512).div_euclid(1024), "{}", isa.name());
                }
            }
        }
    }
}
