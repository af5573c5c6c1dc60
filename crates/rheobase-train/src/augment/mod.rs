//! Random changes of training images that leave their class as it is.
//! In: a recipe's name, an image, a random stream. Out: the image cropped, flipped, changed, with a square cut out.

mod crop;
mod ops;
mod picture;
mod policy;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use rheobase_core::random::Stream;
use rheobase_core::{Error, Kind, Result};

/// How the network's input is cut out of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Crop {
    /// The centre.
    #[default]
    None,
    /// Anywhere in the image with this many black pixels added on every side: a shift by up to as many pixels.
    Pad(usize),
    /// A part of 8 to 100 % of the area and of aspect 3/4 to 4/3, resized to what the network sees.
    Resized,
}

/// What is done to a training image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Augment {
    /// How it is cropped.
    pub crop: Crop,
    /// Whether half of the images are flipped left to right.
    pub flip: bool,
    /// Whether the AutoAugment policy for CIFAR-10 is applied.
    pub policy: bool,
    /// Side of the square that is set to the mean (Cutout); 0: none.
    pub cutout: usize,
}

/// Recipes by name.
pub const PRESETS: &[(&str, Augment)] = &[
    ("none", Augment { crop: Crop::None, flip: false, policy: false, cutout: 0 }),
    ("shift", Augment { crop: Crop::Pad(1), flip: false, policy: false, cutout: 0 }),
    ("standard", Augment { crop: Crop::Pad(4), flip: true, policy: false, cutout: 0 }),
    ("auto", Augment { crop: Crop::Pad(4), flip: true, policy: true, cutout: 16 }),
    ("imagenet", Augment { crop: Crop::Resized, flip: true, policy: false, cutout: 0 }),
];

impl Augment {
    /// The recipe of this text for a data set of so many classes: [`FromStr`], but the square that `auto` cuts out has
    /// 16 pixels for up to 10 classes and 8 for more, unless the text says `cutout`.
    pub fn named(text: &str, classes: usize) -> Result<Self> {
        let mut augment: Augment = text.parse()?;
        if classes > 10 && text.split('+').any(|p| p == "auto") && !text.contains("cutout") {
            augment.cutout = 8;
        }
        Ok(augment)
    }

    /// Whether images of `shape` (channels, height, width) can be turned into inputs of `size` (height, width) so.
    pub fn check(&self, shape: [usize; 3], size: [usize; 2]) -> Result<()> {
        if self.crop != Crop::Resized && (shape[1] < size[0] || shape[2] < size[1]) {
            return Err(Error::new(Kind::Data, "images are smaller than the network's input")
                .expected(format!("{}x{} pixels or more", size[0], size[1]))
                .found(format!("{}x{}", shape[1], shape[2])));
        }
        if shape.contains(&0) || size.contains(&0) {
            return Err(Error::new(Kind::Shape, "images hold no pixels"));
        }
        if self.policy && !matches!(shape[0], 1 | 3) {
            return Err(Error::new(Kind::Usage, "the AutoAugment policy does not fit the images")
                .expected("grey or colour images")
                .found(format!("{} channels", shape[0]))
                .hint("choose `standard`"));
        }
        Ok(())
    }

    /// Turns an image of `shape` (channels, height, width) into an input of `size` (height, width): crop, flip, policy.
    /// Both hold pixels in [0, 1], `[height, width, channels]`, before normalisation. [`Augment::check`] comes first.
    pub fn apply(
        &self,
        stream: &mut Stream,
        source: &[f32],
        shape: [usize; 3],
        pixels: &mut [f32],
        size: [usize; 2],
    ) {
        let [channels, height, width] = shape;
        let spare = [height.saturating_sub(size[0]), width.saturating_sub(size[1])];
        match self.crop {
            Crop::None => {
                let [top, left] = spare.map(|s| (s / 2) as isize);
                crop::window(source, shape, [top, left], pixels, size);
            }
            Crop::Pad(pad) => {
                let [top, left] =
                    spare.map(|spare| stream.below(spare + 2 * pad + 1) as isize - pad as isize);
                crop::window(source, shape, [top, left], pixels, size);
            }
            Crop::Resized => {
                let part = crop::part(stream, [height, width]);
                crop::resize(source, shape, part, pixels, size);
            }
        }
        if self.flip && stream.below(2) == 1 {
            crop::flip(pixels, channels, size[1]);
        }
        if self.policy {
            policy::apply(stream, pixels, [channels, size[0], size[1]]);
        }
    }

    /// Sets a square to 0, which after normalisation is the mean; its centre lies anywhere, what is outside is lost.
    pub fn cut_out(&self, stream: &mut Stream, pixels: &mut [f32], [channels, height, width]: [usize; 3]) {
        if self.cutout == 0 {
            return;
        }
        let half = self.cutout / 2;
        let mut span = |length: usize| {
            let centre = stream.below(length);
            centre.saturating_sub(half)..(centre + half).min(length)
        };
        let (rows, columns) = (span(height), span(width));
        for y in rows {
            pixels[(y * width + columns.start) * channels..(y * width + columns.end) * channels].fill(0.0);
        }
    }
}

impl FromStr for Augment {
    type Err = Error;

    /// A recipe's name, or changes joined by `+`, such as `standard+cutout8`: a name, `padN`, `flip`, `resized`,
    /// `policy`, `cutoutN`, where later ones win.
    fn from_str(text: &str) -> Result<Self> {
        let mut augment = Augment::default();
        for part in text.split('+') {
            let number = |name: &str| part.strip_prefix(name)?.parse::<u16>().ok().map(usize::from);
            match part {
                "flip" => augment.flip = true,
                "policy" => augment.policy = true,
                "resized" => augment.crop = Crop::Resized,
                _ => {
                    if let Some((_, preset)) = PRESETS.iter().find(|(name, _)| *name == part) {
                        augment = *preset;
                    } else if let Some(pad) = number("pad") {
                        augment.crop = Crop::Pad(pad);
                    } else if let Some(side) = number("cutout") {
                        augment.cutout = side;
                    } else {
                        let names: Vec<_> = PRESETS.iter().map(|(name, _)| format!("`{name}`")).collect();
                        return Err(Error::new(Kind::Usage, "unknown augmentation")
                            .expected(names.join(", "))
                            .found(format!("`{part}`"))
                            .hint(
                                "or changes joined by `+`: `padN`, `resized`, `flip`, `policy`, `cutoutN`",
                            ));
                    }
                }
            }
        }
        Ok(augment)
    }
}

impl fmt::Display for Augment {
    /// What [`FromStr`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = PRESETS.iter().find(|(_, preset)| preset == self) {
            return f.write_str(name);
        }
        let mut parts = Vec::new();
        match self.crop {
            Crop::None => {}
            Crop::Pad(pad) => parts.push(format!("pad{pad}")),
            Crop::Resized => parts.push("resized".into()),
        }
        parts.extend(self.flip.then(|| "flip".into()));
        parts.extend(self.policy.then(|| "policy".into()));
        parts.extend((self.cutout > 0).then(|| format!("cutout{}", self.cutout)));
        f.write_str(&parts.join("+"))
    }
}
