//! What a node costs.
//! In: a network and its shapes. Out: parameters and dense multiply-adds of every node.

use super::Network;
use super::op::{Op, Threshold};
use super::shape::Shape;

/// Cost of one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Trained numbers: weights, biases, scales, shifts and QCFS thresholds (statistics are not).
    pub parameters: u64,
    /// Multiply-adds of a dense pass over one image; those of convolutions and linear layers only.
    pub macs: u64,
}

/// Cost of every node, in order.
pub fn costs(network: &Network, shapes: &[Shape]) -> Vec<Cost> {
    let cost = |(node, shape): (&super::Node, &Shape)| {
        let positions = (shape[1] * shape[2]) as u64;
        let linear = |weights: usize, bias: Option<usize>| Cost {
            parameters: (weights + bias.unwrap_or(0)) as u64,
            macs: weights as u64 * positions,
        };
        match &node.op {
            Op::Conv2d(c) => linear(c.weight.data.len(), c.bias.as_ref().map(Vec::len)),
            Op::Linear(l) => linear(l.weight.data.len(), l.bias.as_ref().map(Vec::len)),
            Op::BatchNorm(b) => Cost { parameters: 2 * b.scale.len() as u64, macs: 0 },
            Op::Activation(a) => {
                let parameters = match &a.threshold {
                    None => 0,
                    Some(Threshold::Layer(_)) => 1,
                    Some(Threshold::Channel(t)) => t.len() as u64,
                };
                Cost { parameters, macs: 0 }
            }
            Op::Input { .. }
            | Op::Pool(_)
            | Op::GlobalAverage
            | Op::Add
            | Op::Concat
            | Op::Flatten
            | Op::Shortcut(_)
            | Op::Identity => Cost::default(),
        }
    };
    network.nodes.iter().zip(shapes).map(cost).collect()
}
