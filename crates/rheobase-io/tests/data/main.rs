//! The data sets: small files of the real formats, made here, and every refusal.
#![allow(missing_docs, clippy::unwrap_used)]

mod cifar;
#[cfg(feature = "images")]
mod folder;
mod idx;
mod table;

use std::io::Write;
use std::path::Path;

use rheobase_core::samples::Samples;
use rheobase_core::{Error, Kind};
use rheobase_io::data::{Options, Split, open};

fn open_split(kind: &str, path: &Path, split: Split) -> Result<Box<dyn Samples>, Error> {
    open(&format!("{kind}:{}", path.display()), &Options { split, ..Options::default() })
}

/// The error has this kind, and its line holds all of `parts`.
fn refused(result: Result<Box<dyn Samples>, Error>, kind: Kind, parts: &[&str]) {
    let error = result.err().expect("must be refused");
    let line = error.to_string();
    assert_eq!(error.kind(), kind, "{line}");
    for part in parts {
        assert!(line.contains(part), "`{part}` is not in `{line}`");
    }
    assert!(!line.contains('\n'));
}

fn image(samples: &dyn Samples, index: usize) -> (Vec<f32>, usize) {
    let mut pixels = vec![f32::NAN; samples.shape().iter().product()];
    let label = samples.read(index, &mut pixels).unwrap();
    assert!(pixels.iter().all(|p| (0.0..=1.0).contains(p)));
    (pixels, label)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
