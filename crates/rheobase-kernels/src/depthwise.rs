//! Channel-by-channel sums: each spike adds its own channel's weight.
//! In: packed spikes of source rows, a weight per tap and channel. Out: `out[c] += bit(c) ? weight[c] : 0` for every step and
//! position of an output row.

#![allow(clippy::needless_range_loop)] // registers are numbered; iterators over them hide the loops that must unroll

use crate::cpu::{Isa, Job, Vectors};
use crate::events::Spikes;
use crate::lanes::{Element, SumLane};
use std::ops::Range;

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
        let [kw, stride, _, pad] = row.kernel;
        let padded = row.channels.next_multiple_of(16);
        row.check(out.len());
        // shortcuts of few channels: nothing to choose between (asked number by number: an array would be put together first)
        let is_straight = kw == 1
            && pad == 0
            && row.positions.saturating_sub(1).saturating_mul(stride) < row.spikes.size[1]
            && row.first == 0
            && row.spikes.words == 1
            && row.only.is_none();
        if is_straight {
            let sum = match padded {
                16 => Some(row.straight::<E::Narrow<V>, 16>(out)),
                32 => Some(row.straight::<E::Narrow<V>, 32>(out)),
                64 => Some(row.straight::<E::Narrow<V>, 64>(out)),
                _ => None,
            };
            if let Some(n) = sum {
                return n;
            }
        }
        let (wide, narrow) = (E::Wide::<V>::LANES, E::Narrow::<V>::LANES);
        // padding, too, is read as bits
        let is_held = row.first.is_multiple_of(narrow) && row.first + padded <= row.spikes.words * 64;
        if !is_held || row.only.is_some() {
            row.anyhow(out);
            return row.count();
        }
        // the bits of a register lie in one word
        let whole = if row.first.is_multiple_of(wide) { padded / wide * wide } else { 0 };
        let inside = row.inside();
        for t in 0..row.spikes.steps {
            let out = &mut out[t * row.positions * row.stride..][..row.positions * row.stride];
            // SAFETY: `check` has seen that everything is there.
            unsafe {
                for c in (0..whole).step_by(wide) {
                    row.sum::<E::Wide<V>>(t, c, &inside, out);
                }
                for c in (whole..padded).step_by(narrow) {
                    row.sum::<E::Narrow<V>>(t, c, &inside, out);
                }
            }
        }
        row.count()
    }
}

