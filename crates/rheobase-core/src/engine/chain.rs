//! Linear maps of currents: exact sums in f64.
//! In: currents of a stage as i32. Out: `exact[steps, positions, cols] +=` products, integers below 2^53 and so exact in any order.

use crate::integer::Term;
use rheobase_kernels::matmul::{self, Product};

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

/// Patches of output row `y` of all steps times the weights; `out` is `[steps, width, cols]`.
#[allow(clippy::too_many_arguments)] // one inner loop's worth of geometry
pub fn matmul_row(
    term: &Term,
    weights: &[f64],
    source: &Source<'_>,
    y: usize,
    width: usize,
    cols: usize,
    patches: &mut Vec<f64>,
    out: &mut [f64],
) {
    let n = term.channels.len();
    let k = term.taps() * n;
    patches.clear();
    let steps = source.steps;
    patches.resize(steps * width * k, 0.0);
    each_tap(term, y, width, |x, tap, at| {
        for t in 0..steps {
            let from = source.at(at, t, term.channels.start, n);
            let to = &mut patches[(t * width + x) * k + tap * n..][..n];
            to.iter_mut().zip(from).for_each(|(to, &from)| *to = from.into());
        }
    });
    let product = Product { m: steps * width, k, n: term.outs, strides: [k, term.outs, cols], add: true };
    matmul::f64(&product, patches, weights, &mut out[term.to..]);
}

/// The same for a map channel by channel.
#[allow(clippy::too_many_arguments)] // as above
pub fn channels_row(
    term: &Term,
    weights: &[f64],
    source: &Source<'_>,
    y: usize,
    width: usize,
    cols: usize,
    out: &mut [f64],
) {
    let n = term.channels.len();
    each_tap(term, y, width, |x, tap, at| {
        let weights = &weights[tap * n..][..n];
        for t in 0..source.steps {
            let from = source.at(at, t, term.channels.start, n);
            let to = &mut out[(t * width + x) * cols + term.to..][..n];
            for ((to, &from), w) in to.iter_mut().zip(from).zip(weights) {
                *to += f64::from(from) * w;
            }
        }
    });
}

/// Calls `f(x, tap, position of the source)` for every tap of row `y` that is not padding.
fn each_tap(term: &Term, y: usize, width: usize, mut f: impl FnMut(usize, usize, [usize; 2])) {
    let [kh, kw] = term.window.kernel;
    for ky in 0..kh {
        let Some(sy) = term.source_of(0, y, ky) else { continue };
        for x in 0..width {
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
