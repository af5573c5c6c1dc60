//! The same numbers at every position: what currents begin with.

use crate::cpu::{Isa, Job, Vectors};
use crate::lanes::{Element, SumLane};

/// Writes the same numbers to every position.
///
/// # Panics
/// If `out` is not whole positions, or `numbers` not a multiple of 16.
pub fn fill<E: Element>(isa: Isa, numbers: &[E], out: &mut [E]) {
    assert!(numbers.len().is_multiple_of(16) && out.len().is_multiple_of(numbers.len()), "whole positions");
    isa.run(Fill { numbers, out });
}

struct Fill<'a, E> {
    numbers: &'a [E],
    out: &'a mut [E],
}

impl<E: Element> Job for Fill<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        for out in self.out.chunks_exact_mut(self.numbers.len()) {
            for (out, numbers) in out.chunks_exact_mut(16).zip(self.numbers.chunks_exact(16)) {
                for i in (0..16).step_by(E::Narrow::<V>::LANES) {
                    E::Narrow::<V>::load(&numbers[i..]).store(&mut out[i..]);
                }
            }
        }
    }
}
