//! Checkpoints: everything that training needs to go on as if it had never stopped.
//! In: weights, momenta, statistics, settings, how far. Out: one file that appears whole or not at all, and back.

use crate::net::{Net, Param};
use crate::optimiser::{Average, Sgd};
use crate::recipe::Recipe;
use rheobase_core::{Error, Kind, Result};
use rheobase_io::export::native::Numbers;
use rheobase_io::files;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// The metadata key that makes a file a checkpoint.
const KEY: &str = "rheobase-checkpoint";
/// The version of the format.
const FORMAT: u64 = 1;

/// What an epoch gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1 on.
    pub epoch: usize,
    /// Mean loss over the training images.
    pub loss: f64,
    /// Share of the (augmented) training images that were right.
    pub train_accuracy: f64,
    /// Share of the test images that are right.
    pub test_accuracy: f64,
    /// Learning rate at its start.
    pub lr: f32,
    /// Training images a second.
    pub images_per_second: f64,
    /// Seconds, judging included.
    pub seconds: f64,
}

/// How far training is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Epochs that are done.
    pub epoch: usize,
    /// Batches of the next one that are done.
    pub batch: usize,
    /// Sum of their losses times their images.
    pub loss: f64,
    /// Images of them.
    pub images: usize,
    /// Images of them that were right.
    pub right: usize,
    /// Seconds that they took.
    pub seconds: f64,
    /// What the epochs before gave.
    pub history: Vec<Epoch>,
}

/// What a run is: a checkpoint of another one is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The network's name.
    pub network: String,
    /// Its parameters: node, field, numbers.
    pub layout: String,
    /// The data set as a person names it, and its size.
    pub data: String,
    /// Where the weights came from: a file, or nothing.
    pub init: Option<String>,
    /// The teacher's file.
    pub teacher: Option<String>,
    /// The settings.
    pub recipe: Recipe,
}

impl Identity {
    /// One line that differs between networks of different make.
    pub fn layout(net: &Net) -> String {
        let one = |p: &Param| format!("{}.{}:{}", p.node, p.field.name(), p.data.len());
        net.params().iter().map(one).collect::<Vec<_>>().join(" ")
    }

    /// Refuses a checkpoint of another run.
    fn check(&self, found: &Identity) -> Result<()> {
        let differ = |what: &str, expected: &str, found: &str| {
            Err(Error::new(Kind::Usage, format!("the checkpoint is of another run: its {what} differs"))
                .expected(expected)
                .found(found)
                .hint("go on with the settings it was made with, or start anew without `--resume`"))
        };
        let none = |x: &Option<String>| x.clone().unwrap_or_else(|| "none".into());
        match found {
            f if f.network != self.network || f.layout != self.layout => {
                let shown = |i: &Identity| {
                    let same = f.network == self.network;
                    if same { format!("{} of another shape", i.network) } else { i.network.clone() }
                };
                differ("network", &self.network, &shown(f))
            }
            f if f.data != self.data => differ("data set", &self.data, &f.data),
            f if f.init != self.init => differ("start (`--init`)", &none(&self.init), &none(&f.init)),
            f if f.teacher != self.teacher => differ("teacher", &none(&self.teacher), &none(&f.teacher)),
            f => match self.recipe.difference(&f.recipe) {
                Some((name, here, there)) => differ(&format!("`{name}`"), &here, &there),
                None => Ok(()),
            },
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u64,
    identity: Identity,
    state: State,
    /// Steps that the average of the weights is of.
    #[serde(default)]
    averaged: u64,
}

/// Writes it.
pub fn write(
    path: &Path,
    identity: &Identity,
    state: &State,
    net: &Net,
    sgd: &Sgd,
    average: &Average,
) -> Result<()> {
    let averaged = average.steps;
    let header = Header { format: FORMAT, identity: identity.clone(), state: state.clone(), averaged };
    let text = serde_json::to_string(&header).map_err(internal)?;
    let mut tensors = vec![];
    for (param, velocity) in net.params().iter().zip(&sgd.velocity) {
        tensors.push((name(param.node, param.field.name()), Numbers::vector(&param.data)));
        tensors
            .push((name(param.node, &format!("{}.velocity", param.field.name())), Numbers::vector(velocity)));
    }
    for (node, [mean, var]) in net.statistics() {
        tensors.push((name(node, "mean"), Numbers::vector(mean)));
        tensors.push((name(node, "var"), Numbers::vector(var)));
    }
    for (i, numbers) in average.numbers.iter().enumerate() {
        tensors.push((format!("average.{i}"), Numbers::vector(numbers)));
    }
    let bytes =
        safetensors::serialize(tensors, Some(HashMap::from([(KEY.to_string(), text)]))).map_err(internal)?;
    files::write(path, &bytes)
}

/// Reads it into a net and an optimiser of the same run; an error leaves net and optimiser as they were.
pub fn read(
    path: &Path,
    identity: &Identity,
    net: &mut Net,
    sgd: &mut Sgd,
    average: &mut Average,
) -> Result<State> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, &e))?;
    restore(&bytes, identity, net, sgd, average).map_err(|e| e.file(path))
}

fn restore(
    bytes: &[u8],
    identity: &Identity,
    net: &mut Net,
    sgd: &mut Sgd,
    average: &mut Average,
) -> Result<State> {
    let damaged = |e: String| {
        Error::new(Kind::Format, "not a checkpoint, or damaged")
            .found(e)
            .hint("start anew without `--resume`")
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(e.to_string()))?;
    let text = metadata.metadata().as_ref().and_then(|m| m.get(KEY));
    let text = text.ok_or_else(|| damaged("a file without training state".into()))?;
    let header: Header = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
    if header.format != FORMAT {
        return Err(Error::new(Kind::Unsupported, "a checkpoint of another version")
            .expected(format!("format {FORMAT}"))
            .found(format!("format {}", header.format)));
    }
    identity.check(&header.identity)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(e.to_string()))?;
    let numbers = |name: String, len: usize| -> Result<Vec<f32>> {
        let view = tensors.tensor(&name).map_err(|e| damaged(format!("{name}: {e}")))?;
        if view.dtype() != Dtype::F32 || view.data().len() != 4 * len {
            return Err(damaged(format!("{name} has another size")));
        }
        Ok(view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    };
    let mut params = vec![];
    for p in net.params() {
        let field = p.field.name();
        params.push(numbers(name(p.node, field), p.data.len())?);
        params.push(numbers(name(p.node, &format!("{field}.velocity")), p.data.len())?);
    }
    let mut statistics = vec![];
    for (node, [mean, _]) in net.statistics() {
        statistics.push([numbers(name(node, "mean"), mean.len())?, numbers(name(node, "var"), mean.len())?]);
    }
    let kept: Result<Vec<_>> = average
        .numbers
        .iter()
        .enumerate()
        .map(|(i, have)| numbers(format!("average.{i}"), have.len()))
        .collect();
    average.numbers = kept?;
    average.steps = header.averaged;
    let mut params = params.into_iter();
    for (param, velocity) in net.params_mut().iter_mut().zip(&mut sgd.velocity) {
        if let (Some(data), Some(v)) = (params.next(), params.next()) {
            param.data = data;
            *velocity = v;
        }
    }
    for ((_, [mean, var]), [m, v]) in net.statistics_mut().zip(statistics) {
        *mean = m;
        *var = v;
    }
    Ok(header.state)
}

fn name(node: usize, field: &str) -> String {
    format!("{node}.{field}")
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Format, "the checkpoint does not fit a file").found(error.to_string())
}
