//! Channel-by-channel sums: each spike adds its own channel's weight.
//! In: the spike bits of one input position, a weight per channel. Out: `out[c] += bit(c) ? weight[c] : 0`.

use crate::cpu::{Isa, Job, Vectors};
use crate::lanes::{IntLane, Lane};

/// One tap of one position, at every step.
pub struct Masked<'a> {
    /// Spikes of the input position at the first step.
    pub bits: &'a [u64],
    /// Words from one step to the next.
    pub bits_stride: usize,
    /// Bit of the first channel.
    pub first: usize,
    /// How many channels there are; what lies beyond is padding.
    pub channels: usize,
    /// Weight per channel, padded to a multiple of 16.
    pub weights: &'a [i32],
    /// Numbers from one step's sums to the next.
    pub out_stride: usize,
    /// Steps.
    pub steps: usize,
}

/// Adds to each step's sums the weights of the channels whose bit is set, and returns how many were.
///
/// # Panics
/// If `weights` is not padded, or the slices are too short for the steps.
pub fn masked_add(isa: Isa, what: &Masked<'_>, out: &mut [i32]) -> u64 {
    isa.run(MaskedAdd { what, out })
}

struct MaskedAdd<'a, 'b> {
    what: &'a Masked<'b>,
    out: &'a mut [i32],
}

impl Job for MaskedAdd<'_, '_> {
    type Out = u64;
    #[inline(always)]
    fn run<V: Vectors>(self) -> u64 {
        let (what, lanes) = (self.what, V::I32::LANES);
        assert!(what.weights.len().is_multiple_of(16) && what.channels <= what.weights.len());
        let mut added = 0;
        for t in 0..what.steps {
            let bits = &what.bits[t * what.bits_stride..];
            let out = &mut self.out[t * what.out_stride..][..what.weights.len()];
            for (b, (w, out)) in what.weights.chunks_exact(16).zip(out.chunks_exact_mut(16)).enumerate() {
                let real = what.channels.saturating_sub(16 * b).min(16);
                let word = sixteen(bits, what.first + 16 * b) & ((1 << real) - 1);
                if word == 0 {
                    continue;
                }
                added += u64::from(word.count_ones());
                for i in (0..16).step_by(lanes) {
                    let old = V::I32::load(&out[i..]);
                    let new = old.add(V::I32::load(&w[i..]));
                    new.or_else(V::I32::mask(word >> i), old).store(&mut out[i..]);
                }
            }
        }
        added
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
        let bits = [0x8123_4567_89ab_cdef_u64, 0xf0f0_1234_5678_9abc, !0];
        let weights: Vec<i32> = (0..64).map(|i| i * 3 - 50).collect();
        for first in [0, 5, 53, 64] {
            for channels in [64, 50, 3] {
                for isa in Isa::available() {
                    let mut out = vec![7; 2 * 64];
                    let (bits_stride, out_stride, steps) = (1, 64, 2);
                    let what = Masked {
                        bits: &bits,
                        bits_stride,
                        first,
                        channels,
                        weights: &weights,
                        out_stride,
                        steps,
                    };
                    let added = masked_add(isa, &what, &mut out);
                    let mut count = 0;
                    for (t, c) in (0..2).flat_map(|t| (0..64).map(move |c| (t, c))) {
                        let bit =
                            bits.get(t + (first + c) / 64).is_some_and(|w| w >> ((first + c) % 64) & 1 == 1);
                        let add = bit && c < channels;
                        count += u64::from(add);
                        assert_eq!(
                            out[t * 64 + c],
                            7 + if add { weights[c] } else { 0 },
                            "{} {first} {c}",
                            isa.name()
                        );
                    }
                    assert_eq!(added, count);
                }
            }
        }
    }
}
