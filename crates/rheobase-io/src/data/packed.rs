//! Labelled images held in memory as the bytes their file has.
//! In: records of one length with planar pixels, and labels. Out: `Samples`.

use std::borrow::Cow;

use rheobase_core::samples::{Normalisation, Samples};
use rheobase_core::{Error, Kind, Result};

/// Images as bytes: image `i` has its planes at `start + i * stride`, channel after channel, row by row.
pub(super) struct Packed {
    pub(super) name: String,
    pub(super) shape: [usize; 3],
    pub(super) classes: Vec<String>,
    pub(super) normalisation: Normalisation,
    pub(super) bytes: Cow<'static, [u8]>,
    pub(super) labels: Vec<u8>,
    pub(super) start: usize,
    pub(super) stride: usize,
    /// The byte that stands for 1.
    pub(super) white: u8,
}

impl Packed {
    /// Itself, if every image lies inside the bytes and every label names a class.
    pub(super) fn checked(self) -> Result<Self> {
        let size = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let end = self.labels.len().checked_sub(1).map_or(Some(0), |last| {
            last.checked_mul(self.stride)?.checked_add(self.start)?.checked_add(size?)
        });
        let inside = end.is_some_and(|end| end <= self.bytes.len());
        let named = self.labels.iter().all(|&l| usize::from(l) < self.classes.len());
        if inside && named {
            return Ok(self);
        }
        Err(Error::new(Kind::Format, "images do not fill their file").found(self.name))
    }
}

impl Samples for Packed {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn in_memory(&self) -> bool {
        true
    }

    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn normalisation(&self) -> Normalisation {
        self.normalisation.clone()
    }

    fn read(&self, index: usize, pixels: &mut [f32]) -> Result<usize> {
        let [channels, height, width] = self.shape;
        let plane = height * width;
        check_request(self, index, pixels.len())?;
        let image = &self.bytes[self.start + index * self.stride..][..channels * plane];
        let white = f32::from(self.white);
        for (c, values) in image.chunks_exact(plane).enumerate() {
            for (pixel, &value) in pixels.chunks_exact_mut(channels).zip(values) {
                pixel[c] = f32::from(value) / white;
            }
        }
        Ok(usize::from(self.labels[index]))
    }
}

/// Refuses an index past the end and a buffer of the wrong size.
pub(super) fn check_request(samples: &dyn Samples, index: usize, values: usize) -> Result<()> {
    if index >= samples.len() {
        return Err(Error::new(Kind::Usage, format!("{} has no image {index}", samples.name()))
            .expected(format!("an index below {}", samples.len())));
    }
    let [c, h, w] = samples.shape();
    if values != c * h * w {
        return Err(Error::new(Kind::Shape, "buffer does not fit the image")
            .expected(format!("{h}x{w} pixels of {c} channels"))
            .found(format!("{values} values")));
    }
    Ok(())
}

/// Owned names.
pub(super) fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_string()).collect()
}
