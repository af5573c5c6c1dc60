//! `rheobase predict`: image files to class names, ANN beside SNN.

use super::{check_json, write_json};
use crate::output::Bar;
use clap::Args;
use rheobase::core::ann::Dense;
use rheobase::core::engine::{Plan, Run};
use rheobase::core::integer::{IntegerNetwork, Precision};
use rheobase::core::network::{SpikingNetwork, shape};
use rheobase::core::neuron::{self, Iterations, Params};
use rheobase::core::samples::Normalisation;
use rheobase::core::{convert, env};
use rheobase::io::data::Transform;
use rheobase::options::{ConvertOptions, DataOptions, ModelOptions};
use rheobase::{Error, Kind, Result, jobs};
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Args)]
pub struct Predict {
    #[command(flatten)]
    model: ModelOptions,
    /// JPEG or PNG files
    #[arg(required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    convert: ConvertOptions,
    /// Training images for the thresholds of a ReLU network
    #[arg(long, value_name = "KIND:DIR", help_heading = "Conversion")]
    data: Option<String>,
    /// Mean per channel that images are normalised with [default: the model's, else ImageNet's]
    #[arg(
        long,
        value_name = "X,...",
        value_delimiter = ',',
        allow_negative_numbers = true,
        requires = "std",
        help_heading = "Images"
    )]
    mean: Vec<f32>,
    /// Standard deviation per channel
    #[arg(
        long,
        value_name = "X,...",
        value_delimiter = ',',
        allow_negative_numbers = true,
        requires = "mean",
        help_heading = "Images"
    )]
    std: Vec<f32>,
    /// Short side before the centre is cut out [default: the network's up to 64 pixels, 256/224 of it above]
    #[arg(long, value_name = "PIXELS", help_heading = "Images")]
    resize: Option<usize>,
    /// Neuron rule: qcfs, cos or srp
    #[arg(long, default_value = "cos", help_heading = "Spiking")]
    method: String,
    /// rho (tau of srp): steps that every layer is pre-simulated for
    #[arg(long, value_name = "STEPS", default_value_t = 4, help_heading = "Spiking")]
    presim: usize,
    /// Rounds of calibration, or `exact`
    #[arg(long, value_name = "N|exact", default_value_t = Iterations::Times(1), help_heading = "Spiking")]
    iterations: Iterations,
    /// T: steps read out
    #[arg(long, value_name = "STEPS", default_value_t = 4, help_heading = "Spiking")]
    steps: usize,
    /// Classes to show for each image
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Results")]
    top: usize,
    /// Write all scores as JSON to a file, or to standard output with `-`
    #[arg(long, value_name = "FILE|-", help_heading = "Results")]
    json: Option<PathBuf>,
}

impl Predict {
    pub fn run(&self, text: &mut String) -> Result<()> {
        let rule = neuron::rule(&self.method, &Params { presim: self.presim, iterations: self.iterations })?;
        if self.steps == 0 || self.steps.max(self.presim) > rheobase::core::evaluate::MAX_STEPS {
            return Err(
                Error::new(Kind::Usage, "an SNN needs 1 to 1024 time-steps").hint("`--steps` and `--presim`")
            );
        }
        if self.top == 0 {
            return Err(Error::new(Kind::Usage, "nothing to show of 0 classes").hint("`--top`"));
        }
        check_json(self.json.as_deref())?;
        let network = jobs::open(&self.model)?;
        let data = DataOptions {
            data: self.data.clone().unwrap_or_default(),
            mean: self.mean.clone(),
            std: self.std.clone(),
            resize: self.resize,
            ..DataOptions::default()
        };
        let needs = convert::needs_thresholds(&network);
        if !needs && self.data.is_some() {
            return Err(Error::new(Kind::Usage, "the network has its thresholds and takes none from images")
                .file(&self.model.model)
                .hint("leave out `--data`"));
        }
        if needs && self.data.is_none() {
            return Err(Error::new(Kind::Usage, "a ReLU network needs training images for its thresholds")
                .file(&self.model.model)
                .hint("name them with `--data`, or bake the thresholds in with `rheobase convert`"));
        }
        let levels = self.steps.max(rule.presim()) as u32;
        let network = jobs::convert(network, &self.convert, &data, levels, &Bar::new())
            .map_err(jobs::blame(&self.model))?;
        let shapes = shape::infer(&network)?;
        let ([c, h, w], classes) = (shapes[0], shapes[network.output][0]);
        let mut notes = network.notes.clone();
        let normalisation = match (data.normalisation()?, &network.normalisation) {
            (Some(n), _) => n,
            (None, Some(n)) => n.clone(),
            (None, None) if c == 3 => {
                let n = Normalisation::new(vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225])?;
                notes.push(jobs::guessed(&n, "ImageNet's"));
                n
            }
            (None, None) => {
                let n = Normalisation::identity(c);
                notes.push(jobs::guessed(&n, "no change:"));
                n
            }
        };
        let resize = self.resize.or((h.max(w) <= 64).then_some(h.max(w)));
        let transform = Transform::new(Some([h, w]), resize)?;
        let mut pixels = vec![0.0; self.images.len() * c * h * w];
        for (path, pixels) in self.images.iter().zip(pixels.chunks_exact_mut(c * h * w)) {
            transform.read(path, c, pixels)?;
            normalisation.apply(pixels);
        }

