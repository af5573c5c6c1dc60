//! Compares the dense reading of an imported network with logits that ONNX Runtime gave.
//! In: a network, images [N, C, H, W] and logits. Out: the worst error and how many predictions differ.

use rheobase_core::Network;
use rheobase_core::ann::Dense;

/// How far two sets of logits are apart.
pub struct Gap {
    /// The largest difference of an image's logits, relative to their largest magnitude, in ascending order.
    pub errors: Vec<f32>,
    /// Images whose class differs though the first two classes are further apart than rounding explains.
    pub classes: usize,
}

impl Gap {
    /// The error that this share of the images stays within.
    pub fn quantile(&self, share: f64) -> f32 {
        let last = self.errors.len().saturating_sub(1);
        self.errors.get((share * last as f64).round() as usize).copied().unwrap_or(0.0)
    }
}

/// Runs every image.
pub fn gap(network: &Network, images: &[f32], logits: &[f32]) -> Gap {
    let dense = Dense::new(network).expect("a network that was checked");
    let [c, h, w] = network.input_shape();
    let n = images.len() / (c * h * w);
    let outputs = logits.len() / n;
    let mut gap = Gap { errors: vec![], classes: 0 };
    for (image, expected) in images.chunks_exact(c * h * w).zip(logits.chunks_exact(outputs)) {
        let pixels: Vec<f32> = (0..h * w * c).map(|i| image[i % c * h * w + i / c]).collect();
        let found = dense.forward(&pixels);
        assert_eq!(found.len(), outputs);
        let scale = expected.iter().fold(0f32, |m, x| m.max(x.abs())).max(1e-6);
        let worst = found.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        gap.errors.push(worst / scale);
        let (class, other) = (largest(&found), largest(expected));
        if class != other && (expected[class] - expected[other]).abs() > 1e-4 * scale {
            gap.classes += 1;
        }
    }
    gap.errors.sort_by(f32::total_cmp);
    gap
}

fn largest(x: &[f32]) -> usize {
    x.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i)
}
