//! The one graph type: nodes in order, weights inside, both readings (ANN and SNN) use it.
//! In: nodes from an importer or the zoo. Out: plain data with public fields, checked by [`Network::check`].

pub mod cost;
pub mod fold;
pub mod op;
pub mod shape;
pub mod spec;
pub mod zoo;

pub use op::{
    Activation, ActivationKind, BatchNorm, Conv2d, Linear, Op, Pool, PoolKind, Shortcut, Sides, Start,
    Threshold,
};
pub use spec::SpikingNetwork;

use crate::error::Result;
use crate::samples::Normalisation;

/// Index of a node, and of the value that it makes.
pub type NodeId = usize;

/// One operation with its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// For people and errors only; need not be unique.
    pub name: String,
    /// Nodes whose values it reads; all come before it.
    pub inputs: Vec<NodeId>,
    /// What it does.
    pub op: Op,
}

/// A convolutional classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Such as `resnet20`.
    pub name: String,
    /// In order of computation; node 0 is the input.
    pub nodes: Vec<Node>,
    /// The node whose value is the logits, (classes, 1, 1).
    pub output: NodeId,
    /// Class names, empty where they are not known.
    pub classes: Vec<String>,
    /// The normalisation the network was trained with, where it is known.
    pub normalisation: Option<Normalisation>,
    /// What was changed on the way here (a pool replaced, a softmax dropped, ...), a line each.
    pub notes: Vec<String>,
}

impl Network {
    /// A network with an input and nothing else; `output` is the input until [`Network::push`] adds nodes.
    pub fn new(name: impl Into<String>, input: [usize; 3]) -> Self {
        let input = Node { name: "input".into(), inputs: vec![], op: Op::Input { shape: input } };
        Network {
            name: name.into(),
            nodes: vec![input],
            output: 0,
            classes: vec![],
            normalisation: None,
            notes: vec![],
        }
    }

    /// Appends a node, makes it the output and returns its index.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> NodeId {
        self.nodes.push(Node { name: name.into(), inputs: inputs.to_vec(), op });
        self.output = self.nodes.len() - 1;
        self.output
    }

    /// Channels, height, width of the image.
    pub fn input_shape(&self) -> [usize; 3] {
        match self.nodes.first().map(|n| &n.op) {
            Some(Op::Input { shape }) => *shape,
            _ => [0; 3],
        }
    }

    /// Checks order, inputs, shapes and numbers of every node.
    pub fn check(&self) -> Result<()> {
        shape::infer(self).map(|_| ())
    }

    /// How many nodes read each node's value; the output counts as one reader.
    pub fn readers(&self) -> Vec<usize> {
        let mut readers = vec![0; self.nodes.len()];
        for node in &self.nodes {
            for &i in &node.inputs {
                readers[i] += 1;
            }
        }
        readers[self.output] += 1;
        readers
    }
}
