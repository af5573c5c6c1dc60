//! Layers fitted in order, each to the ReLU network's own values, from the converted network's values so far.
//! In: the ReLU network, a copy of it, images. Out: the copy with QCFS for every ReLU and clip, new weights and biases.

use super::least_squares::{Kept, Target, refit};
use super::lockstep::{Order, Positions, Side, channel_sums, has_weights};
use super::{Method, Options, replaceable, thresholds};
use rheobase_core::network::shape::{self, Shape};
use rheobase_core::network::{ActivationKind, Conv2d, Linear, Network, NodeId, Op, Start, Threshold};
use rheobase_core::prepared::Prepared;
use rheobase_core::progress::Progress;
use rheobase_core::random::Stream;
use rheobase_core::{Error, Kind, Result};

/// Positions that a layer is fitted on, over all images.
const SAMPLES: usize = 32_768;

/// Fits `converted`, whose nodes are those of `relu`; returns layers that had too few samples for their weights.
pub fn fit(
    relu: &Network,
    converted: &mut Network,
    images: &Prepared<'_>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<String>> {
    let pixels = Side::new(relu, images)?;
    let mut fit = Fit {
        relu,
        converted,
        options,
        shapes: shape::infer(relu)?,
        order: Order::new(relu),
        readers: relu.readers(),
        images: images.len(),
        sides: [pixels.clone(), pixels],
        differs: vec![false; relu.nodes.len()],
        kept: vec![],
    };
    let steps = relu.nodes.len();
    for place in 0..steps {
        progress.tick("layers", place, steps);
        if progress.cancelled() {
            return Err(Error::new(Kind::Cancelled, "stopped"));
        }
        fit.node(place);
    }
    progress.tick("layers", steps, steps);
    Ok(fit.kept)
}

/// Both networks with their values.
struct Fit<'a> {
    relu: &'a Network,
    converted: &'a mut Network,
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
    fn node(&mut self, place: usize) {
        let id = self.order.nodes[place];
        let node = &self.relu.nodes[id];
        self.differs[id] = node.op != self.converted.nodes[id].op;
        self.differs[id] |= node.inputs.iter().any(|&i| self.differs[i]);
        if has_weights(&node.op) {
            self.layer(place);
        } else if id > 0 {
            if replaceable(&node.op) {
                self.activation(id);
            }
            self.sides[0].advance(self.relu, &self.shapes, &self.order, place);
            self.sides[1].advance(self.converted, &self.shapes, &self.order, place);
        }
        for (side, network) in self.sides.iter_mut().zip([self.relu, &*self.converted]) {
            side.free(network, &self.order, place);
        }
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
        self.sides[1].advance(self.converted, &self.shapes, &self.order, place);
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
        let op = &mut self.converted.nodes[layer].op;
        let (Op::Conv2d(Conv2d { bias, .. }) | Op::Linear(Linear { bias, .. })) = op else { return };
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
        if self.readers[id] != 1 {
            return None;
        }
        if has_weights(&node.op) {
            return Some(id);
        }
        let summands = if node.op == Op::Add { &node.inputs[..] } else { &[] };
        summands.iter().find_map(|&i| self.owner(i))
    }

    /// The positions that the fit of a node looks at.
    fn positions(&self, id: NodeId) -> Positions {
        let [_, h, w] = self.shapes[id];
        let stream = Stream::new(self.options.seed, id as u64);
        Positions::new(stream, SAMPLES, self.images, h * w)
    }
}
