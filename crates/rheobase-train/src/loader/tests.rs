//! What must hold for the batches of every data set.
//! In: a data set of a formula, with images that cannot be read where asked for. Out: order, sameness, errors.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rheobase_io::data;

use super::*;

/// Image i has i in its first channel (in 255ths) and noise in the second.
struct Fake {
    classes: Vec<String>,
    len: usize,
    broken: Vec<usize>,
    white: f32,
    reads: AtomicUsize,
}

impl Fake {
    fn new(len: usize) -> Self {
        let classes = (0..7).map(|c| c.to_string()).collect();
        Fake { classes, len, broken: vec![], white: 255.0, reads: AtomicUsize::new(0) }
    }

    fn loader(&self, augment: &str, batch: usize, seed: u64) -> Loader<'_> {
        let normalisation = Normalisation::identity(2);
        Loader::new(self, normalisation, augment.parse().unwrap(), [6, 5], batch, seed).unwrap()
    }
}

impl Samples for Fake {
    fn name(&self) -> String {
        "fake".into()
    }
    fn len(&self) -> usize {
        self.len
    }
    fn shape(&self) -> [usize; 3] {
        [2, 6, 5]
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn normalisation(&self) -> Normalisation {
        Normalisation::identity(2)
    }
    fn read(&self, index: usize, pixels: &mut [f32]) -> Result<usize> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.broken.contains(&index) {
            return Err(Error::new(Kind::Format, "image cannot be decoded").file(format!("{index}.png")));
        }
        let mut noise = Stream::new(9, index as u64);
        for pixel in pixels.chunks_exact_mut(2) {
            pixel[0] = index as f32 / 255.0;
            pixel[1] = noise.below(self.white as usize + 1) as f32 / self.white;
        }
        Ok(index % 7)
    }
}

/// The batches of an epoch from `start` on.
fn epoch(loader: &Loader<'_>, epoch: usize, start: usize) -> Vec<Batch> {
    let mut batches = Vec::new();
    loader
        .run(epoch, start, |batch| {
            batches.push(batch.clone());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    batches
}

#[test]
fn an_epoch_shows_every_image_once_in_an_order_of_its_own() {
    let fake = Fake::new(100);
    let loader = fake.loader("none", 16, 1);
    let shown: Vec<Vec<usize>> = (0..2)
        .map(|e| {
            let batches = epoch(&loader, e, 0);
            assert_eq!(batches.len(), loader.batches());
            assert_eq!(
                batches.iter().map(|b| b.labels.len()).collect::<Vec<_>>(),
                [16, 16, 16, 16, 16, 16, 4]
            );
            assert!(batches.iter().enumerate().all(|(i, b)| b.index == i));
            let ids = batches.iter().flat_map(|b| b.pixels.chunks_exact(60).zip(&b.labels));
            ids.map(|(pixels, label)| {
                let id = (pixels[0] * 255.0).round() as usize;
                assert_eq!(id % 7, *label);
                id
            })
            .collect()
        })
        .collect();
    assert_eq!(shown[0], loader.order(0));
    assert_ne!(shown[0], shown[1]);
    for mut ids in shown {
        ids.sort_unstable();
        assert_eq!(ids, (0..100).collect::<Vec<_>>());
    }
}

#[test]
fn a_batch_of_one_is_left_out() {
    let fake = Fake::new(33);
    assert_eq!(fake.loader("none", 16, 1).images(), 32);
    assert_eq!(epoch(&fake.loader("none", 16, 1), 0, 0).len(), 2);
    assert_eq!(epoch(&fake.loader("none", 1, 1), 0, 0).len(), 33);
    let limited = fake.loader("none", 16, 1).limited(4).unwrap();
    let mut order = limited.order(3);
    order.sort_unstable();
    assert_eq!(order, [0, 8, 16, 24]);
    assert!(fake.loader("none", 16, 1).limited(1).is_err());
}

#[test]
fn batches_depend_on_seed_and_epoch_only() {
    let mut fake = Fake::new(50);
    for white in [255.0, 16.0] {
        fake.white = white;
        let (a, b) = (fake.loader("standard+cutout4", 8, 1), fake.loader("standard+cutout4", 8, 1));
        let want = epoch(&a, 2, 0);
        // from the cache where the values are whole 255ths
        let reads = fake.reads.load(Ordering::Relaxed);
        assert_eq!(epoch(&a, 2, 0), want);
        let again = fake.reads.load(Ordering::Relaxed) - reads;
        assert_eq!(again, if white == 255.0 { 0 } else { 50 });
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| epoch(&b, 2, 0)), want);
        }
        // after a resume
        assert_eq!(epoch(&b, 2, 3), want[3..]);
        assert!(epoch(&b, 2, 99).is_empty());
        assert_ne!(epoch(&b, 3, 0), want);
        assert_ne!(epoch(&fake.loader("standard+cutout4", 8, 2), 2, 0), want);
    }
}

