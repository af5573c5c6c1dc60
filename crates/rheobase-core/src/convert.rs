//! From a trained ANN to a network that can spike.
//! In: a network, and images where it has no thresholds of its own. Out: the same network with thresholds, pools replaced where
//! that was asked for; every change is noted in the network.

use crate::ann::Dense;
use crate::error::{Error, Kind, Result};
use crate::network::{ActivationKind, Network, NodeId, Op, PoolKind, Threshold};
use crate::prepared::Prepared;
use crate::progress::Progress;
use rayon::prelude::*;
use std::fmt;
use std::str::FromStr;

/// How a firing threshold is taken from the activations over calibration images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ThresholdRule {
    /// The largest.
    Max,
    /// This percentile (0 to 100) of all of them, zeros included (Rueckauer et al., 2017).
    Percentile(f64),
    /// The one of 39 from 5 % to 100 % of the largest whose rounding to `levels` steps has the least squared error.
    Mse,
}

impl FromStr for ThresholdRule {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let percentile =
            |p: &str| p.parse().ok().filter(|p| *p > 0.0 && *p <= 100.0).map(ThresholdRule::Percentile);
        match text {
            "max" => Some(ThresholdRule::Max),
            "mse" => Some(ThresholdRule::Mse),
            _ => text.strip_prefix("percentile:").and_then(percentile),
        }
        .ok_or_else(|| {
            Error::new(Kind::Usage, format!("unknown threshold rule: `{text}`"))
                .hint("known: max, percentile:P with P above 0 and up to 100, mse")
        })
    }
}

impl fmt::Display for ThresholdRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ThresholdRule::Max => f.write_str("max"),
            ThresholdRule::Percentile(p) => write!(f, "percentile:{p}"),
            ThresholdRule::Mse => f.write_str("mse"),
        }
    }
}

/// How to choose thresholds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThresholdOptions {
    /// The rule.
    pub rule: ThresholdRule,
    /// One threshold per channel instead of one per layer.
    pub per_channel: bool,
    /// Steps above zero that `mse` rounds to: T of the run to come, or ρ.
    pub levels: u32,
}

/// Whether some activation still needs a threshold.
pub fn needs_thresholds(network: &Network) -> bool {
    network.nodes.iter().any(|n| matches!(&n.op, Op::Activation(a) if a.threshold.is_none()))
}

/// Replaces every max-pool by an average pool of the same windows, notes it, and returns how many there were.
pub fn average_pools(network: &mut Network) -> usize {
    let mut replaced = vec![];
    for node in &mut network.nodes {
        if let Op::Pool(p) = &mut node.op
            && p.kind == PoolKind::Max
        {
            p.kind = PoolKind::Average { count_padding: false };
            replaced.push(node.name.clone());
        }
    }
    if !replaced.is_empty() {
        network.notes.push(format!("max-pooling replaced by average pooling: {}", replaced.join(", ")));
    }
    replaced.len()
}

/// Bins of an activation's histogram.
const BINS: usize = 4096;
/// The same per channel.
const CHANNEL_BINS: usize = 1024;

/// Activations of one node over the images: per layer (one entry) or per channel.
#[derive(Clone)]
struct Seen {
    node: NodeId,
    largest: Vec<f32>,
    bins: Vec<Vec<u32>>,
}

/// Gives every activation that has no threshold one, from its activations over `images`.
pub fn thresholds(
    network: &Network,
    images: &Prepared<'_>,
    options: &ThresholdOptions,
    progress: &dyn Progress,
) -> Result<Network> {
    let dense = Dense::new(network)?;
    let mut seen: Vec<Seen> = network
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, n)| matches!(&n.op, Op::Activation(a) if a.threshold.is_none()))
        .map(|(node, _)| {
            let groups = if options.per_channel { dense.shapes()[node][0] } else { 1 };
            Seen { node, largest: vec![0.0; groups], bins: vec![vec![]; groups] }
        })
        .collect();
    if seen.is_empty() {
        return Ok(network.clone());
    }
    let total = images.len() * if options.rule == ThresholdRule::Max { 1 } else { 2 };
    pass(&dense, images, &mut seen, progress, 0, total, |seen, values| {
        for position in values.chunks_exact(seen.largest.len()) {
            seen.largest.iter_mut().zip(position).for_each(|(l, &v)| *l = l.max(v));
        }
    })?;
    if options.rule != ThresholdRule::Max {
        let bins = if options.per_channel { CHANNEL_BINS } else { BINS };
        for s in &mut seen {
            s.bins.iter_mut().for_each(|b| b.resize(bins, 0));
        }
        pass(&dense, images, &mut seen, progress, images.len(), total, |seen, values| {
            let scales: Vec<f32> =
                seen.largest.iter().map(|l| if *l > 0.0 { bins as f32 / l } else { 0.0 }).collect();
            for position in values.chunks_exact(scales.len()) {
                for ((bin, scale), value) in seen.bins.iter_mut().zip(&scales).zip(position) {
                    let bin = &mut bin[((value * scale) as usize).min(bins - 1)];
                    *bin = bin.saturating_add(1);
                }
            }
        })?;
    }
    let mut out = network.clone();
    for s in &seen {
        let chosen: Vec<f32> =
            (0..s.largest.len()).map(|c| choose(s.largest[c], &s.bins[c], options)).collect();
        if let Op::Activation(a) = &mut out.nodes[s.node].op {
            let cap = match a.kind {
                ActivationKind::Clip { ceiling } => ceiling,
                ActivationKind::Relu | ActivationKind::Qcfs { .. } => f32::INFINITY,
            };
            let mut chosen: Vec<f32> = chosen.into_iter().map(|t| t.min(cap)).collect();
            a.threshold = Some(if options.per_channel {
                Threshold::Channel(chosen)
            } else {
                Threshold::Layer(chosen.remove(0))
            });
        }
    }
    out.notes.push(format!(
        "firing thresholds ({}) by {}{} over {} images",
        seen.len(),
        options.rule,
        if options.per_channel { " per channel" } else { "" },
        images.len()
    ));
    Ok(out)
}

