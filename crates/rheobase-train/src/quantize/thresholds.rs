//! Thresholds by least squared error, and the offsets that make means agree.
//! In: pre-activations over all images. Out: one threshold or offset per channel.

use super::lockstep::{Positions, Values};
use rayon::prelude::*;
use rheobase_core::convert::least_error;
use rheobase_core::network::ActivationKind;

/// Bins of a channel's histogram.
const BINS: usize = 1024;
/// Parts of the images that are counted side by side.
const PARTS: usize = 8;
/// Channels that are looked at together.
const GROUP: usize = 16;

/// What the activation makes of a pre-activation.
fn activated(kind: ActivationKind, z: f32) -> f32 {
    match kind {
        ActivationKind::Clip { ceiling } => z.clamp(0.0, ceiling),
        ActivationKind::Relu | ActivationKind::Qcfs { .. } => z.max(0.0),
    }
}

/// The threshold of each channel, or of all of them, whose rounding to `levels` steps has the least squared error against the
/// activation itself. A channel that is never active takes the layer's largest.
pub fn choose(z: &Values, channels: usize, kind: ActivationKind, levels: u32, per_layer: bool) -> Vec<f32> {
    let groups = if per_layer { 1 } else { channels };
    let share = z.len().div_ceil(PARTS).max(1);
    let largest = |images: &[Vec<f32>]| {
        let mut largest = vec![0.0f32; groups];
        for position in images.iter().flat_map(|image| image.chunks_exact(groups)) {
            largest.iter_mut().zip(position).for_each(|(l, &z)| *l = l.max(activated(kind, z)));
        }
        largest
    };
    let parts: Vec<Vec<f32>> = z.par_chunks(share).map(largest).collect();
    let largest = (0..groups).map(|g| parts.iter().map(|p| p[g]).fold(0.0, f32::max)).collect::<Vec<_>>();
    let scales: Vec<f32> = largest.iter().map(|l| if *l > 0.0 { BINS as f32 / l } else { 0.0 }).collect();
    let count = |images: &[Vec<f32>]| {
        let mut bins = vec![0u32; groups * BINS];
        for position in images.iter().flat_map(|image| image.chunks_exact(groups)) {
            for ((&z, scale), bins) in position.iter().zip(&scales).zip(bins.chunks_exact_mut(BINS)) {
                let bin = &mut bins[((activated(kind, z) * scale) as usize).min(BINS - 1)];
                *bin = bin.saturating_add(1);
            }
        }
        bins
    };
    let mut parts: Vec<Vec<u32>> = z.par_chunks(share).map(count).collect();
    let mut bins = parts.pop().unwrap_or_default();
    for part in parts {
        bins.iter_mut().zip(part).for_each(|(b, p)| *b = b.saturating_add(p));
    }
    let error_of = |(bins, &largest): (&[u32], &f32)| {
        let largest = f64::from(largest);
        least_error(bins, largest / BINS as f64, largest, f64::from(levels)) as f32
    };
    let mut chosen: Vec<f32> = bins.par_chunks(BINS).zip(&largest).map(error_of).collect();
    let top = chosen.iter().copied().fold(0.0, f32::max);
    let silent = if top > 0.0 { top } else { 1.0 };
    chosen.iter_mut().filter(|t| **t <= 0.0).for_each(|t| *t = silent);
    chosen
}

