//! Average and max pooling of the dense reading.
//! In: an image `[h, w, c]`. Out: an image `[h', w', c]`.

use crate::network::shape::Shape;
use crate::network::{Pool, PoolKind};

/// The part of a window that lies on the image, along one axis, and how much of it PyTorch divides by when padding counts
/// (a window cut off beyond the padding counts only up to its end).
pub fn window(
    o: usize,
    stride: usize,
    kernel: usize,
    before: usize,
    after: usize,
    size: usize,
) -> (std::ops::Range<usize>, usize) {
    let begin = o * stride;
    let end = (begin + kernel).min(before + size + after);
    let on_image = begin.max(before) - before..end.min(before + size).saturating_sub(before);
    (on_image, end - begin)
}

/// One image pooled.
pub fn forward(pool: &Pool, x: &[f32], [c, h, w]: Shape, to: Shape) -> Vec<f32> {
    let [top, left, bottom, right] = pool.padding;
    let mut out = Vec::with_capacity(to.iter().product());
    for oy in 0..to[1] {
        let (ys, full_y) = window(oy, pool.stride[0], pool.kernel[0], top, bottom, h);
        for ox in 0..to[2] {
            let (xs, full_x) = window(ox, pool.stride[1], pool.kernel[1], left, right, w);
            let at = out.len();
            let first = if pool.kind == PoolKind::Max { f32::NEG_INFINITY } else { 0.0 };
            out.resize(at + c, first);
            let sums = &mut out[at..];
            for y in ys.clone() {
                for x in x[(y * w + xs.start) * c..(y * w + xs.end) * c].chunks_exact(c) {
                    for (s, x) in sums.iter_mut().zip(x) {
                        *s = if pool.kind == PoolKind::Max { s.max(*x) } else { *s + x };
                    }
                }
            }
            if let PoolKind::Average { count_padding } = pool.kind {
                let n = if count_padding { full_y * full_x } else { ys.len() * xs.len() };
                sums.iter_mut().for_each(|s| *s /= n as f32);
            }
        }
    }
    out
}

/// Mean over all positions of one image.
pub fn global(x: &[f32], [c, h, w]: Shape) -> Vec<f32> {
    let mut out = vec![0.0; c];
    for pixel in x.chunks_exact(c) {
        out.iter_mut().zip(pixel).for_each(|(s, x)| *s += x);
    }
    out.iter_mut().for_each(|s| *s /= (h * w) as f32);
    out
}
