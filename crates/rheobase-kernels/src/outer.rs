//! Sums of outer products with strides: the inner loop of training's convolutions, forward and backward.
//! In: numbers that are broadcast (`a`), rows of numbers (`b`), and how to walk both. Out: `out[i][j] (+)= Σ_r a[i, r] · b[r][j]`.
//!
//! A convolution over a zero-padded image needs no im2col this way: output pixels are rows of `a` that overlap in memory, and
//! the reduction walks kernel rows, kernel columns and channels. Its weight gradient is the same walk with the roles of pixels
//! and channels exchanged.
//! 1. A block of up to 8 rows times two registers of columns stays in registers over the whole reduction.
//! 2. Every sum is taken in the order of the reduction, with fused multiplications: the same bits for every instruction set.

#![allow(clippy::needless_range_loop)] // registers are numbered; iterators over them hide the loops that must unroll

use crate::cpu::{Isa, Job, Vectors};
use crate::lanes::FloatLane;

/// One loop of the reduction.
#[derive(Debug, Clone, Copy)]
pub struct Loop {
    /// How often.
    pub n: usize,
    /// How far `a` goes on each time.
    pub a: usize,
    /// How far `b` goes on each time.
    pub b: usize,
}

impl Loop {
    /// A loop that is gone through once.
    pub const ONCE: Loop = Loop { n: 1, a: 0, b: 0 };
}

/// How to walk: see the module.
#[derive(Debug, Clone, Copy)]
pub struct Outer {
    /// Rows of `out`.
    pub rows: usize,
    /// How far apart in `a` two rows are.
    pub row: usize,
    /// So many rows are a line; the next line begins elsewhere. At least 1.
    pub line: usize,
    /// How far apart in `a` two lines are.
    pub pitch: usize,
    /// Columns of `out`; a multiple of 16.
    pub cols: usize,
    /// The reduction, outermost loop first.
    pub loops: [Loop; 3],
    /// How far apart in `out` two rows are.
    pub out: usize,
    /// Whether `out` is added to.
    pub add: bool,
}

/// Runs it.
///
/// # Panics
/// If a walk leaves its slice, or columns are no multiple of 16.
pub fn outer(isa: Isa, walk: &Outer, a: &[f32], b: &[f32], out: &mut [f32]) {
    assert!(walk.cols.is_multiple_of(16) && walk.line > 0, "{walk:?}");
    if walk.rows == 0 || walk.cols == 0 {
        return;
    }
    let last = |first: usize, steps: [(usize, usize); 3]| {
        steps.iter().try_fold(first, |sum, &(n, step)| sum.checked_add((n - 1).checked_mul(step)?))
    };
    if walk.loops.iter().all(|l| l.n > 0) {
        let (lines, within) = ((walk.rows - 1) / walk.line, (walk.rows - 1).min(walk.line - 1));
        let end_a = within
            .checked_mul(walk.row)
            .zip(lines.checked_mul(walk.pitch))
            .and_then(|(r, l)| last(r.checked_add(l)?, walk.loops.map(|l| (l.n, l.a))));
        let end_b = last(walk.cols - 1, walk.loops.map(|l| (l.n, l.b)));
        assert!(end_a.is_some_and(|e| e < a.len()), "a: {walk:?}, {}", a.len());
        assert!(end_b.is_some_and(|e| e < b.len()), "b: {walk:?}, {}", b.len());
    }
    let end = (walk.rows - 1).checked_mul(walk.out).and_then(|r| r.checked_add(walk.cols));
    assert!(end.is_some_and(|e| e <= out.len()), "out: {walk:?}, {}", out.len());
    assert!(walk.rows == 1 || walk.out >= walk.cols, "rows of out overlap");
    isa.run(Run { walk, a, b, out });
}

struct Run<'a> {
    walk: &'a Outer,
    a: &'a [f32],
    b: &'a [f32],
    out: &'a mut [f32],
}