/// What to add to each channel of `z` so that its rounded activations have the mean of `kind`'s on `wanted`, up to half a
/// threshold either way; found by bisection.
pub fn offsets(
    z: &Values,
    wanted: &Values,
    kind: ActivationKind,
    thresholds: &[f32],
    levels: u32,
    positions: &Positions,
) -> Vec<f32> {
    let channels = thresholds.len();
    let places: Vec<(usize, usize)> =
        (0..z.len()).flat_map(|i| positions.of(i).map(move |p| (i, p * channels))).collect();
    let levels = levels as f32;
    let offset = |theta: f32, z: &[f32], goal: f64| {
        let mean = |offset: f32| {
            let count = |z: &f32| f64::from(((z + offset) / theta * levels + 0.5).floor().clamp(0.0, levels));
            z.iter().map(count).sum::<f64>() * f64::from(theta / levels)
        };
        let (mut low, mut high) = (-theta / 2.0, theta / 2.0);
        for _ in 0..16 {
            let middle = (low + high) / 2.0;
            if mean(middle) < goal { low = middle } else { high = middle }
        }
        (low + high) / 2.0
    };
    let group = |first: usize| -> Vec<f32> {
        let last = (first + GROUP).min(channels);
        let mut columns = vec![Vec::with_capacity(places.len()); last - first];
        let mut goals = vec![0.0; last - first];
        for &(image, at) in &places {
            let (z, wanted) = (&z[image][at..at + channels], &wanted[image][at..at + channels]);
            for (c, (column, goal)) in (first..last).zip(columns.iter_mut().zip(&mut goals)) {
                column.push(z[c]);
                *goal += f64::from(activated(kind, wanted[c]));
            }
        }
        let each = (first..last).zip(columns.iter().zip(goals));
        each.map(|(c, (z, goal))| if goal > 0.0 { offset(thresholds[c], z, goal) } else { 0.0 }).collect()
    };
    (0..channels).into_par_iter().step_by(GROUP).flat_map_iter(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rheobase_core::random::Stream;

    fn noise(images: usize, numbers: usize) -> Values {
        let mut random = Stream::new(3, 0);
        let mut one = || (random.uniform() + random.uniform() + random.uniform() - 1.0) as f32;
        (0..images).map(|_| (0..numbers).map(|_| one()).collect()).collect()
    }

    /// Σ over all numbers of channel `c` of the squared difference that rounding makes.
    fn error(z: &Values, channels: usize, c: usize, theta: f32, levels: f32) -> f64 {
        let numbers = z.iter().flat_map(|i| i.iter().skip(c).step_by(channels));
        let rounded = |a: f32| (a / theta * levels + 0.5).floor().clamp(0.0, levels) * theta / levels;
        numbers.map(|z| f64::from(z.max(0.0) - rounded(z.max(0.0))).powi(2)).sum()
    }

    #[test]
    fn thresholds_are_those_of_a_search_by_hand() {
        let z = noise(20, 300);
        for levels in [1, 2, 4, 8] {
            let chosen = choose(&z, 3, ActivationKind::Relu, levels, false);
            for (c, theta) in chosen.iter().enumerate() {
                let largest =
                    z.iter().flat_map(|i| i.iter().skip(c).step_by(3)).fold(0.0f32, |a, &b| a.max(b));
                let candidates = (0..39).map(|i| largest * (0.05 + 0.025 * i as f32));
                let best =
                    candidates.map(|t| error(&z, 3, c, t, levels as f32)).fold(f64::INFINITY, f64::min);
                let got = error(&z, 3, c, *theta, levels as f32);
                assert!(got <= best * 1.002, "L = {levels}, channel {c}: {got} {best}");
            }
        }
    }

    #[test]
    fn thresholds_keep_to_clips_and_silent_channels_to_their_layer() {
        let z: Values = vec![vec![-1.0, 9.0, -3.0, 5.0, -0.5, 7.0]];
        let chosen = choose(&z, 2, ActivationKind::Clip { ceiling: 6.0 }, 4, false);
        assert_eq!(chosen[0], chosen[1]);
        assert!(chosen[1] <= 6.0);
        assert_eq!(choose(&z, 2, ActivationKind::Relu, 4, true).len(), 1);
        assert_eq!(choose(&vec![vec![-1.0; 4]], 2, ActivationKind::Relu, 4, false), [1.0, 1.0]);
    }

    #[test]
    fn offsets_make_the_means_agree() {
        let wanted = noise(40, 500);
        let z: Values = wanted.iter().map(|i| i.iter().map(|z| 0.9 * z - 0.1).collect()).collect();
        let (thresholds, levels) = (choose(&wanted, 2, ActivationKind::Relu, 4, false), 4.0f32);
        let positions = Positions::new(Stream::new(0, 0), usize::MAX, 40, 250);
        let offsets = offsets(&z, &wanted, ActivationKind::Relu, &thresholds, 4, &positions);
        for c in 0..2 {
            let column = |v: &Values| -> Vec<f32> {
                v.iter().flat_map(|i| i.iter().skip(c).step_by(2).copied()).collect()
            };
            let theta = thresholds[c];
            let rounded = |z: f32| {
                ((z + offsets[c]) / theta * levels + 0.5).floor().clamp(0.0, levels) * theta / levels
            };
            let mean: f32 = column(&z).iter().map(|&z| rounded(z)).sum::<f32>() / 10_000.0;
            let goal: f32 = column(&wanted).iter().map(|z| z.max(0.0)).sum::<f32>() / 10_000.0;
            assert!((mean - goal).abs() < 1e-3 * theta, "{c}: {mean} {goal}");
        }
    }
}
