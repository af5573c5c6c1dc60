//! `rheobase quantize`: a ReLU network becomes a QCFS network without labels.

use crate::output::Bar;
use clap::Args;
use rheobase::core::prepared::Prepared;
use rheobase::io::export;
use rheobase::options::{DataOptions, MaxPool, ModelOptions};
use rheobase::{Error, Kind, Result, jobs};
use rheobase_train::distill;
use rheobase_train::quantize::{self, Method, Options};
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Args)]
#[command(
    mut_arg("levels", |a| a.required(true).help_heading("Quantization").help("L: steps above zero of every activation")),
    mut_arg("split", |a| a.default_value("train").help("Which part to calibrate with: train or test")),
    mut_arg("limit", |a| a.hide(true))
)]
pub struct Quantize {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    data: DataOptions,
    /// What is fitted: mse (thresholds, biases), least-squares (weights too) or distill (and all of it trained on logits)
    #[arg(long, default_value_t = Method::LeastSquares, help_heading = "Quantization")]
    method: Method,
    /// Images to calibrate with, evenly spaced over all of them; labels are not looked at
    #[arg(long, value_name = "N", default_value_t = 2048, help_heading = "Quantization")]
    images: usize,
    /// Images to distil with, evenly spread over all of them
    #[arg(long, value_name = "N", default_value_t = 4096, help_heading = "Quantization")]
    distill_images: usize,
    /// Steps of distillation [default: 400, from L = 8 on 300]
    #[arg(long, value_name = "N", help_heading = "Quantization")]
    steps: Option<usize>,
    /// One threshold per layer instead of one per channel
    #[arg(long, help_heading = "Quantization")]
    per_layer: bool,
    /// Replace max-pooling, which has no spiking counterpart, by average pooling of the same windows
    #[arg(long, value_name = "avg", help_heading = "Quantization")]
    maxpool: Option<MaxPool>,
    /// Where to write the network
    #[arg(long, value_name = "MODEL.safetensors", help_heading = "Results")]
    out: PathBuf,
}

impl Quantize {
    pub fn run(&self, seed: u64, text: &mut String) -> Result<()> {
        super::check_out(&self.out, &self.model.model)?;
        if self.images == 0 {
            return Err(
                Error::new(Kind::Usage, "quantizing needs 1 or more calibration images").hint("`--images`")
            );
        }
        if self.data.limit.is_some() {
            return Err(Error::new(Kind::Usage, "`--limit` is for evaluations")
                .hint("`--images` says how many images to calibrate with"));
        }
        let options = Options {
            levels: self.model.levels.unwrap_or_default(),
            method: self.method,
            per_layer: self.per_layer,
            average_pools: self.maxpool == Some(MaxPool::Avg),
            seed,
        };
        let model = ModelOptions { levels: None, ..self.model.clone() };
        let network = jobs::open(&model)?;
        options.check(&network).map_err(|e| e.file(&model.model))?;
        let samples = jobs::samples(&self.data, self.data.split, &network).map_err(|e| {
            e.hint("calibration images are taken from the training part; `--split test` takes the others")
        })?;
        let most = quantize::most_images(&network)?;
        let count = self.images.min(most);
        let images =
            Prepared::unlabelled(&*samples, &network, self.data.normalisation()?, Some(count))?.spread();
        let mut converted =
            quantize::quantize(&network, &images, &options, &Bar::new()).map_err(jobs::blame(&model))?;
        let normalisation = images.normalisation();
        if self.method == Method::Distill {
            let how = distill::Options {
                levels: options.levels,
                images: self.distill_images,
                steps: self.steps,
                seed,
            };
            converted = distill::distill(&converted, &network, &*samples, normalisation, &how, &Bar::new())
                .map_err(jobs::blame(&model))?;
        }
        converted.notes.push(format!(
            "calibration images: {} evenly spaced over {}, normalised with {}",
            images.len(),
            samples.name(),
            jobs::shown(normalisation)
        ));
        if self.data.mean.is_empty() && network.normalisation.is_none() {
            let _ = writeln!(text, "{}", jobs::guessed(normalisation, "the data set's usual"));
        } else {
            converted.normalisation = Some(normalisation.clone());
        }
        export::native::write(&converted, &self.out)?;
        let _ = writeln!(text, "{}", self.out.display());
        converted.notes.iter().for_each(|note| _ = writeln!(text, "  {note}"));
        if most < self.images.min(samples.len()) {
            let _ = writeln!(
                text,
                "  the activations of more than {most} images would not fit in {:.1} GiB",
                quantize::MEMORY as f64 / (1u64 << 30) as f64
            );
        }
        Ok(())
    }
}
