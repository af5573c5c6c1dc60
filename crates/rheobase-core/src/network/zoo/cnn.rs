//! A small network for small images: digits, tests, the quickstart.
//! In: a builder and the number of classes. Out: the network, 24,000 parameters.

use super::builder::{Builder, names};

/// Three 3x3 convolutions of 16, 32 and 64 channels, a 2x2 average pool before the last, the global average, one
/// linear layer.
pub(super) fn cnn(b: &mut Builder, classes: usize) {
    for (i, width) in [16, 32, 64].into_iter().enumerate() {
        if i == 2 {
            b.average("pool");
        }
        let from = b.last();
        let module = |kind: &str| names(&[&format!("{kind}{}", i + 1)]);
        b.conv(&module("conv"), from, width, 3, 1, false);
        b.norm(&module("bn"));
        b.act(&module("act"));
    }
    b.global_average("average");
    b.linear(&names(&["fc"]), classes);
}
