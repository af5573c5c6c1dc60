//! What a node can be: a closed set of operations with their weights inside.
//! Every value of a network is an image of shape (channels, height, width); a flat vector of n numbers is (n, 1, 1).
//! Files that read `Op` match every variant by name, so a new one cannot be forgotten.

use crate::tensor::Tensor;

/// Sides of a zero padding: top, left, bottom, right.
pub type Sides = [usize; 4];

/// A two-dimensional convolution (cross-correlation, as everywhere in the field).
#[derive(Debug, Clone, PartialEq)]
pub struct Conv2d {
    /// `[out, in / groups, kernel height, kernel width]`.
    pub weight: Tensor,
    /// One number per output channel.
    pub bias: Option<Vec<f32>>,
    /// Vertical, horizontal.
    pub stride: [usize; 2],
    /// Zeros around the input: top, left, bottom, right.
    pub padding: Sides,
    /// Vertical, horizontal.
    pub dilation: [usize; 2],
    /// Channel groups; equal to the channels for a depthwise convolution.
    pub groups: usize,
}

/// A fully connected layer on a flat vector (n, 1, 1).
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// One number per output.
    pub bias: Option<Vec<f32>>,
}

/// Batch normalisation with fixed statistics: (x - mean) / sqrt(var + eps) · scale + shift, per channel.
/// A per-channel multiplication and addition is one with mean 0, var 1, eps 0.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// γ per channel.
    pub scale: Vec<f32>,
    /// β per channel.
    pub shift: Vec<f32>,
    /// Running mean per channel.
    pub mean: Vec<f32>,
    /// Running variance per channel.
    pub var: Vec<f32>,
    /// Added to the variance.
    pub eps: f32,
}

/// What an activation does when the network is read as an ANN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ActivationKind {
    /// max(0, x).
    Relu,
    /// min(max(0, x), ceiling): ReLU6 and its like.
    Clip {
        /// Upper bound, above 0.
        ceiling: f32,
    },
    /// λ/L · clip(floor(x·L/λ + ½), 0, L), λ being the node's threshold (Bu et al., ICLR 2022).
    Qcfs {
        /// L, the number of steps above zero; at least 1.
        levels: u32,
    },
}

/// The firing threshold θ = λ of an activation.
#[derive(Debug, Clone, PartialEq)]
pub enum Threshold {
    /// One for the layer.
    Layer(f32),
    /// One per channel.
    Channel(Vec<f32>),
}

impl Threshold {
    /// The threshold of channel `c`.
    pub fn of(&self, c: usize) -> f32 {
        match self {
            Threshold::Layer(t) => *t,
            Threshold::Channel(t) => t[c],
        }
    }
}

/// v(0) of a spiking neuron before any calibration, in units of its threshold.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Start {
    /// θ/2: the optimum of QCFS and OPI.
    #[default]
    Half,
    /// 0.
    Zero,
    /// One number per neuron, `[height, width, channels]`.
    Neuron(Vec<f32>),
}

/// A nonlinearity of the ANN, a layer of integrate-and-fire neurons of the SNN.
#[derive(Debug, Clone, PartialEq)]
pub struct Activation {
    /// The ANN's reading.
    pub kind: ActivationKind,
    /// θ = λ; needed by QCFS from the start, by the others before they spike.
    pub threshold: Option<Threshold>,
    /// v(0).
    pub start: Start,
}

/// What a pooling window yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// The mean; whether padded zeros count in the divisor.
    Average {
        /// PyTorch's `count_include_pad`.
        count_padding: bool,
    },
    /// The largest.
    Max,
}

/// A pooling window.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Average or maximum.
    pub kind: PoolKind,
    /// Height, width.
    pub kernel: [usize; 2],
    /// Vertical, horizontal.
    pub stride: [usize; 2],
    /// Top, left, bottom, right.
    pub padding: Sides,
    /// Whether a last, partial window counts: the output size is rounded up.
    pub ceil: bool,
}

/// The parameter-free shortcut of CIFAR ResNets: every stride-th pixel, zeros for the channels that are missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Shortcut {
    /// Vertical, horizontal; the first pixel is kept.
    pub stride: [usize; 2],
    /// Channels of zeros before.
    pub before: usize,
    /// Channels of zeros after.
    pub after: usize,
}

/// One operation. Values are (channels, height, width); see the module.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The image; always node 0 and only there.
    Input {
        /// Channels, height, width.
        shape: [usize; 3],
    },
    /// Convolution.
    Conv2d(Conv2d),
    /// Fully connected.
    Linear(Linear),
    /// Batch normalisation or any per-channel affine map.
    BatchNorm(BatchNorm),
    /// ReLU, clip or QCFS.
    Activation(Activation),
    /// Average or max pooling.
    Pool(Pool),
    /// Mean over all positions: (c, h, w) to (c, 1, 1).
    GlobalAverage,
    /// Sum of two or more values of one shape.
    Add,
    /// Channels one after the other.
    Concat,
    /// (c, h, w) to (c·h·w, 1, 1), channel by channel.
    Flatten,
    /// Subsampling with channel padding.
    Shortcut(Shortcut),
    /// Nothing: Identity, Dropout.
    Identity,
}

impl Op {
    /// The operation's name in tables, files and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input { .. } => "Input",
            Op::Conv2d(_) => "Conv2d",
            Op::Linear(_) => "Linear",
            Op::BatchNorm(_) => "BatchNorm",
            Op::Activation(a) => match a.kind {
                ActivationKind::Relu => "ReLU",
                ActivationKind::Clip { .. } => "Clip",
                ActivationKind::Qcfs { .. } => "QCFS",
            },
            Op::Pool(p) => match p.kind {
                PoolKind::Average { .. } => "AvgPool",
                PoolKind::Max => "MaxPool",
            },
            Op::GlobalAverage => "GlobalAvgPool",
            Op::Add => "Add",
            Op::Concat => "Concat",
            Op::Flatten => "Flatten",
            Op::Shortcut(_) => "Shortcut",
            Op::Identity => "Identity",
        }
    }
}
