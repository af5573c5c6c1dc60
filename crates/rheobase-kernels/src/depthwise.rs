//! Channel-by-channel sums: each spike adds its own channel's weight.
//! In: packed spikes of source rows, a weight per tap and channel. Out: `out[c] += bit(c) ? weight[c] : 0` for every step and
//! position of an output row.

use crate::cpu::{Isa, Job, Vectors};
use crate::events::Spikes;
use crate::lanes::{Element, SumLane};

/// One row of output positions of a depthwise convolution, at every step.
pub struct Row<'a, E> {
    /// Kernel rows that lie on the source: the source's row and the kernel row.
    pub taps: &'a [(usize, usize)],
    /// Spikes of the source.
    pub spikes: Spikes<'a>,
    /// Bit of the first channel.
    pub first: usize,
    /// How many channels there are; what lies beyond is padding.
    pub channels: usize,
    /// `[kernel rows, kernel width, padded]`, channels padded to a multiple of 16.
    pub weights: &'a [E],
    /// Kernel width, stride, dilation, padding on the left.
    pub kernel: [usize; 4],
    /// Output positions that it reaches, if not all.
    pub only: Option<&'a [bool]>,
    /// Output positions.
    pub positions: usize,
    /// Numbers of an output position; steps lie `positions · stride` apart.
    pub stride: usize,
    /// First column.
    pub to: usize,
}

/// Adds the weights of the channels whose bit is set to `out`, `[steps, positions, stride]`, and returns how many were.
///
/// # Panics
/// If the slices are too short for what the row describes.
pub fn masked_row<E: Element>(isa: Isa, row: &Row<'_, E>, out: &mut [E]) -> u64 {
    isa.run(MaskedRow { row, out })
}

struct MaskedRow<'a, 'b, E> {
    row: &'a Row<'b, E>,
    out: &'a mut [E],
}

impl<E: Element> Job for MaskedRow<'_, '_, E> {
    type Out = u64;
    #[inline(always)]
    fn run<V: Vectors>(self) -> u64 {
        let MaskedRow { row, out } = self;
        let [kw, stride, dilation, pad] = row.kernel;
        let padded = row.channels.next_multiple_of(16);
        let ([_, columns], words) = (row.spikes.size, row.spikes.words);
        // shortcuts of few channels: nothing to choose between (asked number by number: an array would be put together first)
        let is_straight =
            kw == 1 && stride == 1 && pad == 0 && row.first == 0 && words == 1 && row.only.is_none();
        let mut added = 0;
        for &(y, ky) in row.taps {
            for kx in 0..kw {
                let weights = &row.weights[(ky * kw + kx) * padded..][..padded];
                for t in 0..row.spikes.steps {
                    let bits = row.spikes.row(y, t);
                    let out = &mut out[t * row.positions * row.stride..][..row.positions * row.stride];
                    if is_straight {
                        let straight = match padded {
                            16 => Some(straight::<E::Narrow<V>, 16>(row, bits, weights, out)),
                            32 => Some(straight::<E::Narrow<V>, 32>(row, bits, weights, out)),
                            64 => Some(straight::<E::Narrow<V>, 64>(row, bits, weights, out)),
                            _ => None,
                        };
                        if let Some(n) = straight {
                            added += n;
                            continue;
                        }
                    }
                    for (x, out) in out.chunks_exact_mut(row.stride).enumerate() {
                        let at = (x * stride + kx * dilation).wrapping_sub(pad);
                        if at >= columns || row.only.is_some_and(|only| !only[x]) {
                            continue;
                        }
                        let out = &mut out[row.to..][..padded];
                        let bits = &bits[at * words..][..words];
                        let wide = E::Wide::<V>::LANES;
                        let whole = padded / wide * wide;
                        added += some::<E::Wide<V>>(row, bits, weights, 0..whole, out);
                        added += some::<E::Narrow<V>>(row, bits, weights, whole..padded, out);
                    }
                }
            }
        }
        added
    }
}

/// N channels of every position, each reading the position below it.
#[inline(always)]
fn straight<L: SumLane, const N: usize>(
    row: &Row<'_, L::Element>,
    bits: &[u64],
    weights: &[L::Element],
    out: &mut [L::Element],
) -> u64 {
    let real = u64::MAX >> (64 - row.channels);
    let mut lanes = [L::splat(L::Element::default()); N];
    for (i, lane) in lanes.iter_mut().enumerate().take(N / L::LANES) {
        *lane = L::load(&weights[i * L::LANES..]);
    }
    let mut added = 0;
    for (out, bits) in out.chunks_exact_mut(row.stride).zip(bits) {
        let bits = bits & real;
        added += u64::from(bits.count_ones());
        let out = &mut out[row.to..][..N];
        for (i, lane) in lanes.iter().enumerate().take(N / L::LANES) {
            let out = &mut out[i * L::LANES..];
            L::load(out).plus(lane.keep((bits >> (i * L::LANES)) as u32)).store(out);
        }
    }
    added
}

/// Some channels of one position.
#[inline(always)]
fn some<L: SumLane>(
    row: &Row<'_, L::Element>,
    bits: &[u64],
    weights: &[L::Element],
    channels: std::ops::Range<usize>,
    out: &mut [L::Element],
) -> u64 {
    let mut added = 0;
    for c in channels.step_by(L::LANES) {
        let real = row.channels.saturating_sub(c).min(L::LANES);
        let keep = (u64::MAX >> 1 >> (63 - real)) as u32;
        let word = window(bits, row.first + c) & keep;
        added += u64::from(word.count_ones());
        let weights = L::load(&weights[c..]).keep(word);
        L::load(&out[c..]).plus(weights).store(&mut out[c..]);
    }
    added
}

/// Bits `first .. first + 32`; bits beyond the end are 0.
#[inline(always)]
fn window(bits: &[u64], first: usize) -> u32 {
    let (word, shift) = (first / 64, first % 64);
    let low = bits.get(word).map_or(0, |w| w >> shift);
    let high = if shift > 32 { bits.get(word + 1).map_or(0, |w| w << (64 - shift)) } else { 0 };
    (low | high) as u32
}
