//! Linear maps of currents: exact sums in f64.
//! In: currents of a stage as i32. Out: `exact[steps, positions, cols] +=` products, integers below 2^53 and so exact in any order.

use crate::integer::Term;
use rheobase_kernels::matmul::{self, Product};

/// Where the currents of a source are: `[steps][positions][channels]`.
pub struct Currents<'a> {
    pub numbers: &'a [i32],
    pub channels: usize,
    pub positions: usize,
}

/// Patches of output row `y` of all steps times the weights; `out` is `[steps, width, cols]`.
#[allow(clippy::too_many_arguments)] // one inner loop's worth of geometry
pub fn matmul_row(
    term: &Term,
    weights: &[f64],
    source: &Currents<'_>,
    y: usize,
    steps: usize,
    width: usize,
    cols: usize,
    patches: &mut Vec<f64>,
    out: &mut [f64],
) {
    let n = term.channels.len();
    let k = term.taps() * n;
    patches.clear();
    patches.resize(steps * width * k, 0.0);
    each_tap(term, y, width, |x, tap, at| {
        for t in 0..steps {
            let from = (t * source.positions + at) * source.channels + term.channels.start;
            let to = &mut patches[(t * width + x) * k + tap * n..][..n];
            to.iter_mut().zip(&source.numbers[from..from + n]).for_each(|(to, &from)| *to = from.into());
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
    source: &Currents<'_>,
    y: usize,
    steps: usize,
    width: usize,
    cols: usize,
    out: &mut [f64],
) {
    let n = term.channels.len();
    each_tap(term, y, width, |x, tap, at| {
        let weights = &weights[tap * n..][..n];
        for t in 0..steps {
            let from = (t * source.positions + at) * source.channels + term.channels.start;
            let to = &mut out[(t * width + x) * cols + term.to..][..n];
            for ((to, &from), w) in to.iter_mut().zip(&source.numbers[from..from + n]).zip(weights) {
                *to += f64::from(from) * w;
            }
        }
    });
}

/// Calls `f(x, tap, position of the source)` for every tap of row `y` that is not padding.
fn each_tap(term: &Term, y: usize, width: usize, mut f: impl FnMut(usize, usize, usize)) {
    let [kh, kw] = term.window.kernel;
    for ky in 0..kh {
        let Some(sy) = term.source_of(0, y, ky) else { continue };
        for x in 0..width {
            if term.only.as_ref().is_some_and(|only| !only[y * width + x]) {
                continue;
            }
            for kx in 0..kw {
                if let Some(sx) = term.source_of(1, x, kx) {
                    f(x, ky * kw + kx, sy * term.from[2] + sx);
                }
            }
        }
    }
}
