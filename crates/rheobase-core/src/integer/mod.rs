//! The network in integers: what the engine computes, the same on every machine.
//! In: a [`SpikingNetwork`]. Out: [`IntegerNetwork`], stages of integer synapses with thresholds in units of their channels.
//!
//! Every current, potential and threshold of channel c is an integer times `u_c = 2^unit[c]`, the smallest power of two with
//! `Σ|w·θ_in| + |b| <= 2^k·u_c` and `θ <= 2^k·u_c` (k = 26 at int32; [`Precision`] says what the others ask). A spike adds integer weights, so sums have no order. Where a linear map
//! reads a linear map (MobileNet's projections, DenseNet's concatenations), the running sum of the products is exact in 64
//! bits and rounded once a step to the unit, and the step's current is the difference of two rounded sums: what has arrived after T
//! steps is the rounding of the exact total, as it is when the network is read as an ANN.

mod counts;
pub mod head;
mod lower;
mod units;

pub use counts::QcfsReading;
pub use rheobase_kernels::events::Window;

use crate::error::{Error, Kind, Result};
use crate::network::shape::Shape;
use crate::network::{NodeId, SpikingNetwork};
use crate::samples::Normalisation;
use std::ops::Range;

/// How large the integers are. What reads currents (after MobileNet's projections) adds up in 32 bits at each, see [`Stage::fraction`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Precision {
    /// Currents within ±2^26.
    #[default]
    Int32,
    /// Currents of 16 bits: every sum of a neuron's weights, of whatever spikes, is within ±32,767. At the read-out the weights are.
    Int16,
    /// Weights of 8 bits, within ±127, but for those of one tap that each belong to one channel (a shortcut's is a θ); currents as wide as their sums ask.
    Int8,
}

impl Precision {
    /// Every one, most accurate first.
    pub const ALL: [Precision; 3] = [Precision::Int32, Precision::Int16, Precision::Int8];

    /// `int32`, `int16` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Int32 => "int32",
            Precision::Int16 => "int16",
            Precision::Int8 => "int8",
        }
    }
}

impl std::str::FromStr for Precision {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Precision::ALL.into_iter().find(|p| p.name() == text).ok_or_else(|| {
            Error::new(Kind::Usage, format!("unknown precision: `{text}`"))
                .hint(format!("known: {}", Precision::ALL.map(Precision::name).join(", ")))
        })
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Fraction bits of exact sums over currents, where these are rounded.
pub const FRACTION: u32 = 26;

/// A network of integer stages; portable, the same on every machine.
#[derive(Debug, Clone)]
pub struct IntegerNetwork {
    /// Bits of its currents.
    pub precision: Precision,
    /// Shape of the image.
    pub input: Shape,
    /// In order; a stage reads the image and stages before it. The last one is the read-out.
    pub stages: Vec<Stage>,
}

/// The linear part between two values that exist as numbers, and what becomes of its currents.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Name of the node that it computes.
    pub name: String,
    /// That node.
    pub node: NodeId,
    /// Channels, height, width.
    pub shape: Shape,
    /// What becomes of the currents.
    pub role: Role,
    /// Added at every step, per channel.
    pub bias: Vec<i32>,
    /// log2 of the unit, per channel.
    pub unit: Vec<i32>,
    /// The largest magnitude a current of each channel can have.
    pub bound: Vec<i64>,
    /// Where the image's part of a current saturates, per channel.
    pub limit: Vec<i32>,
    /// Fraction bits of the exact sums over currents: [`FRACTION`], or 0 where currents and weights have 16 bits and the sums fit 32.
    pub fraction: u32,
    /// Where the currents come from.
    pub terms: Vec<Term>,
}

/// What becomes of a stage's currents.
#[derive(Debug, Clone, PartialEq)]
pub enum Role {
    /// Neurons fire.
    Spiking {
        /// θ per channel.
        theta: Vec<i32>,
        /// v(0) per channel, or per neuron `[height, width, channels]`.
        start: Vec<i32>,
    },
    /// Currents are read by a later linear map.
    Linear,
    /// The running sum is the logits.
    Readout,
}

/// What a term reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The analog image.
    Image,
    /// Spikes or currents of a stage.
    Stage(usize),
}

/// One linear map from a value to a stage's currents: a convolution, dense or channel by channel. A fully connected layer is
/// a convolution whose kernel is the whole image, a shortcut a 1x1 channel-by-channel one.
#[derive(Debug, Clone)]
pub struct Term {
    /// What it reads.
    pub source: Source,
    /// Which channels of that.
    pub channels: Range<usize>,
    /// Counted over windows first (spikes into dense maps only).
    pub pool: Option<Window>,
    /// The shape the map sees: channels read, height and width after pooling.
    pub from: Shape,
    /// Kernel and steps over `from`.
    pub window: Window,
    /// Vertical, horizontal distance of taps.
    pub dilation: [usize; 2],
    /// Whether output channel c reads input channel c alone.
    pub depthwise: bool,
    /// First output channel.
    pub to: usize,
    /// Output channels.
    pub outs: usize,
    /// Output positions it reaches, where that is not all of them.
    pub only: Option<Vec<bool>>,
    /// `[tap, in, out]`, or `[tap, channel]` where depthwise.
    pub weights: Weights,
}