/// One pass over the images; threads see different images, and what they saw is merged (maxima and sums, so in any order).
fn pass(
    dense: &Dense<'_>,
    images: &Prepared<'_>,
    seen: &mut [Seen],
    progress: &dyn Progress,
    done: usize,
    total: usize,
    note: impl Fn(&mut Seen, &[f32]) + Sync,
) -> Result<()> {
    let size: usize = dense.shapes()[0].iter().product();
    let threads = rayon::current_num_threads();
    let batch = (8 * threads).max(32);
    let (mut pixels, mut labels) = (vec![], vec![]);
    progress.tick("calibration", done, total);
    for first in (0..images.len()).step_by(batch) {
        let range = first..(first + batch).min(images.len());
        images.batch(range.clone(), &mut pixels, &mut labels)?;
        let share = range.len().div_ceil(threads) * size;
        let parts: Vec<Vec<Seen>> = pixels
            .par_chunks(share)
            .map(|part| {
                let mut mine: Vec<Seen> = seen.to_vec();
                mine.iter_mut().for_each(|s| s.bins.iter_mut().for_each(|b| b.fill(0)));
                for image in part.chunks_exact(size) {
                    dense.forward_observed(image, &mut |node, _, values| {
                        let Some(s) = mine.iter_mut().find(|s| s.node == node) else { return };
                        note(s, values);
                    });
                }
                mine
            })
            .collect();
        for part in parts {
            for (all, mine) in seen.iter_mut().zip(part) {
                all.largest.iter_mut().zip(mine.largest).for_each(|(a, m)| *a = a.max(m));
                for (all, mine) in all.bins.iter_mut().zip(mine.bins) {
                    all.iter_mut().zip(mine).for_each(|(a, m)| *a = a.saturating_add(m));
                }
            }
        }
        progress.tick("calibration", done + range.end, total);
        if progress.cancelled() {
            return Err(Error::new(Kind::Cancelled, "stopped"));
        }
    }
    Ok(())
}

fn choose(largest: f32, bins: &[u32], options: &ThresholdOptions) -> f32 {
    if largest <= 0.0 {
        return 1.0; // never active: any threshold will do
    }
    let width = f64::from(largest) / bins.len().max(1) as f64;
    let total: u64 = bins.iter().map(|&b| u64::from(b)).sum();
    let chosen = match options.rule {
        ThresholdRule::Max => f64::from(largest),
        ThresholdRule::Percentile(p) => {
            let wanted = (p / 100.0 * total as f64).ceil() as u64;
            let mut below = 0u64;
            let bin = bins.iter().position(|&b| {
                below += u64::from(b);
                below >= wanted
            });
            width * (bin.unwrap_or(bins.len() - 1) + 1) as f64
        }
        ThresholdRule::Mse => {
            let levels = f64::from(options.levels.max(1));
            least_error(bins, width, f64::from(largest), levels)
        }
    };
    chosen as f32
}

/// Of 39 candidates from 5 % to 100 % of the largest the one whose rounding to `levels` steps has the least squared error over a
/// histogram of activations, its bins `width` wide from zero on.
pub fn least_error(bins: &[u32], width: f64, largest: f64, levels: f64) -> f64 {
    let error = |theta: f64| -> f64 {
        let bins = bins.iter().enumerate().filter(|(i, b)| *i > 0 && **b > 0); // the first bin is mostly zeros
        bins.map(|(i, &n)| {
            let a = (i as f64 + 0.5) * width;
            let rounded = (a * levels / theta).round().min(levels) * theta / levels;
            f64::from(n) * (a - rounded).powi(2)
        })
        .sum()
    };
    let candidates = (0..39).map(|i| largest * (0.05 + 0.025 * f64::from(i)));
    candidates.map(|t| (error(t), t)).fold((f64::INFINITY, largest), |a, b| if b.0 < a.0 { b } else { a }).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(rule: ThresholdRule) -> ThresholdOptions {
        ThresholdOptions { rule, per_channel: false, levels: 4 }
    }

    #[test]
    fn thresholds_of_a_known_histogram() {
        // 1,000 bins of width 0.01, one activation each: uniform on [0, 10]
        let bins = vec![1u32; 1000];
        assert_eq!(choose(10.0, &bins, &options(ThresholdRule::Max)), 10.0);
        assert!((choose(10.0, &bins, &options(ThresholdRule::Percentile(99.0))) - 9.9).abs() < 1e-6);
        // Uniform activations: rounding to a full grid with half a cell of clipping, L + 1/2 cells: θ = 10·4/4.5
        assert!((choose(10.0, &bins, &options(ThresholdRule::Mse)) - 8.9).abs() < 0.3);
        assert_eq!(choose(0.0, &bins, &options(ThresholdRule::Mse)), 1.0);
    }

    #[test]
    fn rules_are_read_and_written() {
        for text in ["max", "mse", "percentile:99.9"] {
            assert_eq!(text.parse::<ThresholdRule>().unwrap().to_string(), text);
        }
        for text in ["", "percentile", "percentile:0", "percentile:101", "percentile:x"] {
            assert!(text.parse::<ThresholdRule>().unwrap_err().to_string().contains("known: max"), "{text}");
        }
    }
}
