//! A small network for small images: digits, tests, the quickstart.
//! In: a builder and the number of classes. Out: the network, 52,000 parameters for ten classes.

use super::builder::{Builder, names};

/// Three stages of two 3x3 convolutions with 16, 32 and 48 channels, a 2x2 average pool between stages, the global
/// average, one linear layer.
pub(super) fn cnn(b: &mut Builder, classes: usize) {
    let mut number = 0;
    for (stage, width) in [16, 32, 48].into_iter().enumerate() {
        if stage > 0 {
            b.average(&format!("pool{stage}"));
        }
        for _ in 0..2 {
            number += 1;
            let module = |kind: &str| names(&[&format!("{kind}{number}")]);
            let from = b.last();
            b.conv(&module("conv"), from, width, 3, 1, false);
            b.norm(&module("bn"));
            b.act(&module("act"));
        }
    }
    b.global_average("average");
    b.linear(&names(&["fc"]), classes);
}
