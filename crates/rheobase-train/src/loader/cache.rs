//! Images kept as bytes once they have been decoded.
//! In: a data set that reads from files. Out: the same pixels, from memory from the second time on.

use std::sync::OnceLock;

use rheobase_core::Result;
use rheobase_core::samples::Samples;

/// The largest data set that is kept.
pub(super) const MAX_BYTES: usize = 512 << 20;

/// A data set with those images that have been read.
pub(super) struct Cache<'a> {
    pub(super) samples: &'a dyn Samples,
    /// Pixels in 255ths and label of each image; empty where nothing is to be kept.
    images: Vec<OnceLock<(Box<[u8]>, usize)>>,
}

impl<'a> Cache<'a> {
    /// Nothing is read yet; sets in memory, and those of more than `limit` bytes, are not kept.
    pub(super) fn new(samples: &'a dyn Samples, limit: usize) -> Self {
        let bytes = samples.shape().iter().fold(samples.len(), |n, d| n.saturating_mul(*d));
        let kept = if samples.in_memory() || bytes > limit { 0 } else { samples.len() };
        Cache { samples, images: (0..kept).map(|_| OnceLock::new()).collect() }
    }

    /// [`Samples::read`].
    pub(super) fn read(&self, index: usize, pixels: &mut [f32]) -> Result<usize> {
        let slot = self.images.get(index);
        if let Some((bytes, label)) = slot.and_then(|s| s.get()) {
            for (pixel, byte) in pixels.iter_mut().zip(bytes) {
                *pixel = f32::from(*byte) / 255.0;
            }
            return Ok(*label);
        }
        let label = self.samples.read(index, pixels)?;
        if let Some(slot) = slot {
            let bytes: Box<[u8]> = pixels.iter().map(|p| (p * 255.0 + 0.5) as u8).collect();
            // only what comes back as it was
            if bytes.iter().zip(pixels).all(|(byte, pixel)| f32::from(*byte) / 255.0 == *pixel) {
                slot.get_or_init(|| (bytes, label));
            }
        }
        Ok(label)
    }
}
