//! Dense convolution: im2col rows times packed weights, a few rows of the image at a time; depthwise directly.
//! In: an image `[h, w, c]`. Out: an image `[h', w', c']`.

use crate::network::Conv2d;
use crate::network::shape::Shape;
use rheobase_kernels::matmul::{self, Product};

/// Numbers of im2col that should stay in the second-level cache.
const TILE: usize = 96 * 1024;

/// `[group][tap · in / groups + channel][out / groups]`.
pub fn pack(conv: &Conv2d) -> Vec<f32> {
    let &[out, per, kh, kw] = conv.weight.shape.as_slice() else { return vec![] };
    let (taps, cols) = (kh * kw, out / conv.groups);
    let mut packed = Vec::with_capacity(conv.weight.data.len());
    for g in 0..conv.groups {
        for tap in 0..taps {
            for c in 0..per {
                packed.extend((0..cols).map(|o| conv.weight.data[((g * cols + o) * per + c) * taps + tap]));
            }
        }
    }
    packed
}

pub fn forward(
    conv: &Conv2d,
    packed: &[f32],
    x: &[f32],
    from: Shape,
    to: Shape,
    scratch: &mut Vec<f32>,
) -> Vec<f32> {
    let mut out: Vec<f32> = match &conv.bias {
        Some(b) => b.iter().copied().cycle().take(to.iter().product()).collect(),
        None => vec![0.0; to.iter().product()],
    };
    let per = from[0] / conv.groups;
    if per == 1 && to[0] == conv.groups {
        depthwise(conv, packed, x, from, to, &mut out);
        return out;
    }
    let (kh, kw) = (conv.weight.shape[2], conv.weight.shape[3]);
    let (k, cols) = (kh * kw * per, to[0] / conv.groups);
    let plain = kh * kw == 1 && conv.stride == [1, 1] && conv.padding == [0; 4] && conv.groups == 1;
    if plain {
        let m = to[1] * to[2];
        matmul::f32(&Product { m, k, n: cols, strides: [k, cols, cols], add: true }, x, packed, &mut out);
        return out;
    }
    let rows = (TILE / (k * to[2])).clamp(1, to[1]);
    for g in 0..conv.groups {
        for first in (0..to[1]).step_by(rows) {
            let last = (first + rows).min(to[1]);
            im2col(conv, x, from, to, g * per, first..last, scratch);
            let m = (last - first) * to[2];
            let weights = &packed[g * k * cols..(g + 1) * k * cols];
            let at = first * to[2] * to[0] + g * cols;
            matmul::f32(
                &Product { m, k, n: cols, strides: [k, cols, to[0]], add: true },
                scratch,
                weights,
                &mut out[at..],
            );
        }
    }
    out
}

/// The input column of output position `o` and tap `t`, if it is not padding.
#[inline]
fn source(o: usize, stride: usize, t: usize, dilation: usize, pad: usize, size: usize) -> Option<usize> {
    (o * stride + t * dilation).checked_sub(pad).filter(|&i| i < size)
}

/// Rows of patches `[positions, taps · channels]` of output rows `rows`, channels `first ..` of one group.
fn im2col(
    conv: &Conv2d,
    x: &[f32],
    [c, h, w]: Shape,
    to: Shape,
    first: usize,
    rows: std::ops::Range<usize>,
    out: &mut Vec<f32>,
) {
    let (per, kh, kw) = (conv.weight.shape[1], conv.weight.shape[2], conv.weight.shape[3]);
    let k = kh * kw * per;
    out.clear();
    out.resize(rows.len() * to[2] * k, 0.0);
    for (r, y) in rows.enumerate() {
        for ky in 0..kh {
            let Some(sy) = source(y, conv.stride[0], ky, conv.dilation[0], conv.padding[0], h) else {
                continue;
            };
            for ox in 0..to[2] {
                let patch = &mut out[(r * to[2] + ox) * k + ky * kw * per..][..kw * per];
                for (kx, to) in patch.chunks_exact_mut(per).enumerate() {
                    if let Some(sx) = source(ox, conv.stride[1], kx, conv.dilation[1], conv.padding[1], w) {
                        to.copy_from_slice(&x[(sy * w + sx) * c + first..][..per]);
                    }
                }
            }
        }
    }
}

fn depthwise(conv: &Conv2d, packed: &[f32], x: &[f32], [c, h, w]: Shape, to: Shape, out: &mut [f32]) {
    let (kh, kw) = (conv.weight.shape[2], conv.weight.shape[3]);
    // [tap][channel], so that channels are the lanes
    let weights: Vec<f32> = (0..kh * kw * c).map(|i| packed[i % c * kh * kw + i / c]).collect();
    for (p, sums) in out.chunks_exact_mut(c).enumerate() {
        let (oy, ox) = (p / to[2], p % to[2]);
        for tap in 0..kh * kw {
            let sy = source(oy, conv.stride[0], tap / kw, conv.dilation[0], conv.padding[0], h);
            let sx = source(ox, conv.stride[1], tap % kw, conv.dilation[1], conv.padding[1], w);
            if let (Some(sy), Some(sx)) = (sy, sx) {
                let pixel = &x[(sy * w + sx) * c..][..c];
                for ((s, x), w) in sums.iter_mut().zip(pixel).zip(&weights[tap * c..][..c]) {
                    *s += x * w;
                }
            }
        }
    }
}