        let dense = Dense::new(&network)?;
        let integers = IntegerNetwork::new(
            &SpikingNetwork::new(network.clone())?,
            &normalisation,
            Precision::default(),
        )?;
        let plan = Plan::new(&integers, env::kernel()?);
        let outcome = plan.run(&Run { rule: &*rule, steps: self.steps, offsets: false }, &pixels);
        let name = |i: usize| network.classes.get(i).cloned().unwrap_or_else(|| format!("class {i}"));
        notes.iter().for_each(|note| _ = writeln!(text, "{note}"));
        let snn = match self.method.as_str() {
            "cos" => format!(
                "SNN, cos, rho = {}, iterations: {}, T = {}",
                self.presim, self.iterations, self.steps
            ),
            method => format!("SNN, {method}, T = {}", self.steps),
        };
        let mut results = vec![];
        for (i, path) in self.images.iter().enumerate() {
            let ann =
                softmax(dense.forward(&pixels[i * c * h * w..(i + 1) * c * h * w]).iter().map(|&x| x.into()));
            let last = ((i + 1) * self.steps - 1) * classes;
            let unit = integers.logit_unit() / self.steps as f64;
            let scores = softmax(outcome.logits[last..last + classes].iter().map(|&x| x as f64 * unit));
            let top = |scores: &[f64]| {
                let mut order: Vec<usize> = (0..classes).collect();
                order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
                order.truncate(self.top.max(1));
                order
            };
            let (a, s) = (top(&ann), top(&scores));
            let _ = writeln!(text, "{}", path.display());
            let _ = writeln!(text, "  {:<36}  {snn}", "ANN");
            for (&a, &s) in a.iter().zip(&s) {
                let cell = |i: usize, scores: &[f64]| format!("{:>6.2} %  {}", 100.0 * scores[i], name(i));
                let _ = writeln!(text, "  {:<36}  {}", cell(a, &ann), cell(s, &scores));
            }
            let best = |order: &[usize], scores: &[f64]| {
                order
                    .iter()
                    .map(|&i| json!({"class": i, "name": name(i), "score": scores[i]}))
                    .collect::<Vec<_>>()
            };
            results.push(json!({"image": path, "ann": best(&a, &ann), "snn": best(&s, &scores)}));
        }
        if self.json.as_ref().is_some_and(|p| p.as_os_str() == "-") {
            text.clear();
        }
        write_json(
            self.json.as_deref(),
            &json!({
                "model": self.model.model, "method": self.method, "steps": self.steps, "notes": notes, "images": results,
            }),
            text,
        )?;
        Ok(())
    }
}

/// Scores that sum to 1.
fn softmax(logits: impl Iterator<Item = f64>) -> Vec<f64> {
    let logits: Vec<f64> = logits.collect();
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = logits.iter().map(|x| (x - largest).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|e| e / sum).collect()
}
