//! The graph as the native file's metadata holds it: JSON beside the tensors.
//! In: JSON text. Out: plain structs that mirror `Network` without its numbers, and back.
//!
//! Sizes are u32, so that sums of a few of them cannot overflow before the graph is checked. Unknown fields are
//! refused: a field that means something must not be skipped.

use rheobase_core::network as core;
use rheobase_core::network::op;
use rheobase_core::{Error, Kind, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The metadata key that makes a `.safetensors` file a native one.
pub(crate) const KEY: &str = "rheobase";

/// The format this version writes, and the newest it reads.
pub(crate) const FORMAT: u64 = 1;

/// What can be read of any format, to refuse a newer one by number.
#[derive(Deserialize)]
pub(crate) struct Version {
    pub format: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Graph {
    pub format: u64,
    pub name: String,
    pub neuron: Neuron,
    pub output: u32,
    pub nodes: Vec<Node>,
    pub classes: Vec<String>,
    pub normalisation: Option<Normalisation>,
    pub notes: Vec<String>,
}

/// What every spiking neuron of the file does; the one neuron of format 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Neuron {
    pub fires: Fires,
    pub reset: Reset,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Fires {
    #[serde(rename = "potential >= threshold")]
    AtThreshold,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reset {
    #[serde(rename = "subtract threshold")]
    Subtract,
}

/// Per channel, pixels in [0, 1].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Normalisation {
    pub mean: Vec<Exact>,
    pub std: Vec<Exact>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Node {
    pub name: String,
    pub inputs: Vec<u32>,
    pub op: Op,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Op {
    Input { shape: [u32; 3] },
    Conv2d { stride: [u32; 2], padding: [u32; 4], dilation: [u32; 2], groups: u32, bias: bool },
    Linear { bias: bool },
    BatchNorm { eps: Exact },
    Activation { function: Function, threshold: Option<Threshold>, start: Start },
    Pool { window: Window, kernel: [u32; 2], stride: [u32; 2], padding: [u32; 4], ceil: bool },
    GlobalAverage {},
    Add {},
    Concat {},
    Flatten {},
    Shortcut { stride: [u32; 2], before: u32, after: u32 },
    Identity {},
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Function {
    Relu,
    Clip { ceiling: Exact },
    Qcfs { levels: u32 },
}

/// How many thresholds the node's tensor holds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Threshold {
    Layer,
    Channel,
}

/// v(0), in units of the threshold.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Start {
    Half,
    Zero,
    Neuron,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Window {
    Average,
    AverageWithoutPadding,
    Max,
}

/// An f32 that survives JSON to the bit: its shortest decimal where that is enough.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exact(pub f32);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let short: f64 = self.0.to_string().parse().unwrap_or(f64::NAN);
        serializer.serialize_f64(if short as f32 == self.0 { short } else { f64::from(self.0) })
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        f64::deserialize(deserializer).map(|x| Exact(x as f32))
    }
}

impl Graph {
    /// The network without its tensors.
    pub fn of(network: &core::Network) -> Result<Self> {
        let exact = |v: &[f32]| v.iter().map(|&x| Exact(x)).collect();
        Ok(Graph {
            format: FORMAT,
            name: network.name.clone(),
            neuron: Neuron { fires: Fires::AtThreshold, reset: Reset::Subtract },
            output: int(network.output)?,
            nodes: network.nodes.iter().map(Node::of).collect::<Result<_>>()?,
            classes: network.classes.clone(),
            normalisation: network
                .normalisation
                .as_ref()
                .map(|n| Normalisation { mean: exact(&n.mean), std: exact(&n.std) }),
            notes: network.notes.clone(),
        })
    }
}

impl Node {
    fn of(node: &core::Node) -> Result<Self> {
        let inputs = node.inputs.iter().map(|&i| int(i)).collect::<Result<_>>()?;
        let op = Op::of(&node.op).map_err(|e| e.node(&node.name))?;
        Ok(Node { name: node.name.clone(), inputs, op })
    }
}

impl Op {
    fn of(op: &op::Op) -> Result<Self> {
        Ok(match op {
            op::Op::Input { shape } => Op::Input { shape: ints(shape)? },
            op::Op::Conv2d(c) => Op::Conv2d {
                stride: ints(&c.stride)?,
                padding: ints(&c.padding)?,
                dilation: ints(&c.dilation)?,
                groups: int(c.groups)?,
                bias: c.bias.is_some(),
            },
            op::Op::Linear(l) => Op::Linear { bias: l.bias.is_some() },
            op::Op::BatchNorm(b) => Op::BatchNorm { eps: Exact(b.eps) },
            op::Op::Activation(a) => Op::activation(a),
            op::Op::Pool(p) => Op::Pool {
                window: match p.kind {
                    op::PoolKind::Average { count_padding: true } => Window::Average,
                    op::PoolKind::Average { count_padding: false } => Window::AverageWithoutPadding,
                    op::PoolKind::Max => Window::Max,
                },
                kernel: ints(&p.kernel)?,
                stride: ints(&p.stride)?,
                padding: ints(&p.padding)?,
                ceil: p.ceil,
            },
            op::Op::GlobalAverage => Op::GlobalAverage {},
            op::Op::Add => Op::Add {},
            op::Op::Concat => Op::Concat {},
            op::Op::Flatten => Op::Flatten {},
            op::Op::Shortcut(s) => {
                Op::Shortcut { stride: ints(&s.stride)?, before: int(s.before)?, after: int(s.after)? }
            }
            op::Op::Identity => Op::Identity {},
        })
    }

    fn activation(a: &op::Activation) -> Self {
        Op::Activation {
            function: match a.kind {
                op::ActivationKind::Relu => Function::Relu,
                op::ActivationKind::Clip { ceiling } => Function::Clip { ceiling: Exact(ceiling) },
                op::ActivationKind::Qcfs { levels } => Function::Qcfs { levels },
            },
            threshold: a.threshold.as_ref().map(|t| match t {
                op::Threshold::Layer(_) => Threshold::Layer,
                op::Threshold::Channel(_) => Threshold::Channel,
            }),
            start: match a.start {
                op::Start::Half => Start::Half,
                op::Start::Zero => Start::Zero,
                op::Start::Neuron(_) => Start::Neuron,
            },
        }
    }
}

/// A size of the file as the network wants it.
pub(crate) fn size(x: u32) -> usize {
    x as usize
}

/// Several sizes.
pub(crate) fn sizes<const N: usize>(x: [u32; N]) -> [usize; N] {
    x.map(size)
}

fn int(x: usize) -> Result<u32> {
    u32::try_from(x)
        .map_err(|_| Error::new(Kind::Limit, "number is too large for the file").found(x.to_string()))
}

fn ints<const N: usize>(x: &[usize; N]) -> Result<[u32; N]> {
    let mut out = [0; N];
    for (o, &i) in out.iter_mut().zip(x) {
        *o = int(i)?;
    }
    Ok(out)
}
