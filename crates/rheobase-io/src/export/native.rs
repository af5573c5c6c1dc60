//! Writes Rheobase's own files.
//! In: a network. Out: one `.safetensors`, the graph in its metadata; it appears whole or not at all.

use crate::files;
use crate::import::native::bearable;
use crate::import::native::schema::{Graph, KEY};
use rheobase_core::network::op::{Op, Start, Threshold};
use rheobase_core::network::shape;
use rheobase_core::samples::Normalisation;
use rheobase_core::{Error, Kind, Network, Result};
use safetensors::tensor::{Dtype, View};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

/// Writes the network to `path`, replacing what was there; [`crate::import::native::read`] gives the same network back.
pub fn write(network: &Network, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let bytes = to_bytes(network).map_err(|e| e.file(path))?;
    files::write(path, &bytes)
}

/// The file's bytes: the same for the same network.
pub fn to_bytes(network: &Network) -> Result<Vec<u8>> {
    let shapes = shape::infer(network)?;
    bearable(shapes[network.output])?;
    if let Some(n) = &network.normalisation {
        Normalisation::new(n.mean.clone(), n.std.clone())?;
    }
    let text = serde_json::to_string(&Graph::of(network)?).map_err(internal)?;
    let mut tensors = vec![];
    for (index, node) in network.nodes.iter().enumerate() {
        for (field, numbers) in fields(&node.op, shapes[index]) {
            tensors.push((format!("{index}.{field}"), numbers));
        }
    }
    safetensors::serialize(tensors, Some(HashMap::from([(KEY.to_string(), text)]))).map_err(internal)
}

/// A node's tensors by field.
fn fields(op: &Op, [c, h, w]: shape::Shape) -> Vec<(&'static str, Numbers<'_>)> {
    let vector = |data| Numbers::vector(data);
    match op {
        Op::Conv2d(conv) => weights(&conv.weight, conv.bias.as_deref()),
        Op::Linear(linear) => weights(&linear.weight, linear.bias.as_deref()),
        Op::BatchNorm(bn) => vec![
            ("scale", vector(&bn.scale)),
            ("shift", vector(&bn.shift)),
            ("mean", vector(&bn.mean)),
            ("var", vector(&bn.var)),
        ],
        Op::Activation(a) => {
            let threshold = a.threshold.as_ref().map(|t| match t {
                Threshold::Layer(one) => vector(std::slice::from_ref(one)),
                Threshold::Channel(all) => vector(all),
            });
            let start = match &a.start {
                Start::Half | Start::Zero => None,
                Start::Neuron(data) => Some(Numbers { shape: vec![h, w, c], data }),
            };
            threshold.map(|t| ("threshold", t)).into_iter().chain(start.map(|s| ("start", s))).collect()
        }
        Op::Input { .. }
        | Op::Pool(_)
        | Op::GlobalAverage
        | Op::Add
        | Op::Concat
        | Op::Flatten
        | Op::Shortcut(_)
        | Op::Identity => vec![],
    }
}

fn weights<'a>(
    weight: &'a rheobase_core::Tensor,
    bias: Option<&'a [f32]>,
) -> Vec<(&'static str, Numbers<'a>)> {
    let weight = ("weight", Numbers { shape: weight.shape.clone(), data: &weight.data });
    std::iter::once(weight).chain(bias.map(|b| ("bias", Numbers::vector(b)))).collect()
}

/// Numbers of the network as the safetensors crate wants to see them.
pub struct Numbers<'a> {
    shape: Vec<usize>,
    data: &'a [f32],
}

impl<'a> Numbers<'a> {
    /// A flat list.
    pub fn vector(data: &'a [f32]) -> Self {
        Numbers { shape: vec![data.len()], data }
    }
}

impl View for Numbers<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.data.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        4 * self.data.len()
    }
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Format, "the network does not fit the file").found(error.to_string())
}
