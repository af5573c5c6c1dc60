//! One struct per job: what the command line parses, JSON echoes and programs fill in.

use rheobase_core::convert::ThresholdRule;
use rheobase_core::integer::Precision;
use rheobase_core::neuron::{Iterations, Params, Spread};
use rheobase_core::samples::Normalisation;
use rheobase_core::{Error, Kind, Result};
use rheobase_io::data::Split;
use rheobase_io::import;
use serde::Serialize;
use std::path::PathBuf;

/// Serialises anything by its `Display`.
fn shown<T: std::fmt::Display, S: serde::Serializer>(
    value: &T,
    to: S,
) -> std::result::Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// The same for what may be left out.
fn shown_if_any<T: std::fmt::Display, S: serde::Serializer>(
    value: &Option<T>,
    to: S,
) -> std::result::Result<S::Ok, S::Error> {
    value.as_ref().map(T::to_string).serialize(to)
}

/// A path as it is shown: names need not be Unicode, JSON must be.
fn path<S: serde::Serializer>(path: &std::path::Path, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

/// Numbers as they were written: `0.485`, not the f64 nearest to the f32.
fn short<S: serde::Serializer>(values: &[f32], to: S) -> std::result::Result<S::Ok, S::Error> {
    crate::json::short(values).serialize(to)
}

/// The rule for thresholds where none is asked for.
pub const DEFAULT_THRESHOLD: ThresholdRule = ThresholdRule::Percentile(99.9);

/// A trained network in a file.
#[derive(Debug, Clone, Default, serde::Serialize)]
#[cfg_attr(feature = "clap", derive(clap::Args), command(next_help_heading = "Network"))]
pub struct ModelOptions {
    /// The network: Rheobase's own .safetensors, .onnx, or a PyTorch state dict with --arch
    #[cfg_attr(feature = "clap", arg(help_heading = None::<&'static str>))]
    #[serde(serialize_with = "path")]
    pub model: PathBuf,
    /// Architecture of a state dict (`rheobase list` names them)
    #[cfg_attr(feature = "clap", arg(long))]
    pub arch: Option<String>,
    /// Number of classes that the network must have
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub classes: Option<usize>,
    /// L of a state dict's QCFS activations [default: 4]
    #[cfg_attr(feature = "clap", arg(long, value_name = "L"))]
    pub levels: Option<u32>,
    /// Image shape of a state dict's network: channels, height, width
    #[cfg_attr(feature = "clap", arg(long, value_name = "CxHxW", value_parser = shape))]
    pub input: Option<[usize; 3]>,
}

impl ModelOptions {
    /// For the importers.
    pub fn import(&self) -> import::Options {
        import::Options {
            arch: self.arch.clone(),
            classes: self.classes,
            levels: self.levels,
            input: self.input,
        }
    }
}

/// Reads `3x32x32`.
pub fn shape(text: &str) -> Result<[usize; 3]> {
    let numbers: Vec<usize> = text.split('x').filter_map(|n| n.parse().ok()).collect();
    match numbers.as_slice() {
        &[c, h, w] if text.split('x').count() == 3 && c > 0 && h > 0 && w > 0 => Ok([c, h, w]),
        _ => {
            Err(Error::new(Kind::Usage, format!("not an image shape: `{text}`")).expected("such as 3x32x32"))
        }
    }
}

/// Images.
#[derive(Debug, Clone, Default, serde::Serialize)]
#[cfg_attr(feature = "clap", derive(clap::Args), command(next_help_heading = "Images"))]
pub struct DataOptions {
    /// Images: cifar10:DIR, cifar100:DIR, mnist:DIR, imagefolder:DIR or digits
    #[cfg_attr(feature = "clap", arg(long, value_name = "KIND:DIR"))]
    pub data: String,
    /// Which part to judge by: train or test
    #[cfg_attr(feature = "clap", arg(long, default_value_t = Split::Test))]
    pub split: Split,
    /// Use the first N images only
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub limit: Option<usize>,
    /// Mean per channel that images are normalised with, comma between [default: the model's, else the data set's]
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "X,...", value_delimiter = ',', allow_negative_numbers = true)
    )]
    #[serde(serialize_with = "short")]
    pub mean: Vec<f32>,
    /// Standard deviation per channel
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "X,...", value_delimiter = ',', allow_negative_numbers = true)
    )]
    #[serde(serialize_with = "short")]
    pub std: Vec<f32>,
    /// Image folders: short side before the centre is cut out [default: 256/224 of the network's]
    #[cfg_attr(feature = "clap", arg(long, value_name = "PIXELS"))]
    pub resize: Option<usize>,
}

impl DataOptions {
    /// The normalisation that was asked for, if any was.
    pub fn normalisation(&self) -> Result<Option<Normalisation>> {
        match (self.mean.is_empty(), self.std.is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Normalisation::new(self.mean.clone(), self.std.clone()).map(Some),
            _ => Err(Error::new(Kind::Usage, "normalisation needs both of `--mean` and `--std`")),
        }
    }
}

