//! Samples as a network wants them.
//! In: a data set, a network, a normalisation. Out: batches of normalised pixels with labels; misfits are refused.

use crate::error::{Error, Kind, Result};
use crate::network::{Network, shape};
use crate::samples::{Normalisation, Samples};
use rayon::prelude::*;

/// Samples with the normalisation that a network wants, read in batches.
pub struct Prepared<'a> {
    samples: &'a dyn Samples,
    normalisation: Normalisation,
    len: usize,
    /// Sample i is this many samples of the set, over `len`, after the first: `samples.len()` where they are spread.
    pace: usize,
}

impl<'a> Prepared<'a> {
    /// The first `limit` samples (all of them without a limit), checked to fit the network's input and classes.
    pub fn new(
        samples: &'a dyn Samples,
        network: &Network,
        normalisation: Option<Normalisation>,
        limit: Option<usize>,
    ) -> Result<Self> {
        let prepared = Prepared::unlabelled(samples, network, normalisation, limit)?;
        let classes = shape::infer(network)?[network.output][0];
        if classes != samples.classes().len() {
            return Err(Error::new(
                Kind::Data,
                format!("the classes of {} do not fit the network", samples.name()),
            )
            .expected(format!("{classes} classes"))
            .found(samples.classes().len().to_string()));
        }
        Ok(prepared)
    }

    /// The same for images whose labels nobody looks at: they need not be the network's classes.
    pub fn unlabelled(
        samples: &'a dyn Samples,
        network: &Network,
        normalisation: Option<Normalisation>,
        limit: Option<usize>,
    ) -> Result<Self> {
        let (want, have) = (network.input_shape(), samples.shape());
        if want != have {
            return Err(Error::new(
                Kind::Data,
                format!("the images of {} do not fit the network", samples.name()),
            )
            .expected(shape::text(want))
            .found(shape::text(have)));
        }
        let normalisation = normalisation
            .or_else(|| network.normalisation.clone())
            .unwrap_or_else(|| samples.normalisation());
        if normalisation.mean.len() != want[0] {
            return Err(Error::new(Kind::Usage, "normalisation does not match the image's channels")
                .expected(format!("{} numbers", want[0]))
                .found(normalisation.mean.len().to_string()));
        }
        let len = limit.unwrap_or(usize::MAX).min(samples.len());
        if len == 0 {
            return Err(Error::new(Kind::Data, format!("{} gives no image to work on", samples.name()))
                .hint("`--limit` must be 1 or more"));
        }
        Ok(Prepared { samples, normalisation, len, pace: len })
    }

    /// The same number of samples, evenly spaced over the whole set: sets that are sorted by class give some of each.
    #[must_use]
    pub fn spread(mut self) -> Self {
        self.pace = self.samples.len();
        self
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never; there is at least one.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The normalisation in use.
    pub fn normalisation(&self) -> &Normalisation {
        &self.normalisation
    }

    /// Reads and normalises samples `range` on the current threads: pixels `[samples, height, width, channels]` and labels.
    pub fn batch(
        &self,
        range: std::ops::Range<usize>,
        pixels: &mut Vec<f32>,
        labels: &mut Vec<usize>,
    ) -> Result<()> {
        let size: usize = self.samples.shape().iter().product();
        pixels.resize(range.len() * size, 0.0);
        let read: Result<Vec<usize>> = pixels
            .par_chunks_exact_mut(size)
            .zip(range)
            .map(|(pixels, index)| {
                let label = self
                    .samples
                    .read((index as u128 * self.pace as u128 / self.len as u128) as usize, pixels)?;
                self.normalisation.apply(pixels);
                Ok(label)
            })
            .collect();
        *labels = read?;
        Ok(())
    }
}
