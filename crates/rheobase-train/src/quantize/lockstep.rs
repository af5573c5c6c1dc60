//! Two networks of the same nodes run side by side over all images, node by node.
//! In: networks, images. Out: every node's values for all images, from the moment it is computed to its last reader.

use rayon::prelude::*;
use rheobase_core::Result;
use rheobase_core::ann;
use rheobase_core::network::shape::Shape;
use rheobase_core::network::{Network, NodeId, Op};
use rheobase_core::prepared::Prepared;
use rheobase_core::random::Stream;

/// One node's value for each image, `[height, width, channels]`.
pub type Values = Vec<Vec<f32>>;

/// Whether it is a layer with weights to fit.
pub fn has_weights(op: &Op) -> bool {
    matches!(op, Op::Conv2d(_) | Op::Linear(_))
}

/// The order that nodes are computed in: by how many layers with weights lie between them and the image, so that of several
/// summands the one of the longest path comes last.
pub struct Order {
    /// Nodes in that order.
    pub nodes: Vec<NodeId>,
    /// When each node's value is read for the last time, a place in `nodes`.
    last: Vec<usize>,
}

impl Order {
    /// The order of a network's nodes.
    pub fn new(network: &Network) -> Self {
        let mut depth = vec![0usize; network.nodes.len()];
        for (id, node) in network.nodes.iter().enumerate() {
            let before = node.inputs.iter().map(|&i| depth[i]).max().unwrap_or(0);
            depth[id] = before + usize::from(has_weights(&node.op));
        }
        let mut nodes: Vec<NodeId> = (0..network.nodes.len()).collect();
        nodes.sort_by_key(|&id| (depth[id], id));
        let mut last = vec![0; nodes.len()];
        for (place, &id) in nodes.iter().enumerate() {
            network.nodes[id].inputs.iter().for_each(|&i| last[i] = place);
        }
        last[network.output] = usize::MAX;
        Order { nodes, last }
    }

    /// Whether the value of `input` may be overwritten at `place` of the order.
    fn takes(&self, op: &Op, input: NodeId, place: usize) -> bool {
        matches!(op, Op::Activation(_)) && self.last[input] == place
    }

    /// The most numbers of one image that are alive at once in one network.
    pub fn peak(&self, network: &Network, shapes: &[Shape]) -> usize {
        let size = |id: NodeId| shapes[id].iter().product::<usize>();
        let (mut alive, mut peak) = (0, 0);
        for (place, &id) in self.nodes.iter().enumerate() {
            let node = &network.nodes[id];
            alive += size(id);
            let taken = node.inputs.first().filter(|&&i| self.takes(&node.op, i, place));
            peak = peak.max(alive - taken.map_or(0, |&i| size(i)));
            alive -= self.freed(network, place).map(size).sum::<usize>();
        }
        peak
    }

    /// Values that nobody reads after `place`.
    fn freed<'a>(&'a self, network: &'a Network, place: usize) -> impl Iterator<Item = NodeId> + 'a {
        let inputs = &network.nodes[self.nodes[place]].inputs;
        let first = move |i: usize| !inputs[..i].contains(&inputs[i]);
        (0..inputs.len()).filter(move |&i| first(i) && self.last[inputs[i]] == place).map(|i| inputs[i])
    }
}

/// The values of one network.
#[derive(Clone)]
pub struct Side {
    /// By node; empty before it is computed and after it was read for the last time.
    pub values: Vec<Values>,
}

impl Side {
    /// Reads the images.
    pub fn new(network: &Network, images: &Prepared<'_>) -> Result<Self> {
        let mut values = vec![vec![]; network.nodes.len()];
        let size: usize = network.input_shape().iter().product();
        let (mut pixels, mut labels) = (vec![], vec![]);
        for first in (0..images.len()).step_by(64) {
            images.batch(first..(first + 64).min(images.len()), &mut pixels, &mut labels)?;
            values[0].extend(pixels.chunks_exact(size).map(<[f32]>::to_vec));
        }
        Ok(Side { values })
    }

    /// Computes the node at `place` of the order for all images.
    pub fn advance(&mut self, network: &Network, shapes: &[Shape], order: &Order, place: usize) {
        let id = order.nodes[place];
        let node = &network.nodes[id];
        if let Op::Activation(a) = &node.op
            && order.takes(&node.op, node.inputs[0], place)
        {
            let mut values = std::mem::take(&mut self.values[node.inputs[0]]);
            values.par_iter_mut().for_each(|x| ann::activate(a, x));
            self.values[id] = values;
            return;
        }
        let packed = ann::pack(&node.op);
        let from: Vec<Shape> = node.inputs.iter().map(|&i| shapes[i]).collect();
        let one = |scratch: &mut Vec<f32>, image: usize| {
            let inputs: Vec<&[f32]> = node.inputs.iter().map(|&i| self.values[i][image].as_slice()).collect();
            ann::apply(&node.op, &packed, &inputs, &from, shapes[id], scratch)
        };
        let images = self.values[node.inputs[0]].len();
        self.values[id] = (0..images).into_par_iter().map_init(Vec::new, one).collect();
    }

    /// Lets go of what nobody reads after `place` of the order.
    pub fn free(&mut self, network: &Network, order: &Order, place: usize) {
        order.freed(network, place).for_each(|id| self.values[id] = vec![]);
    }

    /// Adds a number per channel to a node's values.
    pub fn shift(&mut self, id: NodeId, by: &[f32]) {
        self.values[id].par_iter_mut().for_each(|image| {
            for position in image.chunks_exact_mut(by.len()) {
                position.iter_mut().zip(by).for_each(|(x, b)| *x += b);
            }
        });
    }
}

/// Sums per channel over all images and positions, in the order of the images.
pub fn channel_sums(values: &Values, channels: usize) -> Vec<f64> {
    let each: Vec<Vec<f64>> = values
        .par_iter()
        .map(|image| {
            let mut sums = vec![0.0; channels];
            for position in image.chunks_exact(channels) {
                sums.iter_mut().zip(position).for_each(|(s, &x)| *s += f64::from(x));
            }
            sums
        })
        .collect();
    let mut total = vec![0.0; channels];
    each.iter().for_each(|sums| total.iter_mut().zip(sums).for_each(|(t, s)| *t += s));
    total
}

/// Positions of each image that a fit looks at: spread over the image, drawn at random within equal parts of it.
pub struct Positions {
    stream: Stream,
    /// Positions of an image.
    all: usize,
    /// How many of them are taken.
    pub taken: usize,
}

impl Positions {
    /// About `wanted` positions of `images` images that have `all` each.
    pub fn new(stream: Stream, wanted: usize, images: usize, all: usize) -> Self {
        Positions { stream, all, taken: wanted.div_ceil(images.max(1)).clamp(1, all) }
    }

    /// Those of one image, in rising order.
    pub fn of(&self, image: usize) -> impl Iterator<Item = usize> + '_ {
        let mut stream = self.stream.fork(image as u64);
        (0..self.taken).map(move |i| {
            let (from, to) = (i * self.all / self.taken, (i + 1) * self.all / self.taken);
            from + stream.below(to - from)
        })
    }
}
