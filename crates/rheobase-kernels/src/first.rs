//! The analog image's weighted sum: the only floating-point sum of the engine.
//! In: rows of pixels, weights `[taps, cols]`. Out: `Σ pixel · weight`, taps in ascending order, one rounding a
//! multiplication and one an addition, so that every machine gives the same bits; then the same in whole units, added to every
//! step's currents.
//!
//! Pixels beyond the image are zeros: their products are zeros, and adding those changes no sum (none is -0).

use crate::cpu::{Isa, Job, Vectors};
use crate::lanes::Element;

/// Columns of weights are padded to a multiple of this.
pub const COLS: usize = 16;

/// How sums become units.
#[derive(Debug)]
pub struct Units {
    /// `[some positions, cols]`, the same for each, so that a round of them is worth it.
    scales: Vec<f32>,
    limits: Vec<f32>,
}

impl Units {
    /// What a sum of every column is multiplied with, and the largest magnitude of a result, above which it saturates.
    ///
    /// # Panics
    /// If there are no columns or not as many of both, or a limit is not within 0 and 2^30.
    pub fn new(scales: &[f32], limits: &[f32]) -> Self {
        assert!(!scales.is_empty() && scales.len() == limits.len(), "numbers of every column");
        assert!(limits.iter().all(|l| (0.0..=(1 << 30) as f32).contains(l)), "limits fit an integer");
        let many = 128usize.next_multiple_of(scales.len());
        let [scales, limits] = [scales, limits].map(|x| x.iter().copied().cycle().take(many).collect());
        Units { scales, limits }
    }
}

/// One row of output positions.
pub struct Row<'a> {
    /// Pixels, beginning with the first under the first output position.
    pub pixels: &'a [f32],
    /// Kernel rows.
    pub kernel: usize,
    /// Numbers from one kernel row's pixels to the next.
    pub pitch: usize,
    /// Pixels' numbers under a kernel row.
    pub line: usize,
    /// Numbers from one output position to the next.
    pub pace: usize,
    /// `[kernel rows · line, cols]`.
    pub weights: &'a [f32],
    /// Columns, a multiple of [`COLS`].
    pub cols: usize,
    /// Units of every column.
    pub units: &'a Units,
}

/// Writes the sums in units, rounded to even, to `out`, `[positions, cols]`; `sums` is room to work in.
///
/// # Panics
/// If pixels or weights are too short, or units are those of other columns.
pub fn image_row(isa: Isa, row: &Row<'_>, sums: &mut Vec<f32>, out: &mut [i32]) {
    sums.resize(out.len(), 0.0);
    isa.run(ImageRow { row, sums, out });
}

struct ImageRow<'a, 'b> {
    row: &'a Row<'b>,
    sums: &'a mut [f32],
    out: &'a mut [i32],
}

impl Job for ImageRow<'_, '_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let ImageRow { row, sums, out } = self;
        assert!(row.cols.is_multiple_of(COLS) && row.cols > 0, "columns come in blocks");
        let Units { scales, limits } = row.units;
        let many = scales.len();
        assert!(many.is_multiple_of(row.cols), "units of every column");
        let positions = out.len() / row.cols;
        let mut x = 0;
        while x + 8 <= positions {
            some::<8>(row, x, sums);
            x += 8;
        }
        while x + 4 <= positions {
            some::<4>(row, x, sums);
            x += 4;
        }
        while x < positions {
            some::<1>(row, x, sums);
            x += 1;
        }
        // A loop of its own, of a length that is not known here: that is what becomes vectors.
        for (out, sums) in out.chunks_mut(many).zip(sums.chunks(many)) {
            for (((out, sum), scale), limit) in out.iter_mut().zip(sums).zip(scales).zip(limits) {
                let units = (sum * scale).round_ties_even().max(-limit).min(*limit);
                // SAFETY: within ±2^30 (max takes the limit for NaN), see `Units`.
                *out = unsafe { units.to_int_unchecked() };
            }
        }
    }
}

