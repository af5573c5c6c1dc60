//! Convolution over a batch, forward and backward, one image at a time.
//! In: images `[h, w, c]`, weights. Out: images; gradients of images and weights.
//!
//! Every pass is a sum of strided outer products (`rheobase_kernels::outer`) over one zero-padded image that stays in the
//! second-level cache. The input's gradient is a convolution of the output's gradient, spread by the stride, with the mirrored
//! weights; the weights' gradient walks the same two padded images.

use rheobase_core::network::Conv2d;
use rheobase_core::network::shape::Shape;
use rheobase_kernels::Isa;
use rheobase_kernels::outer::{Loop, Outer, outer};

/// Columns of weights that lie together.
const PANEL: usize = 32;
/// Numbers of an image that a weight gradient walks at once: they stay in the first-level cache.
const BAND: usize = 6 * 1024;

/// Sizes of a convolution of one group: a grouped one runs group by group.
#[derive(Debug, Clone)]
pub struct Geometry {
    /// Input channels, height, width of the whole image.
    pub from: Shape,
    /// Output channels, height, width of the whole image.
    pub to: Shape,
    /// Channel groups.
    pub groups: usize,
    /// Height, width.
    pub kernel: [usize; 2],
    /// Vertical, horizontal.
    pub stride: [usize; 2],
    /// Vertical, horizontal.
    pub dilation: [usize; 2],
    /// Top, left, bottom, right.
    pub padding: [usize; 4],
}

/// Channels rounded up to whole registers.
fn whole(channels: usize) -> usize {
    channels.next_multiple_of(16)
}

/// A padded image.
#[derive(Default)]
struct Tile {
    data: Vec<f32>,
    /// Numbers from one row to the next.
    pitch: usize,
}

/// What a thread needs besides its images.
#[derive(Default)]
pub struct Scratch {
    input: Tile,
    gradient: Tile,
    image: Vec<f32>,
    row: Vec<f32>,
    squares: Vec<f64>,
}

/// Weights as the inner loops read them.
#[derive(Default)]
pub struct Packed {
    /// `[group][panel][kh·kw·in][≤ 32]`, columns are output channels; `[kh·kw][channel]` where every channel is its own group.
    forward: Vec<f32>,
    /// The same of the mirrored weights, columns are input channels, rows kh·kw·out.
    backward: Vec<f32>,
}