/// A term's numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Weights {
    /// Added for each spike.
    Spikes(Vec<i32>),
    /// Multiplied with currents; 2^[`fraction`](Stage::fraction) is one unit over one unit.
    Currents(Vec<i32>),
    /// Multiplied with pixels in f32, in order, then rounded to the unit.
    Image(Vec<f32>),
}

impl Stage {
    /// An exact sum over currents, rounded to the unit, half upwards.
    pub fn rounded(&self, exact: i128) -> i64 {
        ((exact + (1 << self.fraction >> 1)) >> self.fraction) as i64
    }
}

impl Term {
    /// Row or column of `from` that tap `t` of output `o` reads along axis 0 (vertical) or 1, if it is not padding.
    #[inline]
    pub fn source_of(&self, axis: usize, o: usize, t: usize) -> Option<usize> {
        let w = &self.window;
        (o * w.stride[axis] + t * self.dilation[axis])
            .checked_sub(w.padding[axis])
            .filter(|&i| i < self.from[1 + axis])
    }

    /// Taps of the kernel.
    pub fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// Taps at the output position `at`, in order, and the positions under them in the source, whose size is `[h, w]`; for
    /// what is not hot.
    pub(crate) fn reads(&self, at: [usize; 2], [h, w]: [usize; 2]) -> Vec<(usize, usize)> {
        let mut found = vec![];
        for tap in 0..self.taps() {
            let (ky, kx) = (tap / self.window.kernel[1], tap % self.window.kernel[1]);
            let (Some(y), Some(x)) = (self.source_of(0, at[0], ky), self.source_of(1, at[1], kx)) else {
                continue;
            };
            let Some(pool) = &self.pool else {
                found.push((tap, y * w + x));
                continue;
            };
            for (i, j) in (0..pool.kernel[0]).flat_map(|i| (0..pool.kernel[1]).map(move |j| (i, j))) {
                let (y, x) = (y * pool.stride[0] + i, x * pool.stride[1] + j);
                let (y, x) = (y.wrapping_sub(pool.padding[0]), x.wrapping_sub(pool.padding[1]));
                if y < h && x < w {
                    found.push((tap, y * w + x));
                }
            }
        }
        found
    }
}

impl IntegerNetwork {
    /// Computes units and integers. `pixels` is the normalisation of the images, whose largest pixel bounds the first
    /// layer's currents.
    ///
    /// ```
    /// # use rheobase_core::{network::*, integer::*, samples::Normalisation, Tensor};
    /// let mut n = Network::new("one neuron", [1, 1, 1]);
    /// let weight = Tensor::new([1, 1], vec![0.5])?;
    /// n.push("fc", Op::Linear(Linear { weight, bias: None }), &[0]);
    /// let threshold = Some(Threshold::Layer(1.0));
    /// n.push("if", Op::Activation(Activation { kind: ActivationKind::Relu, threshold, start: Start::Half }), &[1]);
    /// let n = IntegerNetwork::new(&SpikingNetwork::new(n)?, &Normalisation::identity(1), Precision::Int32)?;
    /// assert_eq!(n.stages[0].unit, [-26]);
    /// assert_eq!(n.stages[0].role, Role::Spiking { theta: vec![1 << 26], start: vec![1 << 25] });
    /// # Ok::<(), rheobase_core::Error>(())
    /// ```
    pub fn new(network: &SpikingNetwork, pixels: &Normalisation, precision: Precision) -> Result<Self> {
        let input = network.network().input_shape();
        if pixels.mean.len() != input[0] {
            return Err(Error::new(Kind::Shape, "normalisation does not match the image's channels")
                .expected(input[0].to_string())
                .found(pixels.mean.len().to_string()));
        }
        let drafts = lower::lower(network)?;
        let largest: Vec<f64> = (0..input[0]).map(|c| f64::from(pixels.largest(c))).collect();
        let stages = units::integers(drafts, &largest, precision)?;
        Ok(IntegerNetwork { precision, input, stages })
    }

    /// How many classes the read-out has.
    pub fn classes(&self) -> usize {
        self.stages.last().map_or(0, |s| s.shape[0])
    }

    /// The read-out's unit: a logit is its integer times this.
    pub fn logit_unit(&self) -> f64 {
        self.stages.last().and_then(|s| s.unit.first()).map_or(1.0, |&e| 2f64.powi(e))
    }
}