/// What to do with max-pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MaxPool {
    /// Replace them by average pools of the same windows.
    Avg,
}

impl std::str::FromStr for MaxPool {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "avg" => Ok(MaxPool::Avg),
            _ => Err(Error::new(Kind::Usage, format!("unknown replacement of max-pools: `{text}`"))
                .hint("known: avg")),
        }
    }
}

/// How a ReLU network gets its thresholds.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(feature = "clap", derive(clap::Args), command(next_help_heading = "Conversion"))]
pub struct ConvertOptions {
    /// Firing thresholds of a ReLU network from training images: max, percentile:P or mse [default: percentile:99.9]
    #[cfg_attr(feature = "clap", arg(long, value_name = "RULE"))]
    #[serde(serialize_with = "shown_if_any")]
    pub threshold: Option<ThresholdRule>,
    /// One threshold per channel instead of one per layer
    #[cfg_attr(feature = "clap", arg(long))]
    pub per_channel: bool,
    /// Training images to take thresholds from
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 512))]
    pub calibration_images: usize,
    /// Replace max-pooling, which has no spiking counterpart, by average pooling of the same windows
    #[cfg_attr(feature = "clap", arg(long, value_name = "avg"))]
    pub maxpool: Option<MaxPool>,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        ConvertOptions { threshold: None, per_channel: false, calibration_images: 512, maxpool: None }
    }
}

/// `eval`: accuracy after every step, beside the ANN's.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct EvalOptions {
    /// The network.
    #[cfg_attr(feature = "clap", command(flatten))]
    pub model: ModelOptions,
    /// The images.
    #[cfg_attr(feature = "clap", command(flatten))]
    pub data: DataOptions,
    /// Thresholds.
    #[cfg_attr(feature = "clap", command(flatten))]
    pub convert: ConvertOptions,
    /// Neuron rule: qcfs, cos or srp
    #[cfg_attr(feature = "clap", arg(long, default_value = "cos", help_heading = "Spiking"))]
    pub method: String,
    /// rho (tau of srp): steps that every layer is pre-simulated for
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "STEPS", default_value_t = 4, help_heading = "Spiking")
    )]
    pub presim: usize,
    /// Rounds of calibration, or `exact` for all that are needed, in one pass
    #[cfg_attr(feature = "clap", arg(long, value_name = "N|exact", default_value_t = Iterations::Times(1), help_heading = "Spiking"))]
    #[serde(serialize_with = "shown")]
    pub iterations: Iterations,
    /// T: steps read out
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "STEPS", default_value_t = 8, help_heading = "Spiking")
    )]
    pub steps: usize,
    /// Images held at once
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "N", default_value_t = 100, help_heading = "Spiking")
    )]
    pub batch: usize,
    /// Integers that the engine computes in: int32, int16 or int8
    #[cfg_attr(feature = "clap", arg(long, default_value_t = Precision::Int32, help_heading = "Spiking"))]
    #[serde(serialize_with = "shown")]
    pub precision: Precision,
    /// With exact calibration: how the last spiking layer's spikes are spread over the first steps: none, aligned, diffusion or
    /// weights [default: as the read-out asks where --steps is below --presim, else none]
    #[cfg_attr(feature = "clap", arg(long, value_name = "RULE", help_heading = "Spiking"))]
    #[serde(serialize_with = "shown_if_any")]
    pub spread: Option<Spread>,
    /// Leave out the ANN's pass
    #[cfg_attr(feature = "clap", arg(long, help_heading = "Results"))]
    pub no_ann: bool,
    /// Count offset spikes (spikes fired minus spikes desired) before and after calibration
    #[cfg_attr(feature = "clap", arg(long, help_heading = "Results"))]
    pub offsets: bool,
    /// Compare the logits to the bit with the same integers read as a QCFS network (needs --iterations exact and
    /// --presim = --steps); slow, plain loops; exit code 1 where they differ
    #[cfg_attr(feature = "clap", arg(long, help_heading = "Results"))]
    pub verify: bool,
}

impl EvalOptions {
    /// The defaults of the command line for this model and data.
    pub fn new(model: impl Into<PathBuf>, data: impl Into<String>) -> Self {
        EvalOptions {
            model: ModelOptions { model: model.into(), ..ModelOptions::default() },
            data: DataOptions { data: data.into(), ..DataOptions::default() },
            convert: ConvertOptions::default(),
            method: "cos".into(),
            presim: 4,
            iterations: Iterations::Times(1),
            steps: 8,
            batch: 100,
            precision: Precision::Int32,
            spread: None,
            no_ann: false,
            offsets: false,
            verify: false,
        }
    }

    /// For the rules.
    pub fn params(&self) -> Params {
        Params { presim: self.presim, iterations: self.iterations }
    }
}
