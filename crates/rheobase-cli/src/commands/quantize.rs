//! `rheobase quantize`: a ReLU network becomes a QCFS network without labels.

use super::train::{Job, RecipeOptions};
use crate::output::Bar;
use clap::Args;
use rheobase::core::prepared::Prepared;
use rheobase::core::samples::Normalisation;
use rheobase::io::data::Split;
use rheobase::io::export;
use rheobase::options::{DataOptions, MaxPool, ModelOptions};
use rheobase::{Error, Kind, Network, Result, jobs};
use rheobase_train::quantize::{self, Method, Options};
use rheobase_train::{distill, start};
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
    #[command(flatten)]
    recipe: RecipeOptions,
    /// With --epochs: go on from the checkpoint beside --out, where there is one
    #[arg(long, help_heading = "Results")]
    resume: bool,
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
        if self.recipe.has_epochs() {
            return self.fine_tune(converted, normalisation.clone(), seed, text);
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

    /// Trains the quantized network with labels for `--epochs` epochs.
    fn fine_tune(
        &self,
        mut network: Network,
        normalisation: Normalisation,
        seed: u64,
        text: &mut String,
    ) -> Result<()> {
        let mut recipe = self.recipe.recipe(&self.data.data, seed);
        self.recipe.suit(&mut recipe, &network);
        let open = |split| jobs::samples(&self.data, split, &network);
        let (train_set, test_set) = (open(Split::Train)?, open(Split::Test)?);
        start::check_classes(&network, train_set.classes().len())?;
        network.normalisation = Some(normalisation);
        network.classes = train_set.classes().to_vec();
        let name = self.model.model.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let kind = self.data.data.split(':').next().unwrap_or_default();
        let levels = self.model.levels.unwrap_or_default();
        let job = Job {
            network: &network,
            teacher: None,
            init: Some(format!("{} ({}, L = {levels})", self.model.model.display(), self.method)),
            teacher_from: None,
            recipe: &recipe,
            out: &self.out,
            resume: self.resume,
            command: format!(
                "rheobase quantize {name} --levels {levels} --method {} --data {kind}:DIR --epochs {} --batch {} --lr {} --clip {} --augment {} --seed {seed}",
                self.method, recipe.epochs, recipe.batch, recipe.lr, recipe.clip, recipe.augment
            ),
        };
        job.run(&*train_set, &*test_set, None, text)
    }
}
