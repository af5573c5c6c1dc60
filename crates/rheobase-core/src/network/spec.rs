//! What a network must be before it can spike.
//! In: a folded network with thresholds. Out: a [`SpikingNetwork`], or an error that names the node and the way on.

use super::shape::{self, Shape};
use super::{Network, Op, PoolKind};
use crate::error::{Error, Kind, Result};

/// A network whose every activation has a threshold and whose every other node is linear. A checked wrapper, not a second
/// graph: [`SpikingNetwork::network`] is the network that came in.
#[derive(Debug, Clone)]
pub struct SpikingNetwork {
    network: Network,
    shapes: Vec<Shape>,
}

impl SpikingNetwork {
    /// Checks it.
    pub fn new(network: Network) -> Result<Self> {
        let shapes = shape::infer(&network)?;
        let mut spiking = 0;
        for node in &network.nodes {
            match &node.op {
                Op::Activation(a) => {
                    spiking += 1;
                    if a.threshold.is_none() {
                        return Err(Error::new(Kind::Unsupported, "activation has no firing threshold")
                            .node(&node.name)
                            .hint("thresholds of a ReLU network come from images: `--threshold`"));
                    }
                }
                Op::Pool(p) if p.kind == PoolKind::Max => return Err(max_pool(&node.name)),
                Op::BatchNorm(_) | Op::Identity => {
                    return Err(Error::new(
                        Kind::Unsupported,
                        format!("{} must be folded away first", node.op.name()),
                    )
                    .node(&node.name));
                }
                Op::Input { .. }
                | Op::Conv2d(_)
                | Op::Linear(_)
                | Op::Pool(_)
                | Op::GlobalAverage
                | Op::Add
                | Op::Concat
                | Op::Flatten
                | Op::Shortcut(_) => {}
            }
        }
        if spiking == 0 {
            return Err(Error::new(
                Kind::Unsupported,
                "the network has no activation, so nothing in it would spike",
            ));
        }
        Ok(SpikingNetwork { network, shapes })
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Shape of every node's value.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }
}

/// Refuses a network that still has max-pools.
pub fn no_max_pools(network: &Network) -> Result<()> {
    let max = network.nodes.iter().find(|n| matches!(&n.op, Op::Pool(p) if p.kind == PoolKind::Max));
    max.map_or(Ok(()), |node| Err(max_pool(&node.name)))
}

/// Why max-pooling does not spike, and what to do.
fn max_pool(node: &str) -> Error {
    Error::new(Kind::Unsupported, "max-pooling has no spiking counterpart: the largest of several rates is not a spike")
        .node(node)
        .hint(
            "best: retrain with average pooling; or replace it knowingly, at a cost in accuracy, with `--maxpool avg`",
        )
}
