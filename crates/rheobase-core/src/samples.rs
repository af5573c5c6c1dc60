//! What a data set must give.
//! In: an index. Out: an image's pixels, channels innermost, and its label.

use crate::error::{Error, Kind, Result};

/// Per-channel mean and standard deviation that an image is normalised with: (pixel - mean) / std, pixels in [0, 1].
#[derive(Debug, Clone, PartialEq)]
pub struct Normalisation {
    /// Mean per channel.
    pub mean: Vec<f32>,
    /// Standard deviation per channel.
    pub std: Vec<f32>,
}

impl Normalisation {
    /// Checked: finite, same length, every std above zero.
    pub fn new(mean: Vec<f32>, std: Vec<f32>) -> Result<Self> {
        let good = mean.len() == std.len()
            && !mean.is_empty()
            && mean.iter().all(|m| m.is_finite())
            && std.iter().all(|s| s.is_finite() && *s > 0.0);
        if !good {
            return Err(Error::new(Kind::Usage, "normalisation makes no sense")
                .expected("one finite mean and one std above 0 per channel")
                .found(format!("mean {mean:?}, std {std:?}")));
        }
        Ok(Normalisation { mean, std })
    }

    /// No change: mean 0, std 1.
    pub fn identity(channels: usize) -> Self {
        Normalisation { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// Normalises pixels in [0, 1], channels innermost, in place.
    pub fn apply(&self, pixels: &mut [f32]) {
        let c = self.mean.len();
        for pixel in pixels.chunks_exact_mut(c) {
            for ((p, m), s) in pixel.iter_mut().zip(&self.mean).zip(&self.std) {
                *p = (*p - m) / s;
            }
        }
    }

    /// The largest magnitude that a normalised pixel of channel `c` can have.
    pub fn largest(&self, c: usize) -> f32 {
        let (m, s) = (self.mean[c], self.std[c]);
        (m / s).abs().max(((1.0 - m) / s).abs())
    }
}

/// Labelled images of one shape.
pub trait Samples: Send + Sync {
    /// How a person would name it, such as `cifar10 (test)`.
    fn name(&self) -> String;
    /// How many images.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether the pixels lie in memory, so that reading them again costs next to nothing.
    fn in_memory(&self) -> bool {
        false
    }
    /// Channels, height, width of every image.
    fn shape(&self) -> [usize; 3];
    /// Class names, in the order of the labels.
    fn classes(&self) -> &[String];
    /// The normalisation usual for this data set.
    fn normalisation(&self) -> Normalisation;
    /// Writes image `index` as pixels in [0, 1], `[height, width, channels]`, and returns its label.
    fn read(&self, index: usize, pixels: &mut [f32]) -> Result<usize>;
}
