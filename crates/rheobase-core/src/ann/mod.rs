//! The network read as an ANN: a dense f32 forward pass.
//! In: a network and an image `[height, width, channels]`. Out: logits, and on the way every activation's input.
//! Values are `[height, width, channels]`; one image is one thread's work, so the result depends on no thread count or batch.

mod conv;
pub mod pool;

use crate::error::Result;
use crate::network::shape::{self, Shape};
use crate::network::{Activation, ActivationKind, BatchNorm, Network, NodeId, Op, Threshold};
use rheobase_kernels::Isa;
use rheobase_kernels::activate::{self as kernel, Activate};
use rheobase_kernels::matmul::{self, Product};

/// A network prepared for dense forward passes.
pub struct Dense<'a> {
    network: &'a Network,
    shapes: Vec<Shape>,
    packed: Vec<Vec<f32>>,
    /// The last node that reads each value.
    last: Vec<NodeId>,
}

/// Sees the input and output of each activation node: node, pre-activation and result, `[height, width, channels]`.
pub type Observer<'a> = dyn FnMut(NodeId, &[f32], &[f32]) + 'a;

impl<'a> Dense<'a> {
    /// Checks the network and packs its weights.
    pub fn new(network: &'a Network) -> Result<Self> {
        let shapes = shape::infer(network)?;
        let packed = network.nodes.iter().map(|node| pack(&node.op)).collect();
        let mut last = vec![0; network.nodes.len()];
        for (id, node) in network.nodes.iter().enumerate() {
            for &input in &node.inputs {
                last[input] = id;
            }
        }
        last[network.output] = network.nodes.len();
        Ok(Dense { network, shapes, packed, last })
    }

    /// Shape of every node's value.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// Logits of one normalised image `[height, width, channels]`.
    pub fn forward(&self, image: &[f32]) -> Vec<f32> {
        self.forward_observed(image, &mut |_, _, _| {})
    }

    /// The same, showing every activation to `observe`.
    pub fn forward_observed(&self, image: &[f32], observe: &mut Observer<'_>) -> Vec<f32> {
        let mut values: Vec<Vec<f32>> = vec![vec![]; self.network.nodes.len()];
        let mut scratch = Vec::new();
        for (id, node) in self.network.nodes.iter().enumerate() {
            if self.last[id] < id {
                continue; // nobody reads it
            }
            let value = if id == 0 {
                image.to_vec()
            } else {
                let inputs: Vec<&[f32]> = node.inputs.iter().map(|&i| values[i].as_slice()).collect();
                self.node(id, &inputs, &mut scratch)
            };
            if let Op::Activation(_) = node.op {
                observe(id, &values[node.inputs[0]], &value);
            }
            for &input in &node.inputs {
                if self.last[input] == id {
                    values[input] = vec![];
                }
            }
            values[id] = value;
        }
        std::mem::take(&mut values[self.network.output])
    }

    fn node(&self, id: NodeId, inputs: &[&[f32]], scratch: &mut Vec<f32>) -> Vec<f32> {
        let node = &self.network.nodes[id];
        let from: Vec<Shape> = node.inputs.iter().map(|&i| self.shapes[i]).collect();
        apply(&node.op, &self.packed[id], inputs, &from, self.shapes[id], scratch)
    }
}

/// An operation's weights as [`apply`] reads them: `[group][taps · in / groups][out / groups]` of a convolution, `[in][out]` of a
/// linear layer, nothing of others.
pub fn pack(op: &Op) -> Vec<f32> {
    match op {
        Op::Conv2d(c) => conv::pack(c),
        Op::Linear(l) => {
            let (out, n) = (l.weight.shape[0], l.weight.shape[1]);
            (0..n * out).map(|i| l.weight.data[i % out * n + i / out]).collect()
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
        | Op::Identity => vec![],
    }
}

/// The value of one node for one image from its inputs' values, of shapes `from`. Shapes must be those that
/// [`shape::infer`] gives; the input's own value is what it is given.
pub fn apply(
    op: &Op,
    packed: &[f32],
    inputs: &[&[f32]],
    from: &[Shape],
    to: Shape,
    scratch: &mut Vec<f32>,
) -> Vec<f32> {
    match op {
        Op::Input { .. } | Op::Identity => inputs[0].to_vec(),
        Op::Conv2d(c) => conv::forward(c, packed, inputs[0], from[0], to, scratch),
        Op::Linear(l) => {
            let (k, n) = (from[0][0], to[0]);
            let mut out = l.bias.clone().unwrap_or_else(|| vec![0.0; n]);
            let product = Product { m: 1, k, n, strides: [k, n, n], add: true };
            matmul::f32(&product, inputs[0], packed, &mut out);
            out
        }
        Op::BatchNorm(bn) => batch_norm(bn, inputs[0]),
        Op::Activation(a) => {
            let mut out = inputs[0].to_vec();
            activate(a, &mut out);
            out
        }
        Op::Pool(p) => pool::forward(p, inputs[0], from[0], to),
        Op::GlobalAverage => pool::global(inputs[0], from[0]),
        Op::Add => {
            let mut sum = inputs[0].to_vec();
            for other in &inputs[1..] {
                sum.iter_mut().zip(*other).for_each(|(s, x)| *s += x);
            }
            sum
        }
        Op::Concat => {
            let mut out = Vec::with_capacity(to.iter().product());
            for p in 0..to[1] * to[2] {
                for (x, [c, ..]) in inputs.iter().zip(from) {
                    out.extend_from_slice(&x[p * c..(p + 1) * c]);
                }
            }
            out
        }
        Op::Flatten => {
            let [c, h, w] = from[0];
            (0..c * h * w).map(|i| inputs[0][i % (h * w) * c + i / (h * w)]).collect()
        }
        Op::Shortcut(s) => {
            let [c, _, w] = from[0];
            let mut out = vec![0.0; to.iter().product()];
            for (p, pixel) in out.chunks_exact_mut(to[0]).enumerate() {
                let from = (p / to[2] * s.stride[0] * w + p % to[2] * s.stride[1]) * c;
                pixel[s.before..s.before + c].copy_from_slice(&inputs[0][from..from + c]);
            }
            out
        }
    }
}

fn batch_norm(bn: &BatchNorm, x: &[f32]) -> Vec<f32> {
    let c = bn.scale.len();
    let scale: Vec<f32> = (0..c).map(|i| bn.scale[i] / (bn.var[i] + bn.eps).sqrt()).collect();
    x.chunks_exact(c)
        .flat_map(|x| {
            x.iter().enumerate().map(|(i, x)| (x - bn.mean[i]) * scale[i] + bn.shift[i]).collect::<Vec<_>>()
        })
        .collect()
}

/// What the ANN makes of pre-activations, in place.
pub fn activate(a: &Activation, numbers: &mut [f32]) {
    let what = match (a.kind, &a.threshold) {
        (ActivationKind::Clip { ceiling }, _) => Activate::Clip(ceiling),
        (ActivationKind::Qcfs { levels }, Some(Threshold::Layer(t))) => {
            Activate::Qcfs(levels as f32, std::slice::from_ref(t))
        }
        (ActivationKind::Qcfs { levels }, Some(Threshold::Channel(t))) => Activate::Qcfs(levels as f32, t),
        (ActivationKind::Relu | ActivationKind::Qcfs { .. }, _) => Activate::Relu,
    };
    kernel::activate(Isa::best(), what, numbers);
}

/// The class of the largest logit; the first of equals.
pub fn argmax<T: PartialOrd>(logits: &[T]) -> usize {
    let mut best = 0;
    for (i, x) in logits.iter().enumerate() {
        if *x > logits[best] {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests;
