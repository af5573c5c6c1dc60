//! The AutoAugment policy for CIFAR-10 (Cubuk et al., CVPR 2019, appendix): one of 25 pairs of operations per image.
//! In: an image, a random stream. Out: the image with none, one or both operations done.

use rheobase_core::random::Stream;

use super::ops::Op::{self, *};
use super::picture::Picture;

/// An operation, how often it is done, how strongly. The levels of operations that have none are left out (0).
pub(super) type Step = (Op, f64, usize);

/// Pairs of operations.
pub(super) const CIFAR10: [[Step; 2]; 25] = [
    [(Invert, 0.1, 0), (Contrast, 0.2, 6)],
    [(Rotate, 0.7, 2), (TranslateX, 0.3, 9)],
    [(Sharpness, 0.8, 1), (Sharpness, 0.9, 3)],
    [(ShearY, 0.5, 8), (TranslateY, 0.7, 9)],
    [(AutoContrast, 0.5, 0), (Equalize, 0.9, 0)],
    [(ShearY, 0.2, 7), (Posterize, 0.3, 7)],
    [(Color, 0.4, 3), (Brightness, 0.6, 7)],
    [(Sharpness, 0.3, 9), (Brightness, 0.7, 9)],
    [(Equalize, 0.6, 0), (Equalize, 0.5, 0)],
    [(Contrast, 0.6, 7), (Sharpness, 0.6, 5)],
    [(Color, 0.7, 7), (TranslateX, 0.5, 8)],
    [(Equalize, 0.3, 0), (AutoContrast, 0.4, 0)],
    [(TranslateY, 0.4, 3), (Sharpness, 0.2, 6)],
    [(Brightness, 0.9, 6), (Color, 0.2, 8)],
    [(Solarize, 0.5, 2), (Invert, 0.0, 0)],
    [(Equalize, 0.2, 0), (AutoContrast, 0.6, 0)],
    // widely used code has 0.8 here; the paper 0.6
    [(Equalize, 0.2, 0), (Equalize, 0.6, 0)],
    [(Color, 0.9, 9), (Equalize, 0.6, 0)],
    [(AutoContrast, 0.8, 0), (Solarize, 0.2, 8)],
    [(Brightness, 0.1, 3), (Color, 0.7, 0)],
    [(Solarize, 0.4, 5), (AutoContrast, 0.9, 0)],
    [(TranslateY, 0.9, 9), (TranslateY, 0.7, 9)],
    [(AutoContrast, 0.9, 0), (Solarize, 0.8, 3)],
    [(Equalize, 0.8, 0), (Invert, 0.1, 0)],
    [(TranslateY, 0.7, 9), (AutoContrast, 0.9, 0)],
];

/// Does one pair, drawn at random, on pixels in [0, 1]; they stay as they are where neither operation is done.
pub(super) fn apply(stream: &mut Stream, pixels: &mut [f32], shape: [usize; 3]) {
    let pair = CIFAR10[stream.below(CIFAR10.len())];
    let mut picture: Option<Picture> = None;
    for (op, probability, level) in pair {
        if stream.uniform() < probability {
            let sign = if op.signed() && stream.below(2) == 1 { -1.0 } else { 1.0 };
            op.perform(picture.get_or_insert_with(|| Picture::quantised(pixels, shape)), level, sign);
        }
    }
    if let Some(picture) = picture {
        picture.write(pixels);
    }
}
