//! From a ReLU network to a QCFS network without labels: thresholds, weights and biases from what both make of the same images.
//! In: a folded network, images. Out: the network with QCFS of L levels for every ReLU and clip, changes noted.
//! Layers are fitted in order, each to the ReLU network's own values, from the converted network's values so far.

mod cholesky;
mod least_squares;
mod lockstep;
mod thresholds;

use least_squares::{Kept, Target, refit};
use lockstep::{Order, Positions, Side, channel_sums};
use rheobase_core::convert::average_pools;
use rheobase_core::network::shape::{self, Shape};
use rheobase_core::network::spec::no_max_pools;
use rheobase_core::network::{ActivationKind, Network, NodeId, Op, Start, Threshold};
use rheobase_core::prepared::Prepared;
use rheobase_core::progress::Progress;
use rheobase_core::random::Stream;
use rheobase_core::{Error, Kind, Result};
use std::fmt;
use std::str::FromStr;

/// Positions that a layer is fitted on, over all images.
const SAMPLES: usize = 32_768;
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
    let converted = start(network, options)?;
    let shapes = shape::infer(network)?;
    let side = || Side::new(network, images);
    let mut fit = Fit {
        relu: network,
        order: Order::new(network),
        readers: network.readers(),
        images: images.len(),
        sides: [side()?, side()?],
        differs: vec![false; network.nodes.len()],
        kept: vec![],
        converted,
        shapes,
        options,
    };
    let steps = network.nodes.len();
    for place in 0..steps {
        progress.tick("layers", place, steps);
        if progress.cancelled() {
            return Err(Error::new(Kind::Cancelled, "stopped"));
        }
        fit.node(place)?;
    }
    progress.tick("layers", steps, steps);
    let Fit { mut converted, kept, .. } = fit;
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
        converted.notes.push(format!("too few images to fit the weights of {}", kept.join(", ")));
    }
    converted.check()?;
    Ok(converted)
}

/// The network to be fitted: pools replaced, activations still as they are.
fn start(network: &Network, options: &Options) -> Result<Network> {
    options.check(network)?;
    let mut converted = network.clone();
    if options.average_pools {
        average_pools(&mut converted);
    }
    Ok(converted)
}

/// Whether QCFS takes its place.
fn replaceable(op: &Op) -> bool {
    matches!(op, Op::Activation(a) if matches!(a.kind, ActivationKind::Relu | ActivationKind::Clip { .. }))
}

/// Both networks with their values.
struct Fit<'a> {
    relu: &'a Network,
    converted: Network,
    options: &'a Options,
    shapes: Vec<Shape>,
    order: Order,
    readers: Vec<usize>,
    images: usize,
    /// Of the ReLU network and of the converted one.
    sides: [Side; 2],
    /// Whether the networks' values differ.
    differs: Vec<bool>,
    /// Layers that have too few samples to fit them.
    kept: Vec<String>,
}

