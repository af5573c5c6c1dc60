//! Sums of products of 16-bit numbers in 32 bits: linear maps of linear maps, for `int16` and `int8`.
//! In: rows of numbers, weights packed. Out: `out[row][column] += Σ a[row][i] · w[i][column]`, exact where the whole sum fits 32 bits.
//!
//! Two products a lane and instruction; a block of rows and columns stays in registers over the whole sum.

#![allow(clippy::needless_range_loop)] // registers are numbered; iterators over them hide the loops that must unroll

use crate::aligned::Aligned;
use crate::cpu::{Isa, Job, Vectors};
use crate::lanes::SumLane;

/// Columns come in multiples of this.
pub const COLS: usize = 16;

/// Vectors of columns that go together on an instruction set of so many lanes: with 32 registers, and with 16.
const fn together(lanes: usize) -> usize {
    if lanes == 16 { 3 } else { 2 }
}

/// The weights of a map: panels of columns, `[inputs / 2, columns of the panel, 2]` each.
#[derive(Debug)]
pub struct Weights {
    isa: Isa,
    data: Aligned<i16>,
    pairs: usize,
    cols: usize,
}

impl Weights {
    /// Packs `weight(input, column)`, 0 beyond `outs`.
    pub fn new(isa: Isa, inputs: usize, outs: usize, weight: impl Fn(usize, usize) -> i16) -> Self {
        let (pairs, cols) = (inputs.div_ceil(2), outs.next_multiple_of(COLS));
        let width = isa.run(Width);
        let mut data = Aligned::zeros(pairs * cols * 2);
        let mut to = data.iter_mut();
        for first in (0..cols).step_by(width) {
            let panel = first..cols.min(first + width);
            let numbers = (0..pairs)
                .flat_map(|pair| panel.clone().flat_map(move |o| [(2 * pair, o), (2 * pair + 1, o)]));
            for ((i, o), to) in numbers.zip(&mut to) {
                *to = if i < inputs && o < outs { weight(i, o) } else { 0 };
            }
        }
        Weights { isa, data, pairs, cols }
    }

    /// Numbers of a row that is multiplied, zeros at its end included.
    pub fn row(&self) -> usize {
        2 * self.pairs
    }

    /// Columns, padded.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// Columns of a panel.
struct Width;

impl Job for Width {
    type Out = usize;
    #[inline(always)]
    fn run<V: Vectors>(self) -> usize {
        V::Sum32::LANES * together(V::Sum32::LANES)
    }
}

/// Adds the products of rows of [`Weights::row`] numbers, one after the other, to the first columns of rows of `out` that begin every
/// `stride` numbers.
///
/// # Panics
/// If `a` is not whole rows, or `out` too small.
pub fn add(weights: &Weights, a: &[i16], out: &mut [i32], stride: usize) {
    if weights.pairs == 0 || a.is_empty() {
        return;
    }
    assert!(a.len().is_multiple_of(weights.row()) && stride >= weights.cols, "whole rows");
    let rows = a.len() / weights.row();
    let end = (rows - 1).checked_mul(stride).and_then(|n| n.checked_add(weights.cols));
    assert!(end.is_some_and(|n| n <= out.len()), "room for every sum");
    weights.isa.run_newer(Add { weights, a, out, stride, rows });
}

struct Add<'a> {
    weights: &'a Weights,
    a: &'a [i16],
    out: &'a mut [i32],
    stride: usize,
    rows: usize,
}

impl Job for Add<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let Add { weights: &Weights { ref data, pairs, cols, .. }, a, out, stride, rows } = self;
        let lanes = V::Sum32::LANES;
        let most = if lanes == 16 { 8 } else { 4 };
        let width = lanes * together(lanes);
        for first in (0..cols).step_by(width) {
            let vectors = (cols - first).min(width) / lanes;
            let mut row = 0;
            while row < rows {
                // SAFETY: `add` has seen that rows and columns of `out` are there; the panel's weights and the rows are whole.
                unsafe {
                    let block = Block {
                        weights: data.as_ptr().add(first * pairs * 2),
                        pairs,
                        a: a.as_ptr().add(row * pairs * 2),
                        out: out.as_mut_ptr().add(row * stride + first),
                        stride,
                    };
                    row += match ((rows - row).min(most), vectors) {
                        (8.., 3) => block.add::<V, 8, 3>(),
                        (8.., 2) => block.add::<V, 8, 2>(),
                        (8.., _) => block.add::<V, 8, 1>(),
                        (4.., 3) => block.add::<V, 4, 3>(),
                        (4.., 2) => block.add::<V, 4, 2>(),
                        (4.., _) => block.add::<V, 4, 1>(),
                        (_, 3) => block.add::<V, 1, 3>(),
                        (_, 2) => block.add::<V, 1, 2>(),
                        (_, _) => block.add::<V, 1, 1>(),
                    };
                }
            }
        }
    }
}

