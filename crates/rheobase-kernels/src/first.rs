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
        // Lanes are output channels, so vectorising keeps each sum's order; Rust never fuses.
        for (&pixel, &row) in self.pixels.iter().zip(self.rows) {
            let row = &self.weights[row as usize * self.cols..][..self.cols];
            for (o, w) in self.out[..self.cols].iter_mut().zip(row) {
                *o += pixel * w;
            }
        }
    }
}
