//! From a ReLU network to a QCFS network without labels: thresholds, weights and biases from what both make of the same images.
//! In: a folded network, images. Out: the network with QCFS of L levels for every ReLU and clip, changes noted.

mod cholesky;
mod fit;
mod least_squares;
mod lockstep;
mod thresholds;

use lockstep::Order;
use rheobase_core::convert::average_pools;
use rheobase_core::network::shape;
use rheobase_core::network::spec::no_max_pools;
use rheobase_core::network::{ActivationKind, Network, Op};
use rheobase_core::prepared::Prepared;
use rheobase_core::progress::Progress;
use rheobase_core::{Error, Kind, Result};
use std::fmt;
use std::str::FromStr;

/// Bytes that values of both networks may take: 2.5 GiB.
pub const MEMORY: usize = 5 << 29;

/// How a ReLU network becomes a QCFS network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Thresholds of least squared error, biases so that every activation keeps its mean.
    Mse,
    /// The same thresholds; weights by least squares, biases so that every layer's output keeps its mean.
    #[default]
    LeastSquares,
    /// That, then all of it trained on the squared error of the logits.
    Distill,
}

impl FromStr for Method {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let all = [Method::Mse, Method::LeastSquares, Method::Distill];
        all.into_iter().find(|m| m.to_string() == text).ok_or_else(|| {
            Error::new(Kind::Usage, format!("unknown method: `{text}`"))
                .hint("known: mse, least-squares, distill")
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Mse => "mse",
            Method::LeastSquares => "least-squares",
            Method::Distill => "distill",
        })
    }
}

/// How to quantize.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// L, steps above zero.
    pub levels: u32,
    /// What is fitted.
    pub method: Method,
    /// One threshold per layer instead of one per channel.
    pub per_layer: bool,
    /// Replace max-pools by average pools; they are fitted to the network with its max-pools.
    pub average_pools: bool,
    /// Seed of the positions that are drawn.
    pub seed: u64,
}

impl Options {
    /// Refuses what cannot be done, before any image is read.
    pub fn check(&self, network: &Network) -> Result<()> {
        if !(1..=1 << 20).contains(&self.levels) {
            return Err(Error::new(Kind::Usage, "QCFS needs 1 to 2^20 levels")
                .found(self.levels.to_string())
                .hint("`--levels`"));
        }
        if !network.nodes.iter().any(|n| replaceable(&n.op)) {
            return Err(Error::new(Kind::Usage, "nothing to quantize: the network has no ReLU or clip")
                .hint("a QCFS network spikes as it is: `rheobase eval`"));
        }
        match (no_max_pools(network), self.average_pools) {
            (Ok(()), true) => Err(Error::new(Kind::Usage, "the network has no max-pooling to replace")
                .hint("leave out `--maxpool`")),
            (Err(e), false) => Err(e),
            _ => Ok(()),
        }
    }
}

/// The most images that can be looked at: values of both networks for all of them are held at once.
pub fn most_images(network: &Network) -> Result<usize> {
    let shapes = shape::infer(network)?;
    let numbers = Order::new(network).peak(network, &shapes);
    Ok((MEMORY / (2 * 4 * numbers.max(1))).max(1))
}

/// Replaces the activations of a folded network.
pub fn quantize(
    network: &Network,
    images: &Prepared<'_>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Network> {
    options.check(network)?;
    let mut converted = network.clone();
    if options.average_pools {
        average_pools(&mut converted);
    }
    let kept = fit::fit(network, &mut converted, images, options, progress)?;
    let replaced = network.nodes.iter().filter(|n| replaceable(&n.op)).count();
    converted.notes.push(format!(
        "activations replaced by QCFS ({replaced}): L = {}, thresholds per {}, {} over {} images",
        options.levels,
        if options.per_layer { "layer" } else { "channel" },
        match options.method {
            Method::Mse => "mse and biases",
            Method::LeastSquares | Method::Distill => "weights and biases by least squares",
        },
        images.len()
    ));
    if !kept.is_empty() {
        let kept = kept.join(", ");
        converted.notes.push(format!("weights kept, their inputs being too many for so few images: {kept}"));
    }
    converted.check()?;
    Ok(converted)
}

/// Whether QCFS takes its place.
fn replaceable(op: &Op) -> bool {
    matches!(op, Op::Activation(a) if matches!(a.kind, ActivationKind::Relu | ActivationKind::Clip { .. }))
}

#[cfg(test)]
mod tests;
