//! An image of 8-bit values, as the operations of a policy want it.
//! In: pixels in [0, 1]. Out: bytes that a table, a blend or a move changes, and pixels again.

/// What lies outside of a moved image.
const FILL: u8 = 128;

/// An image `[height, width, channels]` of bytes.
pub(super) struct Picture {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) values: Vec<u8>,
}

impl Picture {
    /// Rounds pixels in [0, 1] to 255ths.
    pub(super) fn quantised(pixels: &[f32], [channels, height, width]: [usize; 3]) -> Self {
        // `as` saturates; half a level more makes it round
        let values = pixels.iter().map(|p| (p * 255.0 + 0.5) as u8).collect();
        Picture { height, width, channels, values }
    }

    /// Writes the pixels.
    pub(super) fn write(&self, pixels: &mut [f32]) {
        for (pixel, &value) in pixels.iter_mut().zip(&self.values) {
            *pixel = f32::from(value) / 255.0;
        }
    }

    /// Values per row.
    pub(super) fn line(&self) -> usize {
        self.width * self.channels
    }

    /// Replaces every value of channel c by what table c says.
    pub(super) fn look_up(&mut self, tables: &[[u8; 256]]) {
        for pixel in self.values.chunks_exact_mut(self.channels) {
            for (value, table) in pixel.iter_mut().zip(tables) {
                *value = table[usize::from(*value)];
            }
        }
    }

    /// How often each value occurs in each channel.
    pub(super) fn histograms(&self) -> Vec<[usize; 256]> {
        let mut counts = vec![[0; 256]; self.channels];
        for pixel in self.values.chunks_exact(self.channels) {
            for (&value, counts) in pixel.iter().zip(&mut counts) {
                counts[usize::from(value)] += 1;
            }
        }
        counts
    }

    /// The grey of every pixel: the ITU-R 601-2 luma in 16 fractional bits of a colour, else the first channel.
    pub(super) fn luma(&self) -> impl Iterator<Item = u8> + '_ {
        self.values.chunks_exact(self.channels).map(|p| match *p {
            [r, g, b] => {
                let sum = u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471;
                ((sum + 0x8000) >> 16) as u8
            }
            _ => p[0],
        })
    }

    /// Moves the image: `from` gives, for the place (row, column) of a pixel, the place that it comes from.
    pub(super) fn moved(&mut self, from: impl Fn(usize, usize) -> Option<(usize, usize)>) {
        let (c, line) = (self.channels, self.line());
        let mut values = vec![FILL; self.values.len()];
        for (y, row) in values.chunks_exact_mut(line).enumerate() {
            for (x, pixel) in row.chunks_exact_mut(c).enumerate() {
                if let Some((y, x)) = from(y, x).filter(|&(y, x)| y < self.height && x < self.width) {
                    pixel.copy_from_slice(&self.values[y * line + x * c..][..c]);
                }
            }
        }
        self.values = values;
    }

    /// Shears columns by cubic interpolation: a value comes from `factor` times its distance from the left further down.
    pub(super) fn sheared(&mut self, factor: f64) {
        let (c, line, height) = (self.channels, self.line(), self.height as f64);
        let mut values = vec![FILL; self.values.len()];
        for (y, row) in values.chunks_exact_mut(line).enumerate() {
            for (x, pixel) in row.chunks_exact_mut(c).enumerate() {
                let place = (y as f64 + 0.5) + factor * (x as f64 + 0.5);
                if place < 0.0 || place >= height {
                    continue;
                }
                let place = place - 0.5;
                let before = place.floor();
                let taps =
                    [-1.0, 0.0, 1.0, 2.0].map(|n| (before + n).clamp(0.0, height - 1.0) as usize * line);
                for (i, value) in (x * c..).zip(pixel) {
                    let taps = taps.map(|tap| f64::from(self.values[tap + i]));
                    // cut off, not rounded, as Pillow does
                    *value = cubic(taps, place - before) as u8;
                }
            }
        }
        self.values = values;
    }
}

/// Keys' cubic through four values with slope parameter -1, at `d` of the way from the second to the third.
fn cubic([a, b, c, e]: [f64; 4], d: f64) -> f64 {
    let linear = c - a;
    let square = 2.0 * (a - b) + c - e;
    let cube = b - a - c + e;
    b + d * (linear + d * (square + d * cube))
}
