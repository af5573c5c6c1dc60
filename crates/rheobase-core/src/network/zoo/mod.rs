//! The zoo: the paper's networks and a few more, by name.
//! In: a name, the number of classes, an image shape. Out: a network, and for every parameter the names that
//! state dicts give it.

mod builder;
mod cnn;
mod random;
mod resnet;
mod vgg;

use super::op::Op;
use super::{Network, NodeId};
use crate::error::{Error, Kind, Result};
use builder::Builder;

pub use random::random;

/// The largest number of classes that a zoo network is built with.
pub const MAX_CLASSES: usize = 65_536;

/// A network of the zoo.
pub struct Arch {
    /// As `--arch` takes it.
    pub name: &'static str,
    /// One line for help and errors.
    pub about: &'static str,
    /// Image shapes it is used with (channels, height, width); the first is the default.
    pub inputs: &'static [[usize; 3]],
    /// Classes it usually has.
    pub classes: usize,
    layout: fn(&mut Builder, usize),
}

/// Every network of the zoo.
pub static ZOO: &[Arch] = &[
    Arch {
        name: "vgg16",
        about: "VGG-16 with BatchNorm, average pools and a 4096-4096 classifier",
        inputs: &[[3, 32, 32], [3, 224, 224]],
        classes: 100,
        layout: vgg::vgg16,
    },
    Arch {
        name: "resnet18",
        about: "ResNet-18 with a 3x3 stem without max pool, 1x1-convolution shortcuts",
        inputs: &[[3, 32, 32], [3, 224, 224]],
        classes: 100,
        layout: |b, classes| resnet::wide(b, &[2, 2, 2, 2], classes),
    },
    Arch {
        name: "resnet34",
        about: "ResNet-34 with a 3x3 stem without max pool, 1x1-convolution shortcuts",
        inputs: &[[3, 32, 32], [3, 224, 224]],
        classes: 100,
        layout: |b, classes| resnet::wide(b, &[3, 4, 6, 3], classes),
    },
    Arch {
        name: "resnet20",
        about: "ResNet-20 with 16/32/64 channels, 1x1-convolution shortcuts",
        inputs: &[[3, 32, 32]],
        classes: 100,
        layout: resnet::resnet20,
    },
    Arch {
        name: "resnet20-pad",
        about: "ResNet-20 with 16/32/64 channels, parameter-free shortcuts",
        inputs: &[[3, 32, 32]],
        classes: 10,
        layout: |b, classes| resnet::padded(b, 3, classes),
    },
    Arch {
        name: "resnet32-pad",
        about: "ResNet-32 with 16/32/64 channels, parameter-free shortcuts",
        inputs: &[[3, 32, 32]],
        classes: 10,
        layout: |b, classes| resnet::padded(b, 5, classes),
    },
    Arch {
        name: "resnet44-pad",
        about: "ResNet-44 with 16/32/64 channels, parameter-free shortcuts",
        inputs: &[[3, 32, 32]],
        classes: 10,
        layout: |b, classes| resnet::padded(b, 7, classes),
    },
    Arch {
        name: "resnet56-pad",
        about: "ResNet-56 with 16/32/64 channels, parameter-free shortcuts",
        inputs: &[[3, 32, 32]],
        classes: 10,
        layout: |b, classes| resnet::padded(b, 9, classes),
    },
    Arch {
        name: "cnn",
        about: "six 3x3 convolutions (16/32/48) with BatchNorm and average pools, for images of 8x8 and larger",
        inputs: &[[1, 8, 8], [3, 32, 32]],
        classes: 10,
        layout: cnn::cnn,
    },
];

/// Which of a node's numbers a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Weights of a convolution or linear layer.
    Weight,
    /// Biases of a convolution or linear layer.
    Bias,
    /// γ of a batch normalisation.
    Scale,
    /// β of a batch normalisation.
    Shift,
    /// Running mean of a batch normalisation.
    Mean,
    /// Running variance of a batch normalisation.
    Var,
    /// λ of an activation; only state dicts of QCFS networks have it.
    Threshold,
}

