//! Cuts a network's input out of an image.
//! In: pixels, channels innermost, and a rectangle. Out: the rectangle, black where the image ends, or resized.

use rheobase_core::random::Stream;

/// A part of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) top: usize,
    pub(super) left: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

/// Copies what lies `top` and `left` pixels inside the image, where these may be negative; 0 outside.
pub(super) fn window(
    source: &[f32],
    [channels, height, width]: [usize; 3],
    [top, left]: [isize; 2],
    pixels: &mut [f32],
    [_, out_width]: [usize; 2],
) {
    for (y, row) in pixels.chunks_exact_mut(out_width * channels).enumerate() {
        let y = top + y as isize;
        if !(0..height as isize).contains(&y) {
            row.fill(0.0);
            continue;
        }
        let line = &source[y as usize * width * channels..][..width * channels];
        let first = left.min(0).unsigned_abs().min(out_width);
        let from = left.max(0).unsigned_abs().min(width);
        let count = (out_width - first).min(width - from);
        let (black, rest) = row.split_at_mut(first * channels);
        let (inside, after) = rest.split_at_mut(count * channels);
        black.fill(0.0);
        inside.copy_from_slice(&line[from * channels..][..count * channels]);
        after.fill(0.0);
    }
}

/// Left to right, in place.
pub(super) fn flip(pixels: &mut [f32], channels: usize, width: usize) {
    for row in pixels.chunks_exact_mut(width * channels) {
        for x in 0..width / 2 {
            let (left, right) = row.split_at_mut((width - 1 - x) * channels);
            left[x * channels..][..channels].swap_with_slice(&mut right[..channels]);
        }
    }
}

/// A part of 8 to 100 % of the area with an aspect from 3/4 to 4/3, both at random (Szegedy et al., 2015); after ten
/// draws that do not fit, the largest part from the centre that does.
pub(super) fn part(stream: &mut Stream, [height, width]: [usize; 2]) -> Rect {
    let (h, w) = (height as f64, width as f64);
    let limit = (4.0f64 / 3.0).ln();
    for _ in 0..10 {
        let area = h * w * (0.08 + 0.92 * stream.uniform());
        let aspect = (limit * (2.0 * stream.uniform() - 1.0)).exp();
        let (ph, pw) = ((area / aspect).sqrt().round() as usize, (area * aspect).sqrt().round() as usize);
        if (1..=height).contains(&ph) && (1..=width).contains(&pw) {
            let (top, left) = (stream.below(height - ph + 1), stream.below(width - pw + 1));
            return Rect { top, left, height: ph, width: pw };
        }
    }
    let ph = ((w * 4.0 / 3.0).round() as usize).clamp(1, height);
    let pw = ((h * 4.0 / 3.0).round() as usize).clamp(1, width);
    Rect { top: (height - ph) / 2, left: (width - pw) / 2, height: ph, width: pw }
}

/// For each output, its first input and the weights of the inputs from there on: a triangle, wide enough to use all.
fn windows(input: usize, output: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = input as f64 / output as f64;
    let reach = scale.max(1.0);
    (0..output)
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            // `as` saturates at 0
            let start = (center - reach + 0.5) as usize;
            let end = ((center + reach + 0.5) as usize).min(input);
            let raw: Vec<f64> =
                (start..end).map(|x| (1.0 - ((x as f64 + 0.5 - center) / reach).abs()).max(0.0)).collect();
            let sum: f64 = raw.iter().sum();
            (start, raw.iter().map(|w| (w / sum) as f32).collect())
        })
        .collect()
}

/// Resizes a part of the image to `size`, bilinear with antialias.
pub(super) fn resize(
    source: &[f32],
    [channels, _, width]: [usize; 3],
    part: Rect,
    pixels: &mut [f32],
    [out_height, out_width]: [usize; 2],
) {
    let (down, across) = (windows(part.height, out_height), windows(part.width, out_width));
    let line = out_width * channels;
    let mut middle = vec![0.0f32; part.height * line];
    for (y, row) in middle.chunks_exact_mut(line).enumerate() {
        let input = &source[((part.top + y) * width + part.left) * channels..][..part.width * channels];
        for (pixel, (start, weights)) in row.chunks_exact_mut(channels).zip(&across) {
            for (tap, weight) in input[start * channels..].chunks_exact(channels).zip(weights) {
                for (p, t) in pixel.iter_mut().zip(tap) {
                    *p += weight * t;
                }
            }
        }
    }
    for (row, (start, weights)) in pixels.chunks_exact_mut(line).zip(&down) {
        row.fill(0.0);
        for (tap, weight) in middle[start * line..].chunks_exact(line).zip(weights) {
            for (p, t) in row.iter_mut().zip(tap) {
                *p += weight * t;
            }
        }
    }
}
