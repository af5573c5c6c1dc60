//! The analog image's weighted sum: the only floating-point sum of the engine.
//! In: the pixels under one output position, weights `[taps, cols]`. Out: `out[cols] += Σ pixel · weight`, taps in ascending
//! order, one rounding a multiplication and one an addition, so that every machine gives the same bits.

use crate::cpu::{Isa, Job, Vectors};

/// Adds to `out` the products of one position's pixels, in order; `rows[i]` is the weight row of `pixels[i]`.
///
/// # Panics
/// If a row is not in `weights` or `out` is shorter than `cols`.
pub fn dense(isa: Isa, pixels: &[f32], rows: &[u32], weights: &[f32], cols: usize, out: &mut [f32]) {
    isa.run(Dense { pixels, rows, weights, cols, out });
}

struct Dense<'a> {
    pixels: &'a [f32],
    rows: &'a [u32],
    weights: &'a [f32],
    cols: usize,
    out: &'a mut [f32],
}

impl Job for Dense<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        // Lanes are output channels, so vectorising keeps each sum's order; Rust never fuses. A block of sums stays in
        // registers through all taps.
        let mut first = 0;
        while first + 16 <= self.cols {
            let out = &mut self.out[first..first + 16];
            let mut sums = [0f32; 16];
            sums.copy_from_slice(out);
            for (&pixel, &row) in self.pixels.iter().zip(self.rows) {
                let row = &self.weights[row as usize * self.cols + first..][..16];
                for (sum, w) in sums.iter_mut().zip(row) {
                    *sum += pixel * w;
                }
            }
            out.copy_from_slice(&sums);
            first += 16;
        }
        for (&pixel, &row) in self.pixels.iter().zip(self.rows) {
            let row = &self.weights[row as usize * self.cols..][first..self.cols];
            for (o, w) in self.out[first..self.cols].iter_mut().zip(row) {
                *o += pixel * w;
            }
        }
    }
}

/// Sums as integers: `out = sum · scale`, rounded to even, within ±`limit`.
///
/// # Panics
/// If the slices differ in length.
pub fn round(isa: Isa, sums: &[f32], scales: &[f32], limit: f32, out: &mut [i32]) {
    assert!(sums.len() == scales.len() && sums.len() == out.len(), "as many sums as scales and results");
    isa.run(Round { sums, scales, limit, out });
}

struct Round<'a> {
    sums: &'a [f32],
    scales: &'a [f32],
    limit: f32,
    out: &'a mut [i32],
}

impl Job for Round<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        for ((out, sum), scale) in self.out.iter_mut().zip(self.sums).zip(self.scales) {
            *out = (sum * scale).round_ties_even().clamp(-self.limit, self.limit) as i32;
        }
    }
}