impl Job for Run<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let lanes = V::F32::LANES;
        // As many rows at once as leave registers free: 32 registers with AVX-512, 16 with AVX2, 16 pairs with NEON.
        let most = if lanes == 16 { 8 } else { 4 };
        let mut col = 0;
        while col < self.walk.cols {
            let wide = self.walk.cols - col >= 2 * lanes;
            let mut row = 0;
            while row < self.walk.rows {
                let left = self.walk.rows - row;
                // SAFETY: `outer` has seen that every walk stays inside its slice; a block's rows and columns lie inside.
                unsafe {
                    let a = self.a.as_ptr();
                    let b = self.b.as_ptr().add(col);
                    let out = self.out.as_mut_ptr().add(row * self.walk.out + col);
                    row += match (left.min(most), wide) {
                        (8.., true) => block::<V::F32, 8, 2>(self.walk, row, a, b, out),
                        (4.., true) => block::<V::F32, 4, 2>(self.walk, row, a, b, out),
                        (2.., true) => block::<V::F32, 2, 2>(self.walk, row, a, b, out),
                        (_, true) => block::<V::F32, 1, 2>(self.walk, row, a, b, out),
                        (8.., false) => block::<V::F32, 8, 1>(self.walk, row, a, b, out),
                        (4.., false) => block::<V::F32, 4, 1>(self.walk, row, a, b, out),
                        (2.., false) => block::<V::F32, 2, 1>(self.walk, row, a, b, out),
                        (_, false) => block::<V::F32, 1, 1>(self.walk, row, a, b, out),
                    };
                }
            }
            col += if wide { 2 * lanes } else { lanes };
        }
    }
}

/// `M` rows from `first` on times `N` registers; returns `M`.
#[inline(always)]
unsafe fn block<V: FloatLane, const M: usize, const N: usize>(
    walk: &Outer,
    first: usize,
    a: *const f32,
    b: *const f32,
    out: *mut f32,
) -> usize {
    // SAFETY (all of it): the caller's promise that the walk stays inside.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; M];
        if walk.add {
            for i in 0..M {
                for j in 0..N {
                    sums[i][j] = V::read(out.add(i * walk.out + j * V::LANES));
                }
            }
        }
        let mut rows = [0; M];
        for i in 0..M {
            rows[i] = (first + i) / walk.line * walk.pitch + (first + i) % walk.line * walk.row;
        }
        let [outermost, middle, inner] = walk.loops;
        for o in 0..outermost.n {
            for m in 0..middle.n {
                let mut at = a.add(o * outermost.a + m * middle.a);
                let mut row = b.add(o * outermost.b + m * middle.b);
                for _ in 0..inner.n {
                    let mut w = [V::splat(0.0); N];
                    for j in 0..N {
                        w[j] = V::read(row.add(j * V::LANES));
                    }
                    for i in 0..M {
                        let x = V::splat(*at.add(rows[i]));
                        for j in 0..N {
                            sums[i][j] = x.mul_add(w[j], sums[i][j]);
                        }
                    }
                    at = at.wrapping_add(inner.a);
                    row = row.wrapping_add(inner.b);
                }
            }
        }
        for i in 0..M {
            for j in 0..N {
                sums[i][j].write(out.add(i * walk.out + j * V::LANES));
            }
        }
    }
    M
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_sums_of_the_definition() {
        for (rows, cols, row, line, pitch) in
            [(1, 16, 5, 1, 9), (7, 48, 1, 7, 0), (13, 32, 3, 4, 17), (8, 64, 16, 100, 0), (9, 16, 2, 2, 11)]
        {
            let loops = [
                Loop { n: 3, a: 40, b: 9 * cols },
                Loop { n: 2, a: 11, b: 4 * cols },
                Loop { n: 4, a: 2, b: cols },
            ];
            let a: Vec<f32> = (0..400).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
            let b: Vec<f32> = (0..40 * cols).map(|i| ((i * 53 % 89) as f32 - 44.0) / 9.0).collect();
            for add in [false, true] {
                let walk = Outer { rows, row, line, pitch, cols, loops, out: cols + 3, add };
                let mut want = vec![1.5f32; rows * (cols + 3)];
                for i in 0..rows {
                    for j in 0..cols {
                        let mut sum = if add { want[i * (cols + 3) + j] } else { 0.0 };
                        for o in 0..3 {
                            for m in 0..2 {
                                for r in 0..4 {
                                    let x = a[i / line * pitch + i % line * row + o * 40 + m * 11 + r * 2];
                                    sum = x.mul_add(b[(o * 9 + m * 4 + r) * cols + j], sum);
                                }
                            }
                        }
                        want[i * (cols + 3) + j] = sum;
                    }
                }
                for isa in Isa::available() {
                    let mut out = vec![1.5; rows * (cols + 3)];
                    outer(isa, &walk, &a, &b, &mut out);
                    assert!(out.iter().zip(&want).all(|(x, y)| x.to_bits() == y.to_bits()), "{}", isa.name());
                }
            }
        }
    }
}