#[test]
fn sets_beyond_the_limit_are_read_again() {
    let fake = Fake::new(10);
    let mut pixels = vec![0.0; 60];
    for (limit, reads) in [(600, 1), (599, 2)] {
        fake.reads.store(0, Ordering::Relaxed);
        let cache = Cache::new(&fake, limit);
        assert_eq!(cache.read(9, &mut pixels).unwrap(), cache.read(9, &mut pixels).unwrap());
        assert_eq!(fake.reads.load(Ordering::Relaxed), reads);
    }
}

#[test]
fn normalisation_comes_before_cutout() {
    let fake = Fake::new(4);
    let normalisation = Normalisation::new(vec![2.0, 2.0], vec![1.0, 0.5]).unwrap();
    let loader = Loader::new(&fake, normalisation, "cutout2".parse().unwrap(), [6, 5], 4, 0).unwrap();
    let batch = &epoch(&loader, 0, 0)[0];
    for image in batch.pixels.chunks_exact(60) {
        let cut = image.chunks_exact(2).filter(|p| *p == [0.0, 0.0]).count();
        assert!((1..=4).contains(&cut));
        assert!(image.iter().all(|p| *p == 0.0 || *p <= -1.0));
    }
}

#[test]
fn an_unreadable_image_is_the_one_error() {
    let mut fake = Fake::new(64);
    fake.broken = vec![5, 40];
    for batch in [64, 4] {
        let loader = fake.loader("none", batch, 3);
        let first = loader.order(0).into_iter().find(|i| fake.broken.contains(i)).unwrap();
        let mut steps = 0;
        let count = |_: &Batch| {
            steps += 1;
            Ok(ControlFlow::Continue(()))
        };
        let error = loader.run(0, 0, count).unwrap_err();
        assert_eq!(error.to_string(), format!("{first}.png: image cannot be decoded"));
        assert_eq!(steps, loader.order(0).iter().position(|i| *i == first).unwrap() / batch);
    }
}

#[test]
fn stopping_early_and_failing_steps_do_not_hang() {
    let fake = Fake::new(200);
    let loader = fake.loader("standard", 2, 1);
    for stop in [0, 1, 50, 99] {
        let mut steps = 0;
        let step = |batch: &Batch| {
            steps += 1;
            Ok(if batch.index == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        loader.run(0, 0, step).unwrap();
        assert_eq!(steps, stop + 1);
    }
    let error = loader.run(0, 7, |_| Err(Error::new(Kind::Cancelled, "stopped"))).unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let fake = Fake::new(8);
    let new = |channels, augment: &str, size, batch| {
        let augment = augment.parse().unwrap();
        let made = Loader::new(&fake, Normalisation::identity(channels), augment, size, batch, 0);
        made.map(|_| ()).map_err(|e| e.to_string())
    };
    assert!(new(2, "none", [6, 5], 4).is_ok());
    assert!(new(3, "none", [6, 5], 4).unwrap_err().contains("normalisation"));
    assert!(new(2, "auto", [6, 5], 4).unwrap_err().contains("2 channels"));
    assert!(new(2, "none", [7, 5], 4).unwrap_err().contains("7x5"));
    assert!(new(2, "none", [6, 5], 0).unwrap_err().contains("no image"));
    let empty = Fake::new(0);
    let error =
        Loader::new(&empty, Normalisation::identity(2), Augment::default(), [6, 5], 4, 0).err().unwrap();
    assert!(error.to_string().contains("gives no batch"), "{error}");
}

/// Images a second: `DATA=cifar10:DIR cargo test --release -p rheobase-train throughput -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn throughput() {
    let options = data::Options { split: data::Split::Train, ..data::Options::default() };
    let samples = data::open(&std::env::var("DATA").unwrap_or("digits".into()), &options).unwrap();
    let [_, height, width] = samples.shape();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for name in ["none", "standard", "auto", "imagenet"] {
        let augment = name.parse().unwrap();
        let size = [height, width];
        let loader = Loader::new(&*samples, samples.normalisation(), augment, size, 128, 1).unwrap();
        let start = Instant::now();
        let step = |_: &Batch| Ok(ControlFlow::Continue(()));
        pool.install(|| loader.run(0, 0, step)).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        println!("{name}: {:.0} images/s on one thread", loader.images() as f64 / seconds);
    }
}