/// The gradient of a convolution's output.
#[derive(Clone, Copy)]
pub enum Upstream<'a> {
    /// As it is.
    Plain(&'a [f32]),
    /// `g · a + z · b + c` per channel: what a BatchNorm passes on.
    Normed(&'a [f32], &'a [f32], [&'a [f32]; 3]),
}

impl Geometry {
    /// Of a node.
    pub fn new(conv: &Conv2d, from: Shape, to: Shape) -> Self {
        Geometry {
            from,
            to,
            groups: conv.groups,
            kernel: [conv.weight.shape[2], conv.weight.shape[3]],
            stride: conv.stride,
            dilation: conv.dilation,
            padding: conv.padding,
        }
    }

    /// Input and output channels of a group.
    fn group(&self) -> (usize, usize) {
        (self.from[0] / self.groups, self.to[0] / self.groups)
    }

    /// Numbers of one partial weight gradient: columns are whole registers.
    pub fn partial(&self) -> usize {
        let (i, o) = self.group();
        self.groups * self.kernel[0] * self.kernel[1] * i * whole(o)
    }

    fn depthwise(&self) -> bool {
        self.group() == (1, 1)
    }

    /// Lays the weights out for the inner loops; `back` where the input needs a gradient.
    pub fn pack(&self, weights: &[f32], back: bool, packed: &mut Packed) {
        let (i, o) = self.group();
        let taps = self.kernel[0] * self.kernel[1];
        packed.forward.clear();
        packed.backward.clear();
        if self.depthwise() {
            let c = self.from[0];
            packed.forward.extend((0..taps * c).map(|i| weights[i % c * taps + i / c]));
            return;
        }
        for group in weights.chunks_exact(taps * i * o) {
            panels(taps * i, o, |k, n| group[k * o + n], &mut packed.forward);
            if back {
                let mirrored = |k: usize, n: usize| group[((taps - 1 - k / o) * i + n) * o + k % o];
                panels(taps * o, i, mirrored, &mut packed.backward);
            }
        }
    }

    /// One image: `out = bias + weights * x`.
    pub fn forward(
        &self,
        isa: Isa,
        x: &[f32],
        packed: &Packed,
        bias: Option<&[f32]>,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (i, o) = self.group();
        let add = bias.is_some();
        if let Some(bias) = bias {
            out.chunks_exact_mut(bias.len()).for_each(|pixel| pixel.copy_from_slice(bias));
        }
        if self.depthwise() {
            if !add {
                out.fill(0.0);
            }
            return self.depthwise_forward(x, &packed.forward, out);
        }
        let [kh, kw] = self.kernel;
        let size = packed.forward.len() / self.groups;
        for g in 0..self.groups {
            self.pad(x, g * i, i, &mut scratch.input);
            let weights = &packed.forward[g * size..(g + 1) * size];
            let walk = Outer {
                rows: self.to[1] * self.to[2],
                row: self.stride[1] * i,
                line: self.to[2],
                pitch: self.stride[0] * scratch.input.pitch,
                cols: 0,
                loops: [Loop::ONCE; 3],
                out: self.to[0],
                add,
            };
            let loops = |cols| self.loops(kh, kw, i, i, cols, scratch.input.pitch);
            let (a, row) = (&scratch.input.data, &mut scratch.row);
            by_panels(isa, &walk, loops, a, weights, o, &mut out[g * o..], row);
        }
    }

    /// The reduction over taps and channels; neighbouring taps in one loop where they are neighbours in memory.
    fn loops(
        &self,
        kh: usize,
        kw: usize,
        channels: usize,
        step: usize,
        cols: usize,
        pitch: usize,
    ) -> [Loop; 3] {
        let [dy, dx] = self.dilation;
        let rows = Loop { n: kh, a: dy * pitch, b: kw * channels * cols };
        if dx == 1 && step == channels {
            [Loop::ONCE, rows, Loop { n: kw * channels, a: 1, b: cols }]
        } else {
            [rows, Loop { n: kw, a: dx * step, b: channels * cols }, Loop { n: channels, a: 1, b: cols }]
        }
    }

    /// Copies channels of an image into a zero-padded one.
    fn pad(&self, x: &[f32], first: usize, channels: usize, tile: &mut Tile) {
        let [c, h, w] = self.from;
        let [top, left, bottom, right] = self.padding;
        tile.pitch = (w + left + right) * channels;
        let size = (h + top + bottom) * tile.pitch;
        tile.data.clear();
        tile.data.resize(size, 0.0);
        for y in 0..h {
            let to = &mut tile.data[(y + top) * tile.pitch + left * channels..][..w * channels];
            let from = &x[y * w * c..(y + 1) * w * c];
            if c == channels {
                to.copy_from_slice(from);
            } else {
                for (to, from) in to.chunks_exact_mut(channels).zip(from.chunks_exact(c)) {
                    to.copy_from_slice(&from[first..first + channels]);
                }
            }
        }
    }

    /// Where output pixel (0, 0) lies in the tile of gradients, and that tile's rows and columns.
    fn spread(&self) -> ([isize; 2], [usize; 2]) {
        let reach = |i: usize| (self.kernel[i] - 1) * self.dilation[i];
        (
            [reach(0) as isize - self.padding[0] as isize, reach(1) as isize - self.padding[1] as isize],
            [self.from[1] + reach(0), self.from[2] + reach(1)],
        )
    }

    /// One image: adds the weights' gradient to `partial` (`[group][kh][kw][in][whole(out)]`) and the bias's to `bias`, and
    /// writes the input's gradient (or adds it) where there is one.
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        isa: Isa,
        x: &[f32],
        upstream: Upstream<'_>,
        packed: &Packed,
        partial: &mut [f32],
        bias: Option<&mut [f64]>,
        dx: Option<(&mut [f32], bool)>,
        scratch: &mut Scratch,
    ) {
        let mut image = std::mem::take(&mut scratch.image);
        let dy: &[f32] = match upstream {
            Upstream::Plain(g) => g,
            Upstream::Normed(g, z, coefficients) => {
                image.resize(g.len(), 0.0);
                rheobase_kernels::pointwise::affine(isa, g, z, coefficients, &mut image);
                &image
            }
        };
        if let Some(bias) = bias {
            let centre = vec![0.0; self.to[0]];
            scratch.squares.resize(self.to[0], 0.0);
            rheobase_kernels::pointwise::moments(isa, dy, &centre, [bias, &mut scratch.squares]);
        }
        if self.depthwise() {
            self.depthwise_backward(x, dy, &packed.forward, partial, dx);
        } else {
            self.groups_backward(isa, x, dy, packed, partial, dx, scratch);
        }
        scratch.image = image;
    }

    #[allow(clippy::too_many_arguments)]
    fn groups_backward(
        &self,
        isa: Isa,
        x: &[f32],
        dy: &[f32],
        packed: &Packed,
        partial: &mut [f32],
        mut dx: Option<(&mut [f32], bool)>,
        scratch: &mut Scratch,
    ) {
        let (i, o) = self.group();
        let ([kh, kw], wide) = (self.kernel, whole(o));
        let part = kh * kw * i * wide;
        let size = packed.backward.len() / self.groups;
        for g in 0..self.groups {
            self.pad(x, g * i, i, &mut scratch.input);
            self.spread_gradient(dy, g * o, wide, &mut scratch.gradient);
            self.weight_gradient(isa, scratch, &mut partial[g * part..(g + 1) * part]);
            let Some((dx, add)) = &mut dx else { continue };
            let weights = &packed.backward[g * size..(g + 1) * size];
            let walk = Outer {
                rows: self.from[1] * self.from[2],
                row: wide,
                line: self.from[2],
                pitch: scratch.gradient.pitch,
                cols: 0,
                loops: [Loop::ONCE; 3],
                out: self.from[0],
                add: *add,
            };
            let loops = |cols| self.loops(kh, kw, o, wide, cols, scratch.gradient.pitch);
            let (a, row) = (&scratch.gradient.data, &mut scratch.row);
            by_panels(isa, &walk, loops, a, weights, i, &mut dx[g * i..], row);
        }
    }

    /// The output's gradient with zeros around and, for strides, between.
    fn spread_gradient(&self, dy: &[f32], first: usize, wide: usize, tile: &mut Tile) {
        let ([oy, ox], [rows, cols]) = self.spread();
        let (_, o) = self.group();
        let [c, h, w] = self.to;
        tile.pitch = cols * wide;
        tile.data.clear();
        tile.data.resize(rows * tile.pitch, 0.0);
        for y in 0..h {
            let Some(row) = place(y, self.stride[0], oy, rows) else { continue };
            let line = &mut tile.data[row * tile.pitch..(row + 1) * tile.pitch];
            if self.stride[1] == 1 && ox >= 0 && ox as usize + w <= cols && c == wide {
                line[ox as usize * wide..][..w * wide].copy_from_slice(&dy[y * w * c..(y + 1) * w * c]);
                continue;
            }
            for x in 0..w {
                let Some(col) = place(x, self.stride[1], ox, cols) else { continue };
                line[col * wide..][..o].copy_from_slice(&dy[(y * w + x) * c + first..][..o]);
            }
        }
    }

    /// Adds one image's weight gradient of one group, a band of rows at a time.
    fn weight_gradient(&self, isa: Isa, scratch: &Scratch, partial: &mut [f32]) {
        let (i, o) = self.group();
        let ([kh, kw], wide) = (self.kernel, whole(o));
        let ([oy, ox], [rows, cols]) = self.spread();
        // Output pixels that lie outside the tile read nothing but padding: they add nothing.
        let inside = |n: usize, stride: usize, offset: isize, size: usize| {
            let first = (0..n).find(|&p| place(p, stride, offset, size).is_some()).unwrap_or(n);
            let last = (first..n).take_while(|&p| place(p, stride, offset, size).is_some()).count();
            first..first + last
        };
        let ys = inside(self.to[1], self.stride[0], oy, rows);
        let xs = inside(self.to[2], self.stride[1], ox, cols);
        if ys.is_empty() || xs.is_empty() {
            return;
        }
        let (a, b) = (&scratch.input, &scratch.gradient);
        let band = (BAND / (a.pitch * self.stride[0] + xs.len() * wide)).clamp(1, ys.len());
        let (tap_rows, together) = if self.dilation[1] == 1 { (kw * i, 1) } else { (i, kw) };
        for first in ys.clone().step_by(band) {
            let height = band.min(ys.end - first);
            for ky in 0..kh {
                for kx in 0..together {
                    let from = (first * self.stride[0] + ky * self.dilation[0]) * a.pitch
                        + (xs.start * self.stride[1] + kx * self.dilation[1]) * i;
                    let row = place(first, self.stride[0], oy, rows).unwrap_or(0);
                    let col = place(xs.start, self.stride[1], ox, cols).unwrap_or(0);
                    let walk = Outer {
                        rows: tap_rows,
                        row: 1,
                        line: tap_rows,
                        pitch: 0,
                        cols: wide,
                        loops: [
                            Loop::ONCE,
                            Loop { n: height, a: self.stride[0] * a.pitch, b: self.stride[0] * b.pitch },
                            Loop { n: xs.len(), a: self.stride[1] * i, b: self.stride[1] * wide },
                        ],
                        out: wide,
                        add: true,
                    };
                    let to = (ky * kw + kx) * i * wide;
                    outer(
                        isa,
                        &walk,
                        &a.data[from..],
                        &b.data[row * b.pitch + col * wide..],
                        &mut partial[to..],
                    );
                }
            }
        }
    }

    /// Adds partial gradients, in their order, to the weights' gradient.
    pub fn merge(&self, partials: &[Vec<f32>], gradient: &mut [f32]) {
        if self.depthwise() {
            for partial in partials {
                gradient.iter_mut().zip(partial.chunks_exact(16)).for_each(|(g, p)| *g += p[0]);
            }
            return;
        }
        let (_, o) = self.group();
        for partial in partials {
            for (to, from) in gradient.chunks_exact_mut(o).zip(partial.chunks_exact(whole(o))) {
                to.iter_mut().zip(from).for_each(|(g, p)| *g += p);
            }
        }
    }

    /// The input pixel under output pixel `p` and tap `t`, if it is not padding.
    fn source(&self, axis: usize, p: usize, t: usize) -> Option<usize> {
        (p * self.stride[axis] + t * self.dilation[axis])
            .checked_sub(self.padding[axis])
            .filter(|&s| s < self.from[axis + 1])
    }

    fn depthwise_taps(&self, mut tap: impl FnMut(usize, usize, usize)) {
        let [c, _, w] = self.from;
        for p in 0..self.to[1] * self.to[2] {
            for t in 0..self.kernel[0] * self.kernel[1] {
                let y = self.source(0, p / self.to[2], t / self.kernel[1]);
                let x = self.source(1, p % self.to[2], t % self.kernel[1]);
                if let (Some(y), Some(x)) = (y, x) {
                    tap(p * c, (y * w + x) * c, t);
                }
            }
        }
    }

    fn depthwise_forward(&self, x: &[f32], by_tap: &[f32], out: &mut [f32]) {
        let c = self.from[0];
        self.depthwise_taps(|to, from, tap| {
            let weights = &by_tap[tap * c..][..c];
            for ((y, x), w) in out[to..to + c].iter_mut().zip(&x[from..from + c]).zip(weights) {
                *y += x * w;
            }
        });
    }

    fn depthwise_backward(
        &self,
        x: &[f32],
        dy: &[f32],
        by_tap: &[f32],
        partial: &mut [f32],
        mut dx: Option<(&mut [f32], bool)>,
    ) {
        let c = self.from[0];
        let taps = self.kernel[0] * self.kernel[1];
        let mut sums = vec![0.0f32; taps * c];
        if let Some((dx, false)) = &mut dx {
            dx.fill(0.0);
        }
        self.depthwise_taps(|to, from, tap| {
            let dy = &dy[to..to + c];
            for ((s, x), g) in sums[tap * c..][..c].iter_mut().zip(&x[from..from + c]).zip(dy) {
                *s += x * g;
            }
            if let Some((dx, _)) = &mut dx {
                let weights = &by_tap[tap * c..][..c];
                for ((d, g), w) in dx[from..from + c].iter_mut().zip(dy).zip(weights) {
                    *d += g * w;
                }
            }
        });
        for channel in 0..c {
            for tap in 0..taps {
                partial[(channel * taps + tap) * 16] += sums[tap * c + channel];
            }
        }
    }
}

/// Products of all rows with a panel of columns at a time; `real` columns of `out` are written, the others fill registers.
#[allow(clippy::too_many_arguments)]
fn by_panels(
    isa: Isa,
    walk: &Outer,
    loops: impl Fn(usize) -> [Loop; 3],
    a: &[f32],
    weights: &[f32],
    real: usize,
    out: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    let depth = weights.len() / whole(real);
    for first in (0..whole(real)).step_by(PANEL) {
        let cols = PANEL.min(whole(real) - first);
        let walk = Outer { cols, loops: loops(cols), ..*walk };
        let b = &weights[first * depth..];
        if real.is_multiple_of(16) {
            outer(isa, &walk, a, b, &mut out[first..]);
            continue;
        }
        let kept = cols.min(real - first);
        scratch.resize(walk.rows * cols, 0.0);
        outer(isa, &Outer { out: cols, add: false, ..walk }, a, b, scratch);
        for (from, to) in scratch.chunks_exact(cols).zip(out[first..].chunks_mut(walk.out)) {
            put(&from[..kept], &mut to[..kept], walk.add);
        }
    }
}

/// Writes or adds.
fn put(from: &[f32], to: &mut [f32], add: bool) {
    if add { to.iter_mut().zip(from).for_each(|(t, f)| *t += f) } else { to.copy_from_slice(from) }
}

/// Where pixel `p` lies in a row of `size`, `stride` apart after `offset`.
fn place(p: usize, stride: usize, offset: isize, size: usize) -> Option<usize> {
    usize::try_from((p * stride) as isize + offset).ok().filter(|&at| at < size)
}

/// A `[rows, cols]` matrix in panels of columns, the last one filled up to whole registers with zeros.
fn panels(rows: usize, cols: usize, at: impl Fn(usize, usize) -> f32, out: &mut Vec<f32>) {
    for first in (0..whole(cols)).step_by(PANEL) {
        let width = PANEL.min(whole(cols) - first);
        for row in 0..rows {
            out.extend((first..first + width).map(|col| if col < cols { at(row, col) } else { 0.0 }));
        }
    }
}