impl Fit<'_> {
    fn node(&mut self, place: usize) -> Result<()> {
        let id = self.order.nodes[place];
        let node = &self.relu.nodes[id];
        self.differs[id] = node.op != self.converted.nodes[id].op;
        self.differs[id] |= node.inputs.iter().any(|&i| self.differs[i]);
        match &node.op {
            Op::Input { .. } => {}
            Op::Conv2d(_) | Op::Linear(_) => self.layer(place),
            op => {
                if replaceable(op) {
                    self.activation(id);
                }
                self.sides[0].advance(self.relu, &self.shapes, &self.order, place);
                self.sides[1].advance(&self.converted, &self.shapes, &self.order, place);
            }
        }
        for (side, network) in self.sides.iter_mut().zip([self.relu, &self.converted]) {
            side.free(network, &self.order, place);
        }
        Ok(())
    }

    /// Weights, then the bias, so that the layer gives what the ReLU network's gives; what the other summands lack is asked of it.
    fn layer(&mut self, place: usize) {
        let id = self.order.nodes[place];
        let others = self.others(id);
        let fits = self.differs[id] || others.iter().any(|&o| self.differs[o]);
        let input = self.relu.nodes[id].inputs[0];
        let (from, to) = (self.shapes[input], self.shapes[id]);
        self.sides[0].advance(self.relu, &self.shapes, &self.order, place);
        if fits && self.options.method != Method::Mse && id != self.relu.output {
            let [relu, converted] = &self.sides;
            let others = others.iter().map(|&o| (&relu.values[o], &converted.values[o])).collect();
            let target = Target { own: &relu.values[id], others };
            let positions = self.positions(id);
            let op = &mut self.converted.nodes[id].op;
            let fitted = refit(op, (from, to), &converted.values[input], &target, &positions);
            if fitted == Err(Kept::TooLarge) {
                self.kept.push(format!("`{}`", self.relu.nodes[id].name));
            }
        }
        self.sides[1].advance(&self.converted, &self.shapes, &self.order, place);
        if fits {
            let numbers = (self.images * to[1] * to[2]) as f64;
            let mut lack = vec![0.0; to[0]];
            for &summand in others.iter().chain([&id]) {
                let [relu, converted] = &self.sides;
                let sums = channel_sums(&relu.values[summand], to[0]);
                let got = channel_sums(&converted.values[summand], to[0]);
                lack.iter_mut().zip(sums.iter().zip(got)).for_each(|(l, (s, g))| *l += (s - g) / numbers);
            }
            self.shift(id, id, &lack.iter().map(|&l| l as f32).collect::<Vec<_>>());
        }
    }

    /// Thresholds from the ReLU network's pre-activations; for `mse` the offset that keeps the mean.
    fn activation(&mut self, id: NodeId) {
        let input = self.relu.nodes[id].inputs[0];
        let channels = self.shapes[id][0];
        let Op::Activation(relu) = &self.relu.nodes[id].op else { return };
        let (levels, per_layer) = (self.options.levels, self.options.per_layer);
        let [z, converted] = [0, 1].map(|side: usize| &self.sides[side].values[input]);
        let chosen = thresholds::choose(z, channels, relu.kind, levels, per_layer);
        if self.options.method == Method::Mse
            && let Some(layer) = self.owner(input)
        {
            let thetas: Vec<f32> = (0..channels).map(|c| chosen[c % chosen.len()]).collect();
            let positions = self.positions(id);
            let by = thresholds::offsets(converted, z, relu.kind, &thetas, levels, &positions);
            self.shift(layer, input, &by);
        }
        if let Op::Activation(a) = &mut self.converted.nodes[id].op {
            a.kind = ActivationKind::Qcfs { levels };
            a.threshold =
                Some(if per_layer { Threshold::Layer(chosen[0]) } else { Threshold::Channel(chosen) });
            a.start = Start::Half;
        }
        self.differs[id] = true;
    }

    /// Adds to the bias of `layer`, and to the converted network's values of `at`.
    fn shift(&mut self, layer: NodeId, at: NodeId, by: &[f32]) {
        let bias = match &mut self.converted.nodes[layer].op {
            Op::Conv2d(c) => &mut c.bias,
            Op::Linear(l) => &mut l.bias,
            _ => return,
        };
        let bias = bias.get_or_insert_with(|| vec![0.0; by.len()]);
        bias.iter_mut().zip(by).for_each(|(b, x)| *b += x);
        self.sides[1].shift(at, by);
    }

    /// Other summands of the sums that a layer's value goes into and nowhere else, as far as they are computed.
    fn others(&self, id: NodeId) -> Vec<NodeId> {
        let (mut at, mut others) = (id, vec![]);
        while self.readers[at] == 1
            && let Some(sum) = self.relu.nodes.iter().position(|n| n.inputs.contains(&at))
            && self.relu.nodes[sum].op == Op::Add
        {
            let inputs = &self.relu.nodes[sum].inputs;
            others.extend(inputs.iter().filter(|&&i| i != at && !self.sides[0].values[i].is_empty()));
            at = sum;
        }
        others
    }

    /// A layer whose bias moves the value of `id` and nothing else.
    fn owner(&self, id: NodeId) -> Option<NodeId> {
        let node = &self.relu.nodes[id];
        match node.op {
            _ if self.readers[id] != 1 => None,
            Op::Conv2d(_) | Op::Linear(_) => Some(id),
            Op::Add => node.inputs.iter().find_map(|&i| self.owner(i)),
            _ => None,
        }
    }

    /// The positions that the fit of a node looks at.
    fn positions(&self, id: NodeId) -> Positions {
        let [_, h, w] = self.shapes[id];
        let stream = Stream::new(self.options.seed, id as u64);
        Positions::new(stream, SAMPLES, self.images, h * w)
    }
}

#[cfg(test)]
mod tests;
