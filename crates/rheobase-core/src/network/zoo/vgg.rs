//! VGG-16 as in the paper: BatchNorm, average pools, a classifier with two hidden layers of 4,096.
//! In: a builder and the number of classes. Out: the network, named as in the authors' code.

use super::builder::{Builder, names};

/// Output channels of every convolution, a list per stage; a pool ends each stage.
const STAGES: [&[usize]; 5] = [&[64, 64], &[128, 128], &[256, 256, 256], &[512, 512, 512], &[512, 512, 512]];

/// 13 convolutions, then 512-4096-4096-classes for 32x32 images and 25088-4096-4096-classes for 224x224.
pub(super) fn vgg16(b: &mut Builder, classes: usize) {
    b.note("pools are averages, as in the paper: a state dict does not say how its network pooled");
    for (stage, widths) in STAGES.iter().enumerate() {
        let layer = format!("layer{}", stage + 1);
        // Each convolution takes four places of the authors' Sequential: conv, norm, activation, dropout.
        let module = |place: usize| names(&[&format!("{layer}.{place}")]);
        for (i, &width) in widths.iter().enumerate() {
            let from = b.last();
            b.conv(&module(4 * i), from, width, 3, 1, true);
            b.norm(&module(4 * i + 1));
            b.act(&module(4 * i + 2));
        }
        b.average(&module(4 * widths.len())[0]);
    }
    b.flatten("classifier.0");
    b.linear(&names(&["classifier.1"]), 4096);
    b.act(&names(&["classifier.2"]));
    b.linear(&names(&["classifier.4"]), 4096);
    b.act(&names(&["classifier.5"]));
    b.linear(&names(&["classifier.7"]), classes);
}
