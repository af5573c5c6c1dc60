//! A network as a list of training steps: BatchNorm, sums and activations fused into single passes.
//! In: a network. Out: steps in order over numbered values, and where every parameter is.

use super::conv::Geometry;
use rheobase_core::network::shape::{self, Shape};
use rheobase_core::network::{ActivationKind, Network, NodeId, Op, Pool, Shortcut, Threshold};
use rheobase_core::{Error, Kind, Result};

/// Index of a value that is kept for the backward pass.
pub type ValueId = usize;
/// Index of a parameter.
pub type ParamId = usize;
/// Index of a batch normalisation.
pub type NormId = usize;

/// Which numbers of a node a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Weights of a convolution or linear layer.
    Weight,
    /// Biases.
    Bias,
    /// γ.
    Scale,
    /// β.
    Shift,
    /// λ.
    Threshold,
}

impl Field {
    /// As in the native file.
    pub fn name(self) -> &'static str {
        match self {
            Field::Weight => "weight",
            Field::Bias => "bias",
            Field::Scale => "scale",
            Field::Shift => "shift",
            Field::Threshold => "threshold",
        }
    }
}

/// One trained array.
#[derive(Debug, Clone)]
pub struct Param {
    /// The node it belongs to.
    pub node: NodeId,
    /// Which of the node's numbers.
    pub field: Field,
    /// Weights as `[group][kh][kw][in][out]` or `[in][out]`.
    pub data: Vec<f32>,
    /// Gradient of the last backward pass.
    pub gradient: Vec<f32>,
}

/// A summand of a pre-activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    pub value: ValueId,
    pub norm: Option<NormId>,
}

/// An activation's curve.
#[derive(Debug, Clone)]
pub enum Curve {
    Relu,
    Clip(f32),
    /// Levels, λ.
    Qcfs(f32, ParamId),
}

/// A batch normalisation in training.
#[derive(Debug, Clone)]
pub struct Norm {
    pub node: NodeId,
    pub value: ValueId,
    pub scale: ParamId,
    pub shift: ParamId,
    pub eps: f32,
    /// Running statistics.
    pub mean: Vec<f32>,
    pub var: Vec<f32>,
}

#[derive(Debug, Clone)]
pub enum Step {
    Conv {
        geometry: Geometry,
        x: ValueId,
        out: ValueId,
        weight: ParamId,
        bias: Option<ParamId>,
    },
    Linear {
        x: ValueId,
        out: ValueId,
        weight: ParamId,
        bias: Option<ParamId>,
    },
    /// `out = curve(Σ terms)`, one or two terms.
    Point {
        terms: Vec<Term>,
        curve: Option<Curve>,
        out: ValueId,
    },
    Pool {
        pool: Pool,
        x: ValueId,
        out: ValueId,
    },
    GlobalAverage {
        x: ValueId,
        out: ValueId,
    },
    Concat {
        xs: Vec<ValueId>,
        out: ValueId,
    },
    Flatten {
        x: ValueId,
        out: ValueId,
    },
    Shortcut {
        shortcut: Shortcut,
        x: ValueId,
        out: ValueId,
    },
}

/// The whole of it.
#[derive(Debug)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Shape of every value; value 0 is the image.
    pub shapes: Vec<Shape>,
    pub params: Vec<Param>,
    pub norms: Vec<Norm>,
    pub output: ValueId,
}

/// What stands for a node's value while the plan is made.
type Terms = Vec<Term>;

struct Maker<'a> {
    network: &'a Network,
    shapes: &'a [Shape],
    readers: Vec<usize>,
    plan: Plan,
    terms: Vec<Terms>,
}

impl Plan {
    /// Makes the plan of a network that passes its check.
    pub fn new(network: &Network) -> Result<Plan> {
        let shapes = shape::infer(network)?;
        let plan = Plan { steps: vec![], shapes: vec![], params: vec![], norms: vec![], output: 0 };
        let mut maker = Maker { network, shapes: &shapes, readers: network.readers(), plan, terms: vec![] };
        for id in 0..network.nodes.len() {
            let terms = maker.node(id)?;
            maker.terms.push(terms);
        }
        let output = maker.whole(network.output);
        maker.plan.output = output;
        Ok(maker.plan)
    }
}

