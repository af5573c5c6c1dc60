//! Training batches, prepared while the step before them runs.
//! In: a data set, a normalisation, an augmentation, a seed. Out: for each epoch the same batches, whatever the threads.

mod cache;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread;

use rayon::prelude::*;
use rheobase_core::random::Stream;
use rheobase_core::samples::{Normalisation, Samples};
use rheobase_core::{Error, Kind, Result};

use crate::augment::Augment;
use cache::Cache;

/// Sets these random streams apart from others of the same seed.
const PURPOSE: u64 = u64::from_be_bytes(*b"\0\0loader");

/// What a training step works on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Its place in the epoch.
    pub index: usize,
    /// Normalised pixels, `[images, height, width, channels]`.
    pub pixels: Vec<f32>,
    /// The label of each image.
    pub labels: Vec<usize>,
}

/// Shuffles, reads, augments and normalises a data set.
pub struct Loader<'a> {
    cache: Cache<'a>,
    normalisation: Normalisation,
    augment: Augment,
    size: [usize; 2],
    batch: usize,
    stream: Stream,
    /// How many images of the set are used, evenly spread over it.
    used: usize,
}

impl<'a> Loader<'a> {
    /// Batches of `batch` images, augmented to `size` (height, width). Data sets that are read from files and have at
    /// most 512 MiB as bytes are decoded once.
    pub fn new(
        samples: &'a dyn Samples,
        normalisation: Normalisation,
        augment: Augment,
        size: [usize; 2],
        batch: usize,
        seed: u64,
    ) -> Result<Self> {
        let channels = samples.shape()[0];
        if normalisation.mean.len() != channels {
            return Err(Error::new(Kind::Usage, "normalisation does not match the image's channels")
                .expected(format!("{channels} numbers"))
                .found(normalisation.mean.len().to_string()));
        }
        if batch == 0 {
            return Err(Error::new(Kind::Usage, "a batch holds no image").expected("1 or more").found("0"));
        }
        augment.check(samples.shape(), size)?;
        let cache = Cache::new(samples, cache::MAX_BYTES);
        let stream = Stream::new(seed, PURPOSE);
        let used = samples.len();
        Loader { cache, normalisation, augment, size, batch, stream, used }.checked()
    }

    /// Uses only so many images (all where there are fewer), evenly spread over the set.
    pub fn limited(mut self, images: usize) -> Result<Self> {
        self.used = images.min(self.cache.samples.len());
        self.checked()
    }

    fn checked(self) -> Result<Self> {
        if self.images() > 0 {
            return Ok(self);
        }
        Err(Error::new(Kind::Data, format!("{} gives no batch to train with", self.cache.samples.name()))
            .expected("2 images or more")
            .found(self.used.to_string()))
    }

    /// How many batches an epoch has.
    pub fn batches(&self) -> usize {
        self.images().div_ceil(self.batch)
    }

    /// How many images an epoch has: all, but for one that would be a batch alone. BatchNorm needs two.
    pub fn images(&self) -> usize {
        self.used - usize::from(self.batch > 1 && self.used % self.batch == 1)
    }

    /// Which images of the data set an epoch shows, in order.
    pub fn order(&self, epoch: usize) -> Vec<usize> {
        let all = self.cache.samples.len();
        let mut order: Vec<usize> =
            (0..self.used).map(|i| (i as u128 * all as u128 / self.used as u128) as usize).collect();
        self.stream.fork(epoch as u64).fork(u64::MAX).shuffle(&mut order);
        order.truncate(self.images());
        order
    }

    /// Calls `step` with each batch of an epoch from batch `start` on, in order, on this thread, until it breaks or
    /// fails. Up to two more batches are prepared meanwhile, on the threads of the global pool; where `run` itself is
    /// called on a thread of a pool, on one other thread. An image that cannot be read ends it with that error.
    pub fn run(
        &self,
        epoch: usize,
        start: usize,
        mut step: impl FnMut(&Batch) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let order = self.order(epoch);
        let stream = self.stream.fork(epoch as u64);
        // a thread of the pool that waits here for batches cannot help to make them
        let pooled = rayon::current_thread_index().is_none();
        thread::scope(|scope| {
            let (ready, batches) = mpsc::sync_channel::<Result<Batch>>(1);
            let (used, free) = mpsc::channel::<Batch>();
            let produce = move || {
                for (index, images) in order.chunks(self.batch).enumerate().skip(start) {
                    let mut batch: Batch = free.try_recv().unwrap_or_default();
                    batch.index = index;
                    let made = self.fill(&stream, images, pooled, &mut batch).map(|()| batch);
                    let failed = made.is_err();
                    if ready.send(made).is_err() || failed {
                        return;
                    }
                }
            };
            thread::Builder::new()
                .name("loader".into())
                .spawn_scoped(scope, produce)
                .map_err(|e| Error::new(Kind::Io, "cannot start a thread").found(e.to_string()))?;
            // leaving the loop drops the channel, which ends the other thread
            for batch in batches {
                let batch = batch?;
                if step(&batch)?.is_break() {
                    break;
                }
                // where all batches are made nobody takes it back
                used.send(batch).ok();
            }
            Ok(())
        })
    }

    /// Makes the batch of these images.
    fn fill(&self, epoch: &Stream, images: &[usize], pooled: bool, batch: &mut Batch) -> Result<()> {
        let shape = self.cache.samples.shape();
        let [height, width] = self.size;
        let values = shape[0] * height * width;
        let source = || vec![0.0f32; shape.iter().product()];
        let prepare = |source: &mut Vec<f32>, (pixels, &image): (&mut [f32], &usize)| {
            let label = self.cache.read(image, source)?;
            let mut stream = epoch.fork(image as u64);
            self.augment.apply(&mut stream, source, shape, pixels, self.size);
            self.normalisation.apply(pixels);
            self.augment.cut_out(&mut stream, pixels, [shape[0], height, width]);
            Ok(label)
        };
        batch.pixels.resize(images.len() * values, 0.0);
        let labels: Vec<Result<usize>> = if pooled {
            batch.pixels.par_chunks_exact_mut(values).zip(images).map_init(source, prepare).collect()
        } else {
            let mut source = source();
            let pairs = batch.pixels.chunks_exact_mut(values).zip(images);
            pairs.map(|pair| prepare(&mut source, pair)).collect()
        };
        // of several errors always the first
        batch.labels.clear();
        for label in labels {
            batch.labels.push(label?);
        }
        Ok(())
    }
}