impl<E: Element> Row<'_, E> {
    fn check(&self, out: usize) {
        let (padded, Spikes { bits, steps, size: [rows, columns], words }) =
            (self.channels.next_multiple_of(16), self.spikes);
        let [kw, stride, dilation, _] = self.kernel;
        let product = |numbers: &[usize]| numbers.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
        let end = self.taps.iter().map(|tap| tap.1 + 1).max().unwrap_or(0);
        assert!(stride > 0 && dilation > 0 && self.channels > 0, "a map of something");
        assert!(
            product(&[end, kw, padded]).is_some_and(|n| n <= self.weights.len()),
            "a weight for every tap and channel"
        );
        assert!(self.first + self.channels <= words * 64, "channels that exist");
        assert!(
            product(&[rows, steps, columns, words]).is_some_and(|n| n <= bits.len()),
            "spikes of every position"
        );
        assert!(self.taps.iter().all(|tap| tap.0 < rows), "rows of the source");
        assert!(self.to + padded <= self.stride, "columns of a position");
        assert!(
            product(&[steps, self.positions, self.stride]).is_some_and(|n| n <= out),
            "room for every sum"
        );
    }

    /// The column that tap `kx` of output `x` reads, if there is one.
    #[inline(always)]
    fn column(&self, x: usize, kx: usize) -> Option<usize> {
        let [_, stride, dilation, pad] = self.kernel;
        (x * stride + kx * dilation).checked_sub(pad).filter(|&at| at < self.spikes.size[1])
    }

    /// Positions whose taps all lie on the source.
    fn inside(&self) -> Range<usize> {
        let [kw, stride, _, pad] = self.kernel;
        let first = pad.div_ceil(stride).min(self.positions);
        let end = (first..self.positions).find(|&x| self.column(x, kw - 1).is_none());
        first..end.unwrap_or(self.positions)
    }

    /// Channels `c ..`, whose bits lie in one word, of all positions of a step.
    ///
    /// # Safety
    /// All that the row describes is there, see [`check`](Self::check), `inside` is [what it says](Self::inside), and `out` the step's.
    #[inline(always)]
    unsafe fn sum<L: SumLane<Element = E>>(&self, t: usize, c: usize, inside: &Range<usize>, out: &mut [E]) {
        let out = out[self.to + c..].as_mut_ptr();
        // SAFETY: the caller's promise.
        unsafe {
            match (self.taps.len(), self.kernel[0]) {
                (3, 3) => self.inner::<L, 3, 3>(t, c, inside.clone(), out),
                (2, 3) => self.inner::<L, 2, 3>(t, c, inside.clone(), out),
                (5, 5) => self.inner::<L, 5, 5>(t, c, inside.clone(), out),
                (4, 5) => self.inner::<L, 4, 5>(t, c, inside.clone(), out),
                (3, 5) => self.inner::<L, 3, 5>(t, c, inside.clone(), out),
                _ => return self.outer::<L>(t, c, 0..self.positions, out),
            }
            self.outer::<L>(t, c, 0..inside.start, out);
            self.outer::<L>(t, c, inside.end..self.positions, out);
        }
    }

    /// Where the words of row `y` begin at a step.
    ///
    /// # Safety
    /// It is a row of the source.
    #[inline(always)]
    unsafe fn line(&self, y: usize, t: usize) -> *const u64 {
        let Spikes { bits, steps, size: [_, columns], words } = self.spikes;
        // SAFETY: the caller's promise.
        unsafe { bits.as_ptr().add((y * steps + t) * columns * words) }
    }

    /// Positions all of whose K columns of R rows lie on the source.
    ///
    /// # Safety
    /// They do, and as for [`sum`](Self::sum).
    #[inline(always)]
    unsafe fn inner<L: SumLane<Element = E>, const R: usize, const K: usize>(
        &self,
        t: usize,
        c: usize,
        xs: Range<usize>,
        out: *mut E,
    ) {
        let ([_, stride, dilation, pad], words) = (self.kernel, self.spikes.words);
        let (padded, bit) = (self.channels.next_multiple_of(16), self.first + c);
        if xs.is_empty() {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe {
            let mut weights = [[L::splat(E::default()); K]; R];
            let mut lines = [std::ptr::null::<u64>(); R];
            for r in 0..R {
                let (y, ky) = self.taps[r];
                lines[r] = self.line(y, t).add((xs.start * stride - pad) * words);
                for (kx, weight) in weights[r].iter_mut().enumerate() {
                    *weight = L::read(self.weights.as_ptr().add((ky * K + kx) * padded + c));
                }
            }
            for x in xs {
                let to = out.add(x * self.stride);
                let mut sum = L::read(to);
                for r in 0..R {
                    for kx in 0..K {
                        let fired = bits_of::<L>(lines[r].add(kx * dilation * words), bit);
                        sum = sum.plus(weights[r][kx].keep(fired));
                    }
                    lines[r] = lines[r].wrapping_add(stride * words);
                }
                sum.write(to);
            }
        }
    }

    /// Any positions.
    ///
    /// # Safety
    /// As for [`sum`](Self::sum).
    #[inline(always)]
    unsafe fn outer<L: SumLane<Element = E>>(&self, t: usize, c: usize, xs: Range<usize>, out: *mut E) {
        let (kw, words) = (self.kernel[0], self.spikes.words);
        let (padded, bit) = (self.channels.next_multiple_of(16), self.first + c);
        for x in xs {
            // SAFETY: the caller's promise; columns are on the source.
            unsafe {
                let to = out.add(x * self.stride);
                let mut sum = L::read(to);
                for &(y, ky) in self.taps {
                    let line = self.line(y, t);
                    let mut weights = self.weights.as_ptr().add(ky * kw * padded + c);
                    for kx in 0..kw {
                        if let Some(at) = self.column(x, kx) {
                            sum = sum.plus(L::read(weights).keep(bits_of::<L>(line.add(at * words), bit)));
                        }
                        weights = weights.add(padded);
                    }
                }
                sum.write(to);
            }
        }
    }

    /// Whatever channels and positions there are.
    fn anyhow(&self, out: &mut [E]) {
        let ([kw, ..], words) = (self.kernel, self.spikes.words);
        let padded = self.channels.next_multiple_of(16);
        for (i, out) in out.chunks_exact_mut(self.stride).enumerate().take(self.spikes.steps * self.positions)
        {
            let (t, x) = (i / self.positions, i % self.positions);
            if self.only.is_some_and(|only| !only[x]) {
                continue;
            }
            for (&(y, ky), kx) in self.taps.iter().flat_map(|tap| (0..kw).map(move |kx| (tap, kx))) {
                let Some(at) = self.column(x, kx) else { continue };
                let bits = &self.spikes.row(y, t)[at * words..][..words];
                let weights = &self.weights[(ky * kw + kx) * padded..][..self.channels];
                for ((to, weight), bit) in out[self.to..].iter_mut().zip(weights).zip(self.first..) {
                    if bits[bit / 64] >> (bit % 64) & 1 == 1 {
                        *to = E::cut(to.wide().wrapping_add(weight.wide()));
                    }
                }
            }
        }
    }

    /// How many spikes are read, each as often as it is.
    #[inline(always)]
    fn count(&self) -> u64 {
        let (Spikes { steps, size: [_, columns], words, .. }, [kw, stride, dilation, pad]) =
            (self.spikes, self.kernel);
        let mut all = 0;
        for at in 0..columns {
            let reads = |kx: usize| {
                let x = (at + pad).checked_sub(kx * dilation).filter(|x| x.is_multiple_of(stride));
                x.is_some_and(|x| {
                    x / stride < self.positions && self.only.is_none_or(|only| only[x / stride])
                })
            };
            let times = (0..kw).filter(|&kx| reads(kx)).count() as u64;
            if times == 0 {
                continue;
            }
            let mut here = 0;
            for &(y, _) in self.taps {
                for t in 0..steps {
                    let bits = &self.spikes.row(y, t)[at * words..][..words];
                    here += ones(bits, self.first, self.channels);
                }
            }
            all += times * here;
        }
        all
    }

    /// N channels of every position, each reading one position.
    #[inline(always)]
    fn straight<L: SumLane<Element = E>, const N: usize>(&self, out: &mut [E]) -> u64 {
        let real = u64::MAX >> (64 - self.channels);
        let mut added = 0;
        for &(y, ky) in self.taps {
            let mut lanes = [L::splat(E::default()); N];
            for (i, lane) in lanes.iter_mut().enumerate().take(N / L::LANES) {
                *lane = L::load(&self.weights[ky * N + i * L::LANES..]);
            }
            for t in 0..self.spikes.steps {
                let out = &mut out[t * self.positions * self.stride..][..self.positions * self.stride];
                let bits = self.spikes.row(y, t);
                // counted row by row, so that it is in a register
                let mut here = 0;
                // SAFETY: `check` has seen room for every sum.
                unsafe {
                    let mut to = out.as_mut_ptr().add(self.to);
                    for &bits in bits.iter().step_by(self.kernel[1]).take(self.positions) {
                        let bits = bits & real;
                        here += bits.count_ones();
                        for (i, lane) in lanes.iter().enumerate().take(N / L::LANES) {
                            let to = to.add(i * L::LANES);
                            L::read(to).plus(lane.keep((bits >> (i * L::LANES)) as u32)).write(to);
                        }
                        to = to.wrapping_add(self.stride);
                    }
                }
                added += u64::from(here);
            }
        }
        added
    }
}

