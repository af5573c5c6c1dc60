//! Writes zoo networks node by node, keeping shapes and parameters' names.
//! In: layers with the names that state dicts give their modules. Out: a blueprint.

use super::{Blueprint, Field, Parameter};
use crate::error::{Error, Kind, Result};
use crate::network::op::{
    Activation, ActivationKind, BatchNorm, Conv2d, Linear, Op, Pool, PoolKind, Shortcut, Start,
};
use crate::network::shape::{self, Shape};
use crate::network::{Network, NodeId};
use crate::tensor::Tensor;

/// The most weights that a network is built with: 2 GiB of them.
const MAX_WEIGHTS: usize = 1 << 29;

/// Names of one module in state dicts, the usual one first.
pub(super) type Names = Vec<String>;

/// `name` and others for the same module.
pub(super) fn names(all: &[&str]) -> Names {
    all.iter().map(|name| name.to_string()).collect()
}

/// A network in the making. Every method appends to the last node unless told otherwise.
pub(super) struct Builder {
    network: Network,
    shapes: Vec<Shape>,
    parameters: Vec<Parameter>,
    /// Weights so far.
    weights: usize,
}

impl Builder {
    pub(super) fn new(name: &str, input: Shape) -> Self {
        Builder { network: Network::new(name, input), shapes: vec![input], parameters: vec![], weights: 0 }
    }

    /// The last node.
    pub(super) fn last(&self) -> NodeId {
        self.network.output
    }

    /// Shape of a node's value.
    pub(super) fn shape(&self, node: NodeId) -> Shape {
        self.shapes[node]
    }

    /// A line for the network's notes.
    pub(super) fn note(&mut self, note: &str) {
        self.network.notes.push(note.into());
    }

    /// Checks what can be checked without looking at weights.
    pub(super) fn finish(self) -> Result<Blueprint> {
        let bad = self.shapes.iter().position(|s| {
            let size = s.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            !size.is_some_and(|n| (1..=shape::MAX_VALUE).contains(&n))
        });
        if let Some(node) = bad {
            return Err(Error::new(Kind::Shape, format!("the image does not suit `{}`", self.network.name))
                .node(&self.network.nodes[node].name)
                .found(format!("a value of {}", shape::text(self.shapes[node])))
                .hint(format!("the image is {}", shape::text(self.shapes[0]))));
        }
        if self.weights > MAX_WEIGHTS {
            return Err(Error::new(
                Kind::Limit,
                format!("`{}` would have too many weights", self.network.name),
            )
            .expected(format!("at most {MAX_WEIGHTS}"))
            .found(self.weights.to_string())
            .hint(format!("the image is {}", shape::text(self.shapes[0]))));
        }
        Ok(Blueprint { network: self.network, parameters: self.parameters })
    }

    fn push(&mut self, name: &str, op: Op, inputs: &[NodeId], shape: Shape) -> NodeId {
        self.shapes.push(shape);
        self.network.push(name, op, inputs)
    }

    fn parameter(&mut self, node: NodeId, field: Field, modules: &Names, keys: &[&str], shape: Vec<usize>) {
        let names = modules.iter().flat_map(|m| keys.iter().map(move |key| format!("{m}.{key}"))).collect();
        self.parameters.push(Parameter { node, field, names, shape });
    }

    /// Weights of zero; none where there are too many, which [`Builder::finish`] refuses.
    fn zeros(&mut self, shape: &[usize]) -> Tensor {
        let size = shape.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        self.weights = self.weights.saturating_add(size);
        if self.weights > MAX_WEIGHTS { Tensor::default() } else { Tensor::zeros(shape) }
    }

