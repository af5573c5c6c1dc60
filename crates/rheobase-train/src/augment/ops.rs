//! The thirteen operations of AutoAugment's policy for CIFAR-10, with the meaning they have on Pillow's 8-bit images.
//! In: an image, a level from 0 to 9, a direction. Out: the image changed.

use super::picture::Picture;

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Color,
    Posterize,
    Solarize,
    Contrast,
    Sharpness,
    Brightness,
    AutoContrast,
    Equalize,
    Invert,
}

/// The magnitude at this level of ten: evenly from 0 to `most`.
fn ramp(most: f64, level: usize) -> f64 {
    most / 9.0 * level as f64
}

impl Op {
    /// Whether a coin decides about the direction.
    pub(super) fn signed(self) -> bool {
        !matches!(
            self,
            Op::Rotate | Op::Posterize | Op::Solarize | Op::AutoContrast | Op::Equalize | Op::Invert
        )
    }

    /// Does it; `sign` is 1 or -1, for signed operations.
    pub(super) fn perform(self, picture: &mut Picture, level: usize, sign: f64) {
        let shift = sign * ramp(150.0 / 331.0, level);
        let factor = (1.0 + sign * ramp(0.9, level)) as f32;
        match self {
            Op::ShearY => picture.sheared(sign * ramp(0.3, level)),
            Op::TranslateX => {
                let shift = shift * picture.width as f64;
                picture.moved(|y, x| Some((y, place(x, shift)?)));
            }
            Op::TranslateY => {
                let shift = shift * picture.height as f64;
                picture.moved(|y, x| Some((place(y, shift)?, x)));
            }
            Op::Rotate => rotate(picture, ramp(30.0, level)),
            Op::Color if picture.channels == 3 => {
                let grey: Vec<u8> = picture.luma().flat_map(|grey| [grey; 3]).collect();
                blend(picture, &grey, factor);
            }
            // grey is as colourless as can be
            Op::Color => {}
            Op::Posterize => {
                let kept = (8.0 - ramp(4.0, level)).round() as u32;
                each(picture, |v| v & (0xff << (8 - kept)) as u8);
            }
            Op::Solarize => {
                let threshold = 256.0 - ramp(256.0, level);
                each(picture, |v| if f64::from(v) < threshold { v } else { 255 - v });
            }
            Op::Contrast => {
                let sum: u64 = picture.luma().map(u64::from).sum();
                let pixels = picture.height * picture.width;
                let mean = (sum as f64 / pixels as f64 + 0.5) as u8;
                each(picture, |v| blended(mean, v, factor));
            }
            Op::Sharpness => {
                let smooth = smoothed(picture);
                blend(picture, &smooth, factor);
            }
            Op::Brightness => each(picture, |v| blended(0, v, factor)),
            Op::AutoContrast => {
                let tables: Vec<_> = picture.histograms().iter().map(stretch).collect();
                picture.look_up(&tables);
            }
            Op::Equalize => {
                let tables: Vec<_> = picture.histograms().iter().map(flatten).collect();
                picture.look_up(&tables);
            }
            Op::Invert => each(picture, |v| 255 - v),
        }
    }
}

/// Where the pixel at `x` comes from, nearest neighbour.
fn place(x: usize, shift: f64) -> Option<usize> {
    let place = x as f64 + 0.5 + shift;
    (place >= 0.0).then_some(place as usize)
}

/// Changes every value by a table.
fn each(picture: &mut Picture, of: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|v| of(v as u8));
    for value in &mut picture.values {
        *value = table[usize::from(*value)];
    }
}

/// From `dull` (factor 0) over the value itself (factor 1) to beyond; cut off to a level, not rounded.
fn blended(dull: u8, value: u8, factor: f32) -> u8 {
    let (dull, value) = (f32::from(dull), f32::from(value));
    (dull + factor * (value - dull)) as u8
}

fn blend(picture: &mut Picture, dull: &[u8], factor: f32) {
    for (value, &dull) in picture.values.iter_mut().zip(dull) {
        *value = blended(dull, *value, factor);
    }
}

/// The mean over 3x3 pixels with the middle counted five times; the border stays.
fn smoothed(picture: &Picture) -> Vec<u8> {
    let (c, line) = (picture.channels, picture.line());
    let mut smooth = picture.values.clone();
    for y in 1..picture.height.saturating_sub(1) {
        for i in c..line.saturating_sub(c) {
            let at = y * line + i;
            let row =
                |at: usize| [at - c, at, at + c].map(|i| u32::from(picture.values[i])).iter().sum::<u32>();
            let sum = row(at - line) + row(at) + row(at + line) + 4 * u32::from(picture.values[at]);
            smooth[at] = ((2 * sum + 13) / 26) as u8;
        }
    }
    smooth
}

/// Counterclockwise around the middle, nearest neighbour, in 16.16 fixed point.
fn rotate(picture: &mut Picture, degrees: f64) {
    let (sin, cos) = (-degrees.to_radians()).sin_cos();
    let (x, y) = (picture.width as f64 / 2.0, picture.height as f64 / 2.0);
    let fixed = |v: f64| (v * 65536.0 + 0.5).floor() as i64;
    let start = [
        fixed(x - cos * x - sin * y + cos * 0.5 + sin * 0.5),
        fixed(y + sin * x - cos * y - sin * 0.5 + cos * 0.5),
    ];
    let (cos, sin, minus_sin) = (fixed(cos), fixed(sin), fixed(-sin));
    picture.moved(|row, column| {
        let (row, column) = (row as i64, column as i64);
        let x = start[0] + column * cos + row * sin;
        let y = start[1] + column * minus_sin + row * cos;
        Some((usize::try_from(y >> 16).ok()?, usize::try_from(x >> 16).ok()?))
    });
}

/// Spreads the values so that the darkest is 0 and the brightest 255.
fn stretch(counts: &[usize; 256]) -> [u8; 256] {
    let low = counts.iter().position(|&n| n > 0).unwrap_or(0);
    let high = counts.iter().rposition(|&n| n > 0).unwrap_or(0);
    if high <= low {
        return std::array::from_fn(|v| v as u8);
    }
    let scale = 255.0 / (high - low) as f64;
    let offset = -(low as f64) * scale;
    std::array::from_fn(|v| (v as f64 * scale + offset) as u8)
}

/// Spreads the values so that each range of values is about as frequent as another.
fn flatten(counts: &[usize; 256]) -> [u8; 256] {
    let total: usize = counts.iter().sum();
    let last = counts.iter().rfind(|&&n| n > 0).copied().unwrap_or(0);
    let step = (total - last) / 255;
    if step == 0 {
        return std::array::from_fn(|v| v as u8);
    }
    let mut sum = step / 2;
    std::array::from_fn(|v| {
        let level = sum / step;
        sum += counts[v];
        level.min(255) as u8
    })
}
