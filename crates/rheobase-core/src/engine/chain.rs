//! Linear maps of currents.
//! In: currents of a stage as i32. Out: `[steps, positions, cols] +=` products, in f64 integers below 2^53 and so exact in any order, or,
//! where currents and weights have 16 bits, in 32 bits.

use crate::integer::Term;
use rheobase_kernels::matmul::{self, Product};
use rheobase_kernels::{Isa, product};

/// The currents of a source: `[rows][steps][width][channels]`.
pub struct Source<'a> {
    pub numbers: &'a [i32],
    pub channels: usize,
    pub steps: usize,
    pub width: usize,
}

impl Source<'_> {
    /// `n` channels of one position at one step, from `first`.
    fn at(&self, [y, x]: [usize; 2], t: usize, first: usize, n: usize) -> &[i32] {
        let from = ((y * self.steps + t) * self.width + x) * self.channels + first;
        &self.numbers[from..from + n]
    }
}

/// Geometry of a row of output positions.
pub struct Row<'a> {
    pub term: &'a Term,
    pub source: Source<'a>,
    pub y: usize,
    /// Output positions.
    pub width: usize,
    /// Numbers of an output position.
    pub cols: usize,
}

impl Row<'_> {
    /// What output positions read, `[steps, positions, k]`, where `convert` writes what a tap reads; zeros where nothing is.
    fn patches<T: Copy + Default>(&self, k: usize, to: &mut Vec<T>, convert: impl Fn(&[i32], &mut [T])) {
        let (Row { term, source, width, .. }, n) = (self, self.term.channels.len());
        to.clear();
        to.resize(source.steps * width * k, T::default());
        self.each_tap(|x, tap, at| {
            for t in 0..source.steps {
                let from = source.at(at, t, term.channels.start, n);
                convert(from, &mut to[(t * width + x) * k + tap * n..][..n]);
            }
        });
    }

    /// Calls `f` with the weights, inputs and outputs of every tap of a map channel by channel, `weights` being `[tap, channel]` and
    /// `out` `[steps, positions, cols]`.
    fn channels<W, T>(&self, weights: &[W], out: &mut [T], f: impl Fn(&W, i32, &mut T)) {
        let (Row { term, source, width, cols, .. }, n) = (self, self.term.channels.len());
        self.each_tap(|x, tap, at| {
            for t in 0..source.steps {
                let from = source.at(at, t, term.channels.start, n);
                let to = &mut out[(t * width + x) * cols + term.to..][..n];
                for ((to, &from), weight) in to.iter_mut().zip(from).zip(&weights[tap * n..]) {
                    f(weight, from, to);
                }
            }
        });
    }

    /// Calls `f(x, tap, position of the source)` for every tap that is not padding.
    fn each_tap(&self, mut f: impl FnMut(usize, usize, [usize; 2])) {
        let (Row { term, y, width, .. }, [kh, kw]) = (self, self.term.window.kernel);
        for ky in 0..kh {
            let Some(sy) = term.source_of(0, *y, ky) else { continue };
            for x in 0..*width {
                if term.only.as_ref().is_some_and(|only| !only[y * width + x]) {
                    continue;
                }
                for kx in 0..kw {
                    if let Some(sx) = term.source_of(1, x, kx) {
                        f(x, ky * kw + kx, [sy, sx]);
                    }
                }
            }
        }
    }
}

/// Patches of all steps times the weights; `out` is `[steps, positions, cols]`.
pub fn matmul_row(row: &Row<'_>, weights: &[f64], patches: &mut Vec<f64>, out: &mut [f64]) {
    let k = row.term.taps() * row.term.channels.len();
    row.patches(k, patches, |from, to| to.iter_mut().zip(from).for_each(|(to, &from)| *to = from.into()));
    let (m, n) = (row.source.steps * row.width, row.term.outs);
    let product = Product { m, k, n, strides: [k, n, row.cols], add: true };
    matmul::f64(&product, patches, weights, &mut out[row.term.to..]);
}

/// The same for a map channel by channel.
pub fn channels_row(row: &Row<'_>, weights: &[f64], out: &mut [f64]) {
    row.channels(weights, out, |w, x, to| *to += f64::from(x) * w);
}

/// As [`matmul_row`] for numbers of 16 bits.
pub fn product_row(
    isa: Isa,
    row: &Row<'_>,
    weights: &product::Weights,
    patches: &mut Vec<i16>,
    out: &mut [i32],
) {
    row.patches(weights.row(), patches, |from, to| product::cut(isa, from, to));
    product::add(weights, patches, &mut out[row.term.to..], row.cols);
}

/// As [`channels_row`] for numbers of 16 bits.
pub fn times_row(row: &Row<'_>, weights: &[i32], out: &mut [i32]) {
    row.channels(weights, out, |w, x, to| *to = to.wrapping_add(x.wrapping_mul(*w)));
}