impl Maker<'_> {
    fn value(&mut self, shape: Shape) -> ValueId {
        self.plan.shapes.push(shape);
        self.plan.shapes.len() - 1
    }

    fn param(&mut self, node: NodeId, field: Field, data: Vec<f32>) -> ParamId {
        let gradient = vec![0.0; data.len()];
        self.plan.params.push(Param { node, field, data, gradient });
        self.plan.params.len() - 1
    }

    /// The value of a node, computed if only its summands are there.
    fn whole(&mut self, node: NodeId) -> ValueId {
        if let [Term { value, norm: None }] = self.terms[node].as_slice() {
            return *value;
        }
        let out = self.value(self.shapes[node]);
        let terms = self.two(self.terms[node].clone(), node);
        self.plan.steps.push(Step::Point { terms, curve: None, out });
        self.terms[node] = vec![Term { value: out, norm: None }];
        out
    }

    /// At most two summands: the first ones are summed up until then.
    fn two(&mut self, mut terms: Terms, node: NodeId) -> Terms {
        while terms.len() > 2 {
            let out = self.value(self.shapes[node]);
            let first = terms.drain(..2).collect();
            self.plan.steps.push(Step::Point { terms: first, curve: None, out });
            terms.insert(0, Term { value: out, norm: None });
        }
        terms
    }

    fn node(&mut self, id: NodeId) -> Result<Terms> {
        let network = self.network;
        let node = &network.nodes[id];
        let shape = self.shapes[id];
        let from = node.inputs.first().copied().unwrap_or(0);
        let plain = |value| vec![Term { value, norm: None }];
        // Summands are handed on only to a single reader; whoever shares a value gets it whole.
        let lazy = |maker: &mut Self, input: NodeId| {
            if maker.readers[input] > 1 {
                let value = maker.whole(input);
                vec![Term { value, norm: None }]
            } else {
                maker.terms[input].clone()
            }
        };
        Ok(match &node.op {
            Op::Input { .. } => plain(self.value(shape)),
            Op::Identity => lazy(self, from),
            Op::Conv2d(conv) => {
                let x = self.whole(from);
                let geometry = Geometry::new(conv, self.shapes[from], shape);
                let weight =
                    self.param(id, Field::Weight, inward(&conv.weight.data, &conv.weight.shape, conv.groups));
                let bias = conv.bias.clone().map(|b| self.param(id, Field::Bias, b));
                let out = self.value(shape);
                self.plan.steps.push(Step::Conv { geometry, x, out, weight, bias });
                plain(out)
            }
            Op::Linear(linear) => {
                let x = self.whole(from);
                let weight =
                    self.param(id, Field::Weight, inward(&linear.weight.data, &linear.weight.shape, 1));
                let bias = linear.bias.clone().map(|b| self.param(id, Field::Bias, b));
                let out = self.value(shape);
                self.plan.steps.push(Step::Linear { x, out, weight, bias });
                plain(out)
            }
            Op::BatchNorm(bn) => {
                let value = self.whole(from);
                let scale = self.param(id, Field::Scale, bn.scale.clone());
                let shift = self.param(id, Field::Shift, bn.shift.clone());
                let (mean, var) = (bn.mean.clone(), bn.var.clone());
                self.plan.norms.push(Norm { node: id, value, scale, shift, eps: bn.eps, mean, var });
                vec![Term { value, norm: Some(self.plan.norms.len() - 1) }]
            }
            Op::Add => node.inputs.iter().flat_map(|&i| lazy(self, i)).collect(),
            Op::Activation(a) => {
                let terms = lazy(self, from);
                let terms = self.two(terms, from);
                let curve = match (a.kind, &a.threshold) {
                    (ActivationKind::Relu, _) => Curve::Relu,
                    (ActivationKind::Clip { ceiling }, _) => Curve::Clip(ceiling),
                    (ActivationKind::Qcfs { levels }, Some(Threshold::Layer(t))) => {
                        Curve::Qcfs(levels as f32, self.param(id, Field::Threshold, vec![*t]))
                    }
                    (ActivationKind::Qcfs { levels }, Some(Threshold::Channel(t))) => {
                        Curve::Qcfs(levels as f32, self.param(id, Field::Threshold, t.clone()))
                    }
                    (ActivationKind::Qcfs { .. }, None) => {
                        return Err(
                            Error::new(Kind::Value, "a QCFS activation has no threshold").node(&node.name)
                        );
                    }
                };
                let out = self.value(shape);
                self.plan.steps.push(Step::Point { terms, curve: Some(curve), out });
                plain(out)
            }
            Op::Pool(pool) => {
                let x = self.whole(from);
                let out = self.value(shape);
                self.plan.steps.push(Step::Pool { pool: pool.clone(), x, out });
                plain(out)
            }
            Op::GlobalAverage => {
                let x = self.whole(from);
                let out = self.value(shape);
                self.plan.steps.push(Step::GlobalAverage { x, out });
                plain(out)
            }
            Op::Concat => {
                let xs = node.inputs.iter().map(|&i| self.whole(i)).collect();
                let out = self.value(shape);
                self.plan.steps.push(Step::Concat { xs, out });
                plain(out)
            }
            Op::Flatten => {
                let x = self.whole(from);
                let out = self.value(shape);
                self.plan.steps.push(Step::Flatten { x, out });
                plain(out)
            }
            Op::Shortcut(shortcut) => {
                let x = self.whole(from);
                let out = self.value(shape);
                self.plan.steps.push(Step::Shortcut { shortcut: shortcut.clone(), x, out });
                plain(out)
            }
        })
    }
}

/// `[out, in, kh, kw]` to `[group][kh·kw][in][out]`; `[out, in]` to `[in][out]`.
pub fn inward(weights: &[f32], shape: &[usize], groups: usize) -> Vec<f32> {
    let (out, per, taps) = (shape[0] / groups, shape[1], shape[2..].iter().product::<usize>());
    let mut numbers = Vec::with_capacity(weights.len());
    for group in weights.chunks_exact((out * per * taps).max(1)) {
        for tap in 0..taps {
            for i in 0..per {
                numbers.extend((0..out).map(|o| group[(o * per + i) * taps + tap]));
            }
        }
    }
    numbers
}

/// The way back.
pub fn outward(weights: &[f32], shape: &[usize], groups: usize) -> Vec<f32> {
    let (out, per, taps) = (shape[0] / groups, shape[1], shape[2..].iter().product::<usize>());
    let mut numbers = Vec::with_capacity(weights.len());
    for group in weights.chunks_exact((out * per * taps).max(1)) {
        for o in 0..out {
            for i in 0..per {
                numbers.extend((0..taps).map(|tap| group[(tap * per + i) * out + o]));
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_come_back_as_they_were() {
        let shape = [6, 2, 3, 1];
        let weights: Vec<f32> = (0..36).map(|i| i as f32).collect();
        assert_eq!(outward(&inward(&weights, &shape, 3), &shape, 3), weights);
        assert_eq!(inward(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3], 1), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
