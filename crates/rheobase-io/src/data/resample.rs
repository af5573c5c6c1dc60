//! Pillow's antialiased bilinear resize, to the bit, of only the part that is cut out afterwards.
//! In: 8-bit pixels, channels innermost, the size to resize to and the rectangle wanted of it. Out: that rectangle.
//!
//! The method is that of `Resample.c` in Pillow (J. A. Clark and others; first by A. Krech): one pass over columns, then
//! one over rows, each with a triangle filter as wide as the shrinking asks for, its weights rounded to 22 fractional
//! bits, sums in integers, the result of each pass rounded to 8 bits. PyTorch users' networks have seen such pixels.

use std::ops::Range;

/// Fractional bits of a weight: 8 are for the pixel, 2 stay free.
const PRECISION: u32 = 32 - 8 - 2;

/// An image of 8-bit values, `[height, width, channels]`.
pub(super) struct Picture {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) values: Vec<u8>,
}

/// The inputs that one output value is made of.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

/// The windows of the outputs in `part`, of `output` in all, over `input` values.
fn windows(input: usize, output: usize, part: Range<usize>) -> Vec<Window> {
    if input == output {
        return part.map(|i| Window { start: i, weights: vec![1 << PRECISION] }).collect();
    }
    let scale = input as f64 / output as f64;
    let support = scale.max(1.0);
    let shrink = 1.0 / support;
    part.map(|i| {
        let center = (i as f64 + 0.5) * scale;
        // `as` cuts off towards zero and saturates at 0, which is what is wanted.
        let start = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(input);
        let triangle = |x: usize| (1.0 - ((x as f64 - center + 0.5) * shrink).abs()).max(0.0);
        let raw: Vec<f64> = (start..end).map(triangle).collect();
        let sum: f64 = raw.iter().sum();
        let one = f64::from(1 << PRECISION);
        let weights = raw.iter().map(|w| (0.5 + w / sum * one) as i32).collect();
        Window { start, weights }
    })
    .collect()
}

fn rounded(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// The rectangle of `rows` and `columns` of the picture as it would be at `height` x `width`.
pub(super) fn resize(
    picture: &Picture,
    [height, width]: [usize; 2],
    rows: Range<usize>,
    columns: Range<usize>,
) -> Picture {
    let channels = picture.channels;
    let (down, across) =
        (windows(picture.height, height, rows), windows(picture.width, width, columns.clone()));
    let first = down.first().map_or(0, |w| w.start);
    let last = down.last().map_or(0, |w| w.start + w.weights.len());
    let line = columns.len() * channels;

    let mut middle = vec![0u8; (last - first) * line];
    let source = picture.values.chunks_exact(picture.width * channels).skip(first);
    for (out, row) in middle.chunks_exact_mut(line).zip(source) {
        for (pixel, window) in out.chunks_exact_mut(channels).zip(&across) {
            let taps = row[window.start * channels..].chunks_exact(channels);
            let mut sum = [1i32 << (PRECISION - 1); 4];
            for (tap, &weight) in taps.zip(&window.weights) {
                for (s, &v) in sum.iter_mut().zip(tap) {
                    *s += i32::from(v) * weight;
                }
            }
            for (p, s) in pixel.iter_mut().zip(sum) {
                *p = rounded(s);
            }
        }
    }

    let mut values = Vec::with_capacity(down.len() * line);
    let mut sums = vec![0i32; line];
    for window in &down {
        sums.fill(1 << (PRECISION - 1));
        let taps = middle[(window.start - first) * line..].chunks_exact(line);
        for (row, &weight) in taps.zip(&window.weights) {
            for (s, &v) in sums.iter_mut().zip(row) {
                *s += i32::from(v) * weight;
            }
        }
        values.extend(sums.iter().map(|&s| rounded(s)));
    }
    Picture { height: down.len(), width: columns.len(), channels, values }
}
