//! Channel-by-channel sums: each spike adds its own channel's weight.
//! In: the spike bits of one input position, a weight per channel. Out: `out[c] += bit(c) ? weight[c] : 0`.

use crate::cpu::{Isa, Job, Vectors};
use crate::lanes::{IntLane, Lane};

/// Adds to `out` the weights of the channels whose bit is set.
///
/// `bits` holds bit `first + c` for channel `c`; `weights` and `out` are equally long, a multiple of 16.
///
/// # Panics
/// If the lengths do not agree or `bits` is too short.
pub fn masked_add(isa: Isa, bits: &[u64], first: usize, weights: &[i32], out: &mut [i32]) {
    isa.run(MaskedAdd { bits, first, weights, out });
}

/// [`masked_add`] inside another job.
pub struct MaskedAdd<'a> {
    /// Spikes.
    pub bits: &'a [u64],
    /// Bit of the first channel.
    pub first: usize,
    /// Weight per channel.
    pub weights: &'a [i32],
    /// Sum per channel.
    pub out: &'a mut [i32],
}

impl Job for MaskedAdd<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let lanes = V::I32::LANES;
        assert!(self.weights.len() == self.out.len() && self.weights.len().is_multiple_of(16));
        for (b, (w, out)) in self.weights.chunks_exact(16).zip(self.out.chunks_exact_mut(16)).enumerate() {
            let word = sixteen(self.bits, self.first + 16 * b);
            if word == 0 {
                continue;
            }
            for i in (0..16).step_by(lanes) {
                let old = V::I32::load(&out[i..]);
                let new = old.add(V::I32::load(&w[i..]));
                new.or_else(V::I32::mask(word >> i), old).store(&mut out[i..]);
            }
        }
    }
}

/// Bits `first .. first + 16`; bits beyond the end are 0.
#[inline(always)]
fn sixteen(bits: &[u64], first: usize) -> u32 {
    let (word, shift) = (first / 64, first % 64);
    let low = bits.get(word).map_or(0, |w| w >> shift);
    let high = if shift > 48 { bits.get(word + 1).map_or(0, |w| w << (64 - shift)) } else { 0 };
    ((low | high) & 0xffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_adds_the_same_channels() {
        let bits = [0x8123_4567_89ab_cdef_u64, 0xf0f0_1234_5678_9abc];
        let weights: Vec<i32> = (0..64).map(|i| i * 3 - 50).collect();
        for first in [0, 5, 53, 64] {
            for isa in Isa::available() {
                let mut out = vec![7; 64];
                masked_add(isa, &bits, first, &weights, &mut out);
                for c in 0..64 {
                    let bit = bits.get((first + c) / 64).is_some_and(|w| w >> ((first + c) % 64) & 1 == 1);
                    assert_eq!(out[c], 7 + if bit { weights[c] } else { 0 }, "{} {first} {c}", isa.name());
                }
            }
        }
    }
}
