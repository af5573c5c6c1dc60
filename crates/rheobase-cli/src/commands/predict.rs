//! `rheobase predict`: image files to class names, ANN beside SNN.

use super::{check_json, write_json};
use crate::output::Bar;
use clap::Args;
use rayon::prelude::*;
use rheobase::core::ann::Dense;
use rheobase::core::engine::{Plan, Run};
use rheobase::core::integer::{IntegerNetwork, Precision};
use rheobase::core::network::{SpikingNetwork, shape};
use rheobase::core::neuron::{self, Iterations, Params};
use rheobase::core::progress::Progress;
use rheobase::core::samples::Normalisation;
use rheobase::core::{convert, env};
use rheobase::io::data::Transform;
use rheobase::options::{ConvertOptions, DataOptions, ModelOptions};
use rheobase::{Error, Kind, Result, jobs};
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

/// Images held at once.
const BATCH: usize = 32;

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
            (None, None) => guess(c, &mut notes)?,
        };
        let resize = self.resize.or((h.max(w) <= 64).then_some(h.max(w)));
        let transform = Transform::new(Some([h, w]), resize)?;
        let dense = Dense::new(&network)?;
        let integers = IntegerNetwork::new(
            &SpikingNetwork::new(network.clone())?,
            &normalisation,
            Precision::default(),
        )?;
        let plan = Plan::new(&integers, env::kernel()?);
        let name = |i: usize| network.classes.get(i).cloned().unwrap_or_else(|| format!("class {i}"));
        let snn = self.shown_rule();
        let spread = plan.spreading(None, &*rule, self.steps)?;
        let run =
            Run { rule: &*rule, steps: self.steps, offsets: false, spread: spread.as_ref(), laps: None };
        let unit = integers.logit_unit() / self.steps as f64;
        let (mut results, mut shown) = (vec![], String::new());
        let progress = Bar::new();
        for paths in self.images.chunks(BATCH) {
            progress.tick("images", results.len(), self.images.len());
            let mut pixels = vec![0.0; paths.len() * c * h * w];
            for (path, pixels) in paths.iter().zip(pixels.chunks_exact_mut(c * h * w)) {
                transform.read(path, c, pixels)?;
                normalisation.apply(pixels);
            }
            let outcome = plan.run(&run, &pixels);
            let anns: Vec<Vec<f32>> =
                pixels.par_chunks_exact(c * h * w).map(|image| dense.forward(image)).collect();
            for (i, path) in paths.iter().enumerate() {
                let ann = softmax(anns[i].iter().map(|&x| x.into()));
                let last = ((i + 1) * self.steps - 1) * classes;
                let scores = softmax(outcome.logits[last..last + classes].iter().map(|&x| x as f64 * unit));
                let (a, s) = (best(&ann, self.top), best(&scores, self.top));
                let _ = writeln!(shown, "{}", path.display());
                let _ = writeln!(shown, "  {:<36}  {snn}", "ANN");
                for (&a, &s) in a.iter().zip(&s) {
                    let cell =
                        |i: usize, scores: &[f64]| format!("{:>6.2} %  {}", 100.0 * scores[i], name(i));
                    let _ = writeln!(shown, "  {:<36}  {}", cell(a, &ann), cell(s, &scores));
                }
                let list = |order: &[usize], scores: &[f64]| -> Vec<_> {
                    order.iter().map(|&i| json!({"class": i, "name": name(i), "score": scores[i]})).collect()
                };
                results.push(json!({"image": path.display().to_string(), "ann": list(&a, &ann), "snn": list(&s, &scores)}));
            }
        }
        progress.tick("images", results.len(), self.images.len());
        let taken = write_json(
            self.json.as_deref(),
            &json!({
                "model": self.model.model.display().to_string(), "method": self.method, "steps": self.steps, "notes": notes, "images": results,
            }),
            text,
        )?;
        if !taken {
            let changes = notes.iter().filter(|note| !note.starts_with(jobs::TRAINED));
            changes.for_each(|note| _ = writeln!(text, "{note}"));
            text.push_str(&shown);
        }
        Ok(())
    }

    fn shown_rule(&self) -> String {
        match self.method.as_str() {
            "cos" => {
                let Predict { presim, iterations, steps, .. } = self;
                format!("SNN, cos, rho = {presim}, iterations: {iterations}, T = {steps}")
            }
            method => format!("SNN, {method}, T = {}", self.steps),
        }
    }
}

/// What images are normalised with where nobody says it, and the note that tells so.
fn guess(channels: usize, notes: &mut Vec<String>) -> Result<Normalisation> {
    let (n, whose) = match channels {
        3 => (Normalisation::new(vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225])?, "ImageNet's"),
        _ => (Normalisation::identity(channels), "no change:"),
    };
    notes.push(jobs::guessed(&n, whose));
    Ok(n)
}

/// The classes of the best scores, the best first.
fn best(scores: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(count);
    order
}

/// Scores that sum to 1.
fn softmax(logits: impl Iterator<Item = f64>) -> Vec<f64> {
    let logits: Vec<f64> = logits.collect();
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = logits.iter().map(|x| (x - largest).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|e| e / sum).collect()
}