    /// A square convolution without groups; `from` is the node it reads.
    pub(super) fn conv(
        &mut self,
        names: &Names,
        from: NodeId,
        out: usize,
        kernel: usize,
        stride: usize,
        bias: bool,
    ) -> NodeId {
        let [c, h, w] = self.shape(from);
        let pad = kernel / 2;
        let side = |n: usize| (n + 2 * pad).checked_sub(kernel).map_or(0, |room| room / stride + 1);
        let weight = vec![out, c, kernel, kernel];
        let op = Op::Conv2d(Conv2d {
            weight: self.zeros(&weight),
            bias: bias.then(|| vec![0.0; out]),
            stride: [stride; 2],
            padding: [pad; 4],
            dilation: [1; 2],
            groups: 1,
        });
        let node = self.push(&names[0], op, &[from], [out, side(h), side(w)]);
        self.parameter(node, Field::Weight, names, &["weight"], weight);
        if bias {
            self.parameter(node, Field::Bias, names, &["bias"], vec![out]);
        }
        node
    }

    /// A batch normalisation with PyTorch's usual ε.
    pub(super) fn norm(&mut self, names: &Names) -> NodeId {
        let from = self.last();
        let shape = self.shape(from);
        let zeros = || vec![0.0; shape[0]];
        let op = Op::BatchNorm(BatchNorm {
            scale: zeros(),
            shift: zeros(),
            mean: zeros(),
            var: zeros(),
            eps: 1e-5,
        });
        let node = self.push(&names[0], op, &[from], shape);
        for (field, key) in [
            (Field::Scale, "weight"),
            (Field::Shift, "bias"),
            (Field::Mean, "running_mean"),
            (Field::Var, "running_var"),
        ] {
            self.parameter(node, field, names, &[key], vec![shape[0]]);
        }
        node
    }

    /// An activation; its λ is `up` in the COS authors' code and `thresh` in the QCFS authors'.
    pub(super) fn act(&mut self, names: &Names) -> NodeId {
        let from = self.last();
        let op =
            Op::Activation(Activation { kind: ActivationKind::Relu, threshold: None, start: Start::Half });
        let node = self.push(&names[0], op, &[from], self.shape(from));
        self.parameter(node, Field::Threshold, names, &["up", "thresh"], vec![1]);
        node
    }

    /// A 2x2 average pool.
    pub(super) fn average(&mut self, name: &str) -> NodeId {
        let from = self.last();
        let [c, h, w] = self.shape(from);
        let op = Op::Pool(Pool {
            kind: PoolKind::Average { count_padding: true },
            kernel: [2, 2],
            stride: [2, 2],
            padding: [0; 4],
            ceil: false,
        });
        self.push(name, op, &[from], [c, h / 2, w / 2])
    }

    /// The mean over all positions.
    pub(super) fn global_average(&mut self, name: &str) -> NodeId {
        let from = self.last();
        let c = self.shape(from)[0];
        self.push(name, Op::GlobalAverage, &[from], [c, 1, 1])
    }

    /// A flat vector.
    pub(super) fn flatten(&mut self, name: &str) -> NodeId {
        let from = self.last();
        let n = self.shape(from).iter().product();
        self.push(name, Op::Flatten, &[from], [n, 1, 1])
    }

    /// A fully connected layer with bias.
    pub(super) fn linear(&mut self, names: &Names, out: usize) -> NodeId {
        let from = self.last();
        let n = self.shape(from)[0];
        let op = Op::Linear(Linear { weight: self.zeros(&[out, n]), bias: Some(vec![0.0; out]) });
        let node = self.push(&names[0], op, &[from], [out, 1, 1]);
        self.parameter(node, Field::Weight, names, &["weight"], vec![out, n]);
        self.parameter(node, Field::Bias, names, &["bias"], vec![out]);
        node
    }

    /// Every second pixel of `from`, with as many zero channels before as after.
    pub(super) fn shortcut(&mut self, name: &str, from: NodeId, out: usize, stride: usize) -> NodeId {
        let [c, h, w] = self.shape(from);
        let side = (out - c) / 2;
        let op = Op::Shortcut(Shortcut { stride: [stride; 2], before: side, after: out - c - side });
        self.push(name, op, &[from], [out, h.div_ceil(stride), w.div_ceil(stride)])
    }

    /// The sum of two nodes.
    pub(super) fn add(&mut self, name: &str, a: NodeId, b: NodeId) -> NodeId {
        self.push(name, Op::Add, &[a, b], self.shape(a))
    }
}
