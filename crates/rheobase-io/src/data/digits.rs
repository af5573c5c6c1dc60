//! The handwritten digits that are built into the program.
//! In: nothing. Out: 1,437 training and 360 test images of 8x8 pixels. Origin and licence: `digits/SOURCE.md`.

use std::borrow::Cow;
use std::path::Path;

use rheobase_core::Result;
use rheobase_core::samples::{Normalisation, Samples};

use super::packed::{Packed, names};
use super::{Options, Split};

/// Records of a label and 64 pixels from 0 to 16.
static RECORDS: &[u8] = include_bytes!("digits/digits.bin");
const RECORD: usize = 65;
/// The first so many are for training, the rest for testing.
const TRAIN: usize = 1437;
/// Mean and standard deviation of the training part's pixels.
const MEAN: f32 = 0.305_386_1;
const STD: f32 = 0.375_507_1;

/// The names of ten digits, which MNIST shares.
pub(super) const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// Opens the embedded digits.
pub(super) fn open(_: &Path, options: &Options) -> Result<Box<dyn Samples>> {
    let (train, test) = RECORDS.split_at(TRAIN * RECORD);
    let records = match options.split {
        Split::Train => train,
        Split::Test => test,
    };
    let set = Packed {
        name: format!("digits ({})", options.split),
        shape: [1, 8, 8],
        classes: names(&DIGITS),
        normalisation: Normalisation::new(vec![MEAN], vec![STD])?,
        labels: records.chunks_exact(RECORD).map(|r| r[0]).collect(),
        bytes: Cow::Borrowed(records),
        start: 1,
        stride: RECORD,
        white: 16,
    };
    Ok(Box::new(set.checked()?))
}