/// A parameter of a zoo network.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its node.
    pub node: NodeId,
    /// Which of the node's numbers.
    pub field: Field,
    /// Its names in state dicts: the usual one first, then other repositories'.
    pub names: Vec<String>,
    /// Its shape in a state dict; a threshold's is `[1]`.
    pub shape: Vec<usize>,
}

/// A zoo network with all parameters zero and every activation a ReLU, and where its parameters come from.
#[derive(Debug, Clone)]
pub struct Blueprint {
    /// The graph.
    pub network: Network,
    /// In node order.
    pub parameters: Vec<Parameter>,
}

/// The zoo's network of this name.
pub fn find(name: &str) -> Result<&'static Arch> {
    ZOO.iter().find(|arch| arch.name == name).ok_or_else(|| {
        Error::new(Kind::Usage, format!("unknown network: `{name}`")).hint(format!("known: {}", known()))
    })
}

/// The zoo's names, for help and errors.
pub fn known() -> String {
    let names: Vec<_> = ZOO.iter().map(|arch| format!("`{}`", arch.name)).collect();
    names.join(", ")
}

/// A zoo network with its parameters' names; `input` is channels, height, width.
///
/// ```
/// use rheobase_core::network::zoo;
/// let blueprint = zoo::blueprint("resnet20-pad", 10, None).unwrap();
/// assert_eq!(blueprint.parameters[0].names[0], "conv1.weight");
/// assert_eq!(blueprint.parameters[0].shape, [16, 3, 3, 3]);
/// ```
pub fn blueprint(name: &str, classes: usize, input: Option<[usize; 3]>) -> Result<Blueprint> {
    const LARGEST_SIDE: usize = 4096;
    let arch = find(name)?;
    if !(1..=MAX_CLASSES).contains(&classes) {
        return Err(Error::new(Kind::Limit, "number of classes is out of range")
            .expected(format!("1 to {MAX_CLASSES}"))
            .found(classes.to_string()));
    }
    let input = input.unwrap_or(arch.inputs[0]);
    if input.iter().any(|side| !(1..=LARGEST_SIDE).contains(side)) {
        return Err(Error::new(Kind::Limit, "image shape is out of range")
            .expected(format!("1 to {LARGEST_SIDE} channels, height, width"))
            .found(super::shape::text(input)));
    }
    let mut builder = Builder::new(arch.name, input);
    (arch.layout)(&mut builder, classes);
    builder.finish()
}

/// A zoo network with zero weights of the right shapes; `input` is channels, height, width.
pub fn build(name: &str, classes: usize, input: Option<[usize; 3]>) -> Result<Network> {
    blueprint(name, classes, input).map(|b| b.network)
}

impl Parameter {
    /// Where the parameter's numbers live in its network; `None` for thresholds and foreign networks.
    pub fn numbers<'a>(&self, network: &'a mut Network) -> Option<&'a mut Vec<f32>> {
        let op = &mut network.nodes.get_mut(self.node)?.op;
        match (op, self.field) {
            (Op::Conv2d(conv), Field::Weight) => Some(&mut conv.weight.data),
            (Op::Conv2d(conv), Field::Bias) => conv.bias.as_mut(),
            (Op::Linear(linear), Field::Weight) => Some(&mut linear.weight.data),
            (Op::Linear(linear), Field::Bias) => linear.bias.as_mut(),
            (Op::BatchNorm(bn), Field::Scale) => Some(&mut bn.scale),
            (Op::BatchNorm(bn), Field::Shift) => Some(&mut bn.shift),
            (Op::BatchNorm(bn), Field::Mean) => Some(&mut bn.mean),
            (Op::BatchNorm(bn), Field::Var) => Some(&mut bn.var),
            (
                Op::Conv2d(_)
                | Op::Linear(_)
                | Op::BatchNorm(_)
                | Op::Input { .. }
                | Op::Activation(_)
                | Op::Pool(_)
                | Op::GlobalAverage
                | Op::Add
                | Op::Concat
                | Op::Flatten
                | Op::Shortcut(_)
                | Op::Identity,
                _,
            ) => None,
        }
    }
}

#[cfg(test)]
mod tests;
