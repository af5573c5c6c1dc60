//! The analog image's part of a stage's currents: computed once, the same at every step.
//! In: a normalised image. Out: integers in the stage's units, row by row.

use crate::integer::{Stage, Term};
use crate::network::shape::Shape;
use rheobase_kernels::{Isa, first};

/// A map of the image, dense or channel by channel, as one dense map of an image with zeros around.
pub struct ImageMap {
    /// `[kernel rows, kernel columns · channels, cols]`; taps that a dilated or depthwise kernel skips are zeros, which change no sum.
    weights: Vec<f32>,
    units: first::Units,
    cols: usize,
    /// Kernel columns with those that dilation skips.
    columns: usize,
    /// Rows and columns of the image with its zeros.
    size: [usize; 2],
}

impl ImageMap {
    /// Packs the weights of a term of `stage`.
    pub fn new(term: &Term, weights: &[f32], stage: &Stage, input: Shape) -> Self {
        let ([kh, kw], dilation) = (term.window.kernel, term.dilation);
        let (n, outs, cols) = (term.channels.len(), term.outs, term.outs.next_multiple_of(first::COLS));
        let columns = (kw - 1) * dilation[1] + 1;
        let mut packed = vec![0f32; kh * columns * n * cols];
        for (ky, kx, c) in (0..kh).flat_map(|y| (0..kw).flat_map(move |x| (0..n).map(move |c| (y, x, c)))) {
            let row = &mut packed[((ky * columns + kx * dilation[1]) * n + c) * cols..][..cols];
            let tap = ky * kw + kx;
            if term.depthwise {
                row[c] = weights[tap * n + c];
            } else {
                row[..outs].copy_from_slice(&weights[(tap * n + c) * outs..][..outs]);
            }
        }
        let numbers = |x: &dyn Fn(usize) -> f32| -> Vec<f32> {
            (0..cols).map(|c| if c < outs { x(term.to + c) } else { 0.0 }).collect()
        };
        let scales = numbers(&|c| 2f32.powi(-stage.unit[c]));
        let limits = numbers(&|c| stage.limit[c] as f32);
        let reach = |axis: usize, kernel: usize| {
            let image = term.window.padding[axis] + input[1 + axis];
            image.max((stage.shape[1 + axis] - 1) * term.window.stride[axis] + kernel)
        };
        ImageMap {
            weights: packed,
            units: first::Units::new(&scales, &limits),
            cols,
            columns,
            size: [reach(0, (kh - 1) * dilation[0] + 1), reach(1, columns)],
        }
    }

    /// Columns of a row of results.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Copies the channels that the term reads, zeros around them.
    pub fn frame(&self, term: &Term, image: &[f32], input: Shape, framed: &mut Vec<f32>) {
        let [channels, height, width] = input;
        let (n, [top, left]) = (term.channels.len(), term.window.padding);
        framed.clear();
        framed.resize(self.size[0] * self.size[1] * n, 0.0);
        for y in 0..height {
            let line = &mut framed[((top + y) * self.size[1] + left) * n..][..width * n];
            let row = &image[y * width * channels..][..width * channels];
            if n == channels {
                line.copy_from_slice(row);
                continue;
            }
            for (to, from) in line.chunks_exact_mut(n).zip(row.chunks_exact(channels)) {
                to.copy_from_slice(&from[term.channels.clone()]);
            }
        }
    }

    /// Writes row `y` of the results, `[positions, cols]`; `sums` is room to work in.
    #[allow(clippy::too_many_arguments)] // a row, where it is and where it goes
    pub fn row(&self, isa: Isa, term: &Term, framed: &[f32], y: usize, sums: &mut Vec<f32>, out: &mut [i32]) {
        let n = term.channels.len();
        let line = self.size[1] * n;
        let row = first::Row {
            pixels: &framed[y * term.window.stride[0] * line..],
            kernel: term.window.kernel[0],
            pitch: term.dilation[0] * line,
            line: self.columns * n,
            pace: term.window.stride[1] * n,
            weights: &self.weights,
            cols: self.cols,
            units: &self.units,
        };
        first::image_row(isa, &row, sums, out);
    }
}