/// Positions `x .. x + N`: as many sums side by side hide the latency of each.
#[inline(always)]
fn some<const N: usize>(row: &Row<'_>, x: usize, out: &mut [f32]) {
    // Lanes are output channels, so vectorising keeps each sum's order; Rust never fuses. A block of sums stays in
    // registers through all taps.
    for first in (0..row.cols).step_by(COLS) {
        let mut sums = [[0f32; COLS]; N];
        for ky in 0..row.kernel {
            let line = &row.pixels[ky * row.pitch..];
            let weights = &row.weights[ky * row.line * row.cols..][..row.line * row.cols];
            let pixels = &line[x * row.pace..][..(N - 1) * row.pace + row.line];
            for i in 0..row.line {
                let weights = &weights[i * row.cols + first..][..COLS];
                for (n, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: the slice ends behind the last position's last number.
                    let pixel = unsafe { *pixels.get_unchecked(n * row.pace + i) };
                    for (sum, w) in sums.iter_mut().zip(weights) {
                        *sum += pixel * w;
                    }
                }
            }
        }
        for (n, sums) in sums.iter().enumerate() {
            out[(x + n) * row.cols + first..][..COLS].copy_from_slice(sums);
        }
    }
}

/// Adds the first `outs` of every position's numbers, `[positions, cols]`, to `out`, `[steps, positions, stride]`, from
/// column `to` on, at every step; positions that `only` leaves out get nothing.
///
/// # Panics
/// If a slice is too short.
pub fn add_steps<E: Element>(
    isa: Isa,
    numbers: &[i32],
    [cols, outs, stride, to]: [usize; 4],
    only: Option<&[bool]>,
    out: &mut [E],
) {
    let positions = numbers.len() / cols;
    assert!(numbers.len().is_multiple_of(cols) && outs <= cols && to + outs <= stride, "whole positions");
    assert!(positions > 0 && out.len().is_multiple_of(positions * stride), "whole steps");
    isa.run(AddSteps { numbers, cols, outs, stride, to, only, out });
}

struct AddSteps<'a, E> {
    numbers: &'a [i32],
    cols: usize,
    outs: usize,
    stride: usize,
    to: usize,
    only: Option<&'a [bool]>,
    out: &'a mut [E],
}

impl<E: Element> Job for AddSteps<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let step = self.numbers.len() / self.cols * self.stride;
        for out in self.out.chunks_exact_mut(step) {
            let positions = out.chunks_exact_mut(self.stride).zip(self.numbers.chunks_exact(self.cols));
            for (x, (out, numbers)) in positions.enumerate() {
                if self.only.is_none_or(|only| only[x]) {
                    let out = &mut out[self.to..][..self.outs];
                    for (out, &n) in out.iter_mut().zip(&numbers[..self.outs]) {
                        *out = E::cut(out.wide().wrapping_add(n));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_taken_in_order_and_rounded() {
        let (cols, positions, line, kernel, pace) = (32, 7, 6, 3, 2);
        let pitch = (positions - 1) * pace + line;
        let wave = |i: usize| ((i * 7919 % 1013) as f32 - 500.0) / 97.0;
        let pixels: Vec<f32> = (0..kernel * pitch).map(wave).collect();
        let weights: Vec<f32> = (0..kernel * line * cols).map(|i| wave(i + 5) / 31.0).collect();
        let scales: Vec<f32> = (0..cols).map(|c| 2f32.powi(c as i32 % 7)).collect();
        let units = Units::new(&scales, &vec![900.0; cols]);
        for isa in Isa::available() {
            let row =
                Row { pixels: &pixels, kernel, pitch, line, pace, weights: &weights, cols, units: &units };
            let mut out = vec![7; positions * cols];
            image_row(isa, &row, &mut vec![], &mut out);
            for (i, &got) in out.iter().enumerate() {
                let (x, c) = (i / cols, i % cols);
                let mut sum = 0f32;
                for tap in 0..kernel * line {
                    sum += pixels[tap / line * pitch + x * pace + tap % line] * weights[tap * cols + c];
                }
                assert_eq!(got, (sum * scales[c]).round_ties_even().clamp(-900.0, 900.0) as i32);
            }
        }
    }
}