/// As many bits as there are lanes, from `bit` on, which is a multiple of that.
///
/// # Safety
/// The word is there.
#[inline(always)]
unsafe fn bits_of<L: SumLane>(words: *const u64, bit: usize) -> u32 {
    // SAFETY: the caller's promise; part of a word.
    unsafe {
        match L::LANES {
            32 if cfg!(target_endian = "little") => words.cast::<u32>().add(bit / 32).read(),
            16 if cfg!(target_endian = "little") => words.cast::<u16>().add(bit / 16).read().into(),
            8 if cfg!(target_endian = "little") => words.cast::<u8>().add(bit / 8).read().into(),
            _ => (words.add(bit / 64).read() >> (bit % 64)) as u32,
        }
    }
}

/// Bits that are set among `many` from `first` on.
#[inline(always)]
fn ones(words: &[u64], first: usize, many: usize) -> u64 {
    let end = first + many;
    let mut all = 0;
    for (i, word) in words.iter().enumerate().take(end.div_ceil(64)).skip(first / 64) {
        let from = first.saturating_sub(i * 64);
        let to = (end - i * 64).min(64);
        all += u64::from((word >> from << (64 - to + from)).count_ones());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernels of all shapes over 5 rows of 9 positions, or of 1, of 150 channels, 2 steps, against the sum written out.
    #[test]
    fn every_version_adds_the_weights_of_the_spikes() {
        for columns in [9, 1] {
            agrees(columns);
        }
    }

    fn agrees(columns: usize) {
        let (rows, words, steps): (usize, usize, usize) = (5, 3, 2);
        let mut state = 5u64;
        let bits: Vec<u64> = (0..rows * steps * columns * words)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                state & state >> 17
            })
            .collect();
        let spikes = Spikes { bits: &bits, steps, size: [rows, columns], words };
        let fired = |y: usize, t: usize, x: usize, c: usize| {
            bits[((y * steps + t) * columns + x) * words + c / 64] >> (c % 64) & 1 == 1
        };
        for (isa, first, channels) in Isa::available().into_iter().flat_map(|isa| {
            [(0, 16usize), (0, 150), (32, 48), (16, 40), (7, 20), (136, 56)].map(|(first, n)| (isa, first, n))
        }) {
            for kernel in [
                [3, 1, 1, 1],
                [5, 1, 1, 2],
                [3, 2, 1, 1],
                [3, 1, 2, 2],
                [1, 1, 1, 0],
                [2, 3, 1, 0],
                [5, 9, 1, 2],
            ] {
                let [kw, stride, dilation, pad] = kernel;
                if columns + 2 * pad <= (kw - 1) * dilation {
                    continue;
                }
                let positions = (columns + 2 * pad - (kw - 1) * dilation - 1) / stride + 1;
                let padded = channels.next_multiple_of(16);
                let weights: Vec<i16> = (0..5 * kw * padded)
                    .map(|i| if i % padded < channels { (i * 7919 % 401) as i16 - 200 } else { 0 })
                    .collect();
                let some: Vec<bool> = (0..positions).map(|x| x % 3 != 1).collect();
                for (taps, only) in [
                    (vec![(0, 0), (2, 1), (4, 2)], None),
                    (vec![(1, 0), (2, 1), (3, 2)], Some(&some[..])),
                    ((0..5).map(|y| (y, y)).collect(), None),
                    (vec![(3, 4)], None),
                    (vec![], None),
                ] {
                    let (stride_out, to) = (padded + 32, 16);
                    let row = Row {
                        taps: &taps,
                        spikes,
                        first,
                        channels,
                        weights: &weights,
                        kernel,
                        only,
                        positions,
                        stride: stride_out,
                        to,
                    };
                    let mut out = vec![3i16; steps * positions * stride_out];
                    let read = masked_row(isa, &row, &mut out);
                    let mut count = 0;
                    for (i, &got) in out.iter().enumerate() {
                        let (t, x, o) =
                            (i / stride_out / positions, i / stride_out % positions, i % stride_out);
                        let mut want = 3;
                        let is_in = (to..to + channels).contains(&o) && only.is_none_or(|only| only[x]);
                        for (&(y, ky), kx) in taps.iter().flat_map(|tap| (0..kw).map(move |kx| (tap, kx))) {
                            let at = (x * stride + kx * dilation).wrapping_sub(pad);
                            if is_in && at < columns && fired(y, t, at, first + o - to) {
                                want += weights[(ky * kw + kx) * padded + o - to];
                                count += 1;
                            }
                        }
                        assert_eq!(got, want, "{} {kernel:?} {first} {channels} {taps:?}", isa.name());
                    }
                    assert_eq!(read, count, "{} {kernel:?} {first} {channels} {taps:?}", isa.name());
                }
            }
        }
    }
}
