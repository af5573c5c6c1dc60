//! Folds what inference does not need.
//! In: a checked network. Out: one that computes the same, without BatchNorm, Identity and unread nodes.

use super::op::{BatchNorm, Conv2d, Linear, Op, Start, Threshold};
use super::{Network, Node, NodeId};
use crate::error::Result;
use crate::tensor::Tensor;

/// The network without Identity, BatchNorm and nodes that the output does not need.
///
/// A BatchNorm goes into the convolution or linear layer before it where nothing else reads that layer; any other
/// becomes a 1x1 depthwise convolution, which is noted. Weights are computed in f64 and rounded once.
pub fn fold(network: &Network) -> Result<Network> {
    network.check()?;
    let live = live(network);
    let source = sources(network);
    let readers = readers(network, &live, &source);
    let mut folded = Network {
        name: network.name.clone(),
        nodes: Vec::with_capacity(network.nodes.len()),
        output: 0,
        classes: network.classes.clone(),
        normalisation: network.normalisation.clone(),
        notes: network.notes.clone(),
    };
    // Where each node's value is now.
    let mut place: Vec<NodeId> = vec![0; network.nodes.len()];
    // Readers of each new node's value.
    let mut demand: Vec<usize> = vec![];
    for (id, node) in network.nodes.iter().enumerate().filter(|(id, _)| live[*id]) {
        let inputs: Vec<NodeId> = node.inputs.iter().map(|&i| place[i]).collect();
        let op = match &node.op {
            Op::Identity => {
                place[id] = inputs[0];
                continue;
            }
            Op::BatchNorm(bn) => {
                let before = inputs[0];
                if demand[before] == 1 && absorb(&mut folded.nodes[before].op, &Affine::of(bn)) {
                    place[id] = before;
                    demand[before] = readers[id];
                    continue;
                }
                folded.notes.push(format!("BatchNorm `{}` became a 1x1 depthwise convolution", node.name));
                Op::Conv2d(Affine::of(bn).depthwise())
            }
            other @ (Op::Input { .. }
            | Op::Conv2d(_)
            | Op::Linear(_)
            | Op::Activation(_)
            | Op::Pool(_)
            | Op::GlobalAverage
            | Op::Add
            | Op::Concat
            | Op::Flatten
            | Op::Shortcut(_)) => other.clone(),
        };
        place[id] = folded.nodes.len();
        demand.push(readers[id]);
        folded.nodes.push(Node { name: node.name.clone(), inputs, op });
    }
    folded.output = place[network.output];
    let dropped: Vec<_> = (0..live.len()).filter(|&id| !live[id]).collect();
    if let Some(&first) = dropped.first() {
        let name = &network.nodes[first].name;
        folded
            .notes
            .push(format!("{} nodes that the output does not need dropped (`{name}`, ...)", dropped.len()));
    }
    flatten_late(&mut folded);
    folded.check()?;
    Ok(folded)
}

/// Swaps a Flatten with the activation that alone reads it: the same numbers, and neurons keep their place in the image.
fn flatten_late(network: &mut Network) {
    let readers = network.readers();
    for id in 0..network.nodes.len() {
        let Node { inputs, op: Op::Activation(a), .. } = &network.nodes[id] else { continue };
        let before = inputs[0];
        let everywhere = !matches!(a.threshold, Some(Threshold::Channel(_))) && !matches!(a.start, Start::Neuron(_));
        if everywhere && readers[before] == 1 && matches!(network.nodes[before].op, Op::Flatten) {
            let (low, high) = network.nodes.split_at_mut(id);
            std::mem::swap(&mut low[before].op, &mut high[0].op);
            std::mem::swap(&mut low[before].name, &mut high[0].name);
        }
    }
}

/// Which nodes the output needs; the input always stays.
fn live(network: &Network) -> Vec<bool> {
    let mut live = vec![false; network.nodes.len()];
    live[0] = true;
    live[network.output] = true;
    for (id, node) in network.nodes.iter().enumerate().rev() {
        if live[id] {
            for &input in &node.inputs {
                live[input] = true;
            }
        }
    }
    live
}

/// The node that makes each value, seen through Identity.
fn sources(network: &Network) -> Vec<NodeId> {
    let mut source: Vec<NodeId> = (0..network.nodes.len()).collect();
    for (id, node) in network.nodes.iter().enumerate() {
        if node.op == Op::Identity {
            source[id] = source[node.inputs[0]];
        }
    }
    source
}

/// How many live nodes other than Identity read each node's value, the output's reader among them.
fn readers(network: &Network, live: &[bool], source: &[NodeId]) -> Vec<usize> {
    let mut readers = vec![0; network.nodes.len()];
    for (id, node) in network.nodes.iter().enumerate() {
        if live[id] && node.op != Op::Identity {
            for &input in &node.inputs {
                readers[source[input]] += 1;
            }
        }
    }
    readers[source[network.output]] += 1;
    readers
}

/// y = factor · x + offset per channel.
struct Affine {
    factor: Vec<f64>,
    offset: Vec<f64>,
}

impl Affine {
    fn of(bn: &BatchNorm) -> Self {
        let factor: Vec<f64> = bn
            .scale
            .iter()
            .zip(&bn.var)
            .map(|(&scale, &var)| f64::from(scale) / (f64::from(var) + f64::from(bn.eps)).sqrt())
            .collect();
        let offset = factor
            .iter()
            .zip(&bn.mean)
            .zip(&bn.shift)
            .map(|((&factor, &mean), &shift)| f64::from(shift) - f64::from(mean) * factor)
            .collect();
        Affine { factor, offset }
    }

    /// Scales the weights of every output channel and moves its bias.
    fn apply(&self, weight: &mut Tensor, bias: &mut Option<Vec<f32>>) {
        let channels = self.factor.len();
        let per_channel = weight.data.len() / channels;
        for (weights, &factor) in weight.data.chunks_exact_mut(per_channel).zip(&self.factor) {
            for w in weights {
                *w = (f64::from(*w) * factor) as f32;
            }
        }
        let bias = bias.get_or_insert_with(|| vec![0.0; channels]);
        for ((b, &factor), &offset) in bias.iter_mut().zip(&self.factor).zip(&self.offset) {
            *b = (f64::from(*b) * factor + offset) as f32;
        }
    }

    /// The same as a convolution of its own.
    fn depthwise(&self) -> Conv2d {
        let channels = self.factor.len();
        Conv2d {
            weight: Tensor {
                shape: vec![channels, 1, 1, 1],
                data: self.factor.iter().map(|&factor| factor as f32).collect(),
            },
            bias: Some(self.offset.iter().map(|&offset| offset as f32).collect()),
            stride: [1; 2],
            padding: [0; 4],
            dilation: [1; 2],
            groups: channels,
        }
    }
}

/// Whether `op` could take the affine map in.
fn absorb(op: &mut Op, affine: &Affine) -> bool {
    match op {
        Op::Conv2d(Conv2d { weight, bias, .. }) | Op::Linear(Linear { weight, bias }) => {
            affine.apply(weight, bias);
            true
        }
        Op::Input { .. }
        | Op::BatchNorm(_)
        | Op::Activation(_)
        | Op::Pool(_)
        | Op::GlobalAverage
        | Op::Add
        | Op::Concat
        | Op::Flatten
        | Op::Shortcut(_)
        | Op::Identity => false,
    }
}