/// Some rows times a panel.
struct Block {
    weights: *const i16,
    pairs: usize,
    a: *const i16,
    out: *mut i32,
    stride: usize,
}

impl Block {
    /// M rows, N vectors of columns; returns M.
    ///
    /// # Safety
    /// They are there, and the panel has N vectors.
    #[inline(always)]
    unsafe fn add<V: Vectors, const M: usize, const N: usize>(&self) -> usize {
        let lanes = V::Sum32::LANES;
        let mut sums = [[V::Sum32::splat(0); N]; M];
        // SAFETY: the caller's promise. A vector of weights is read as numbers of 32 bits, two weights each.
        unsafe {
            for m in 0..M {
                for n in 0..N {
                    sums[m][n] = V::Sum32::read(self.out.add(m * self.stride + n * lanes));
                }
            }
            for pair in 0..self.pairs {
                let mut weights = [V::Sum32::splat(0); N];
                for n in 0..N {
                    weights[n] = V::Sum32::read(self.weights.add((pair * N + n) * lanes * 2).cast());
                }
                for m in 0..M {
                    let both = self.a.add((m * self.pairs + pair) * 2).cast::<i32>().read_unaligned();
                    let both = V::Sum32::splat(both);
                    for n in 0..N {
                        sums[m][n] = V::products(sums[m][n], weights[n], both);
                    }
                }
            }
            for m in 0..M {
                for n in 0..N {
                    sums[m][n].write(self.out.add(m * self.stride + n * lanes));
                }
            }
        }
        M
    }
}

/// Numbers of 32 bits cut to 16.
///
/// # Panics
/// If there are not as many of each.
pub fn cut(isa: Isa, from: &[i32], to: &mut [i16]) {
    assert_eq!(from.len(), to.len(), "a number for each");
    isa.run(Cut { from, to });
}

struct Cut<'a> {
    from: &'a [i32],
    to: &'a mut [i16],
}

impl Job for Cut<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        self.to.iter_mut().zip(self.from).for_each(|(to, &from)| *to = from as i16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_adds_the_products() {
        for isa in Isa::available() {
            for (rows, inputs, outs) in [(1, 1, 1), (13, 7, 50), (9, 24, 96), (4, 2, 17), (3, 0, 5)] {
                let weight = |i: usize, o: usize| ((i * 7919 + o * 131) % 65_535) as i32 - 32_767;
                let weights = Weights::new(isa, inputs, outs, |i, o| weight(i, o) as i16);
                let row = weights.row();
                let number = |r: usize, i: usize| ((r * 104_729 + i * 3_571) % 65_535) as i32 - 32_767;
                let a: Vec<i32> = (0..rows * row)
                    .map(|n| if n % row < inputs { number(n / row, n % row) } else { 0 })
                    .collect();
                let mut short = vec![0; a.len()];
                cut(isa, &a, &mut short);
                let stride = weights.cols() + 16;
                let mut out: Vec<i32> = (0..rows * stride).map(|n| n as i32).collect();
                add(&weights, &short, &mut out, stride);
                for (n, &got) in out.iter().enumerate() {
                    let (r, o) = (n / stride, n % stride);
                    let products = (0..if o < outs { inputs } else { 0 })
                        .map(|i| number(r, i).wrapping_mul(weight(i, o)));
                    assert_eq!(
                        got,
                        products.fold(n as i32, i32::wrapping_add),
                        "{} {rows} {inputs} {outs}",
                        isa.name()
                    );
                }
            }
        }
    }
}
