//! Pools and shortcuts of one image, forward and backward.
//! In: an image `[h, w, c]`. Out: an image; the gradient of the first, added to what is there, from that of the second.

use rheobase_core::ann::pool;
use rheobase_core::network::shape::Shape;
use rheobase_core::network::{Pool, PoolKind, Shortcut};

pub fn forward(p: &Pool, x: &[f32], from: Shape, to: Shape, y: &mut [f32]) {
    y.copy_from_slice(&pool::forward(p, x, from, to));
}

pub fn global(x: &[f32], from: Shape, y: &mut [f32]) {
    y.copy_from_slice(&pool::global(x, from));
}

pub fn shortcut(s: &Shortcut, x: &[f32], [c, _, w]: Shape, to: Shape, y: &mut [f32]) {
    y.fill(0.0);
    for (p, pixel) in y.chunks_exact_mut(to[0]).enumerate() {
        let from = (p / to[2] * s.stride[0] * w + p % to[2] * s.stride[1]) * c;
        pixel[s.before..s.before + c].copy_from_slice(&x[from..from + c]);
    }
}

/// A maximum hands its gradient to the first of equals, as PyTorch does.
pub fn backward(p: &Pool, x: &[f32], dy: &[f32], [c, h, w]: Shape, to: Shape, dx: &mut [f32]) {
    let [top, left, bottom, right] = p.padding;
    for (o, dy) in dy.chunks_exact(c).enumerate() {
        let (ys, full_y) = pool::window(o / to[2], p.stride[0], p.kernel[0], top, bottom, h);
        let (xs, full_x) = pool::window(o % to[2], p.stride[1], p.kernel[1], left, right, w);
        let pixels = || ys.clone().flat_map(|y| xs.clone().map(move |x| (y * w + x) * c));
        match p.kind {
            PoolKind::Average { count_padding } => {
                let n = if count_padding { full_y * full_x } else { ys.len() * xs.len() } as f32;
                for at in pixels() {
                    dx[at..at + c].iter_mut().zip(dy).for_each(|(d, g)| *d += g / n);
                }
            }
            PoolKind::Max => {
                for (i, g) in dy.iter().enumerate() {
                    let best = pixels().map(|at| at + i).reduce(|a, b| if x[b] > x[a] { b } else { a });
                    if let Some(best) = best {
                        dx[best] += g;
                    }
                }
            }
        }
    }
}

pub fn global_backward(dy: &[f32], [c, h, w]: Shape, dx: &mut [f32]) {
    for pixel in dx.chunks_exact_mut(c) {
        pixel.iter_mut().zip(dy).for_each(|(d, g)| *d += g / (h * w) as f32);
    }
}

pub fn shortcut_backward(s: &Shortcut, dy: &[f32], [c, _, w]: Shape, to: Shape, dx: &mut [f32]) {
    for (p, pixel) in dy.chunks_exact(to[0]).enumerate() {
        let from = (p / to[2] * s.stride[0] * w + p % to[2] * s.stride[1]) * c;
        dx[from..from + c].iter_mut().zip(&pixel[s.before..s.before + c]).for_each(|(d, g)| *d += g);
    }
}
