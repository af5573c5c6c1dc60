//! `rheobase train`: a QCFS network from scratch or from any network, with labels.

use super::{check_json, write_json};
use crate::output::{Bar, Epochs};
use clap::Args;
use rheobase::core::evaluate::{self, evaluate};
use rheobase::core::integer::Precision;
use rheobase::core::network::fold::fold;
use rheobase::core::network::{Network, Op, zoo};
use rheobase::core::prepared::Prepared;
use rheobase::core::samples::Samples;
use rheobase::core::{convert, env};
use rheobase::io::data::{self, Split};
use rheobase::io::{export, import};
use rheobase::options::{MaxPool, shape};
use rheobase::{Error, Kind, Result, files, jobs, options};
use rheobase_train::augment::Crop;
use rheobase_train::recipe::Recipe;
use rheobase_train::start;
use rheobase_train::trainer::{Trained, Training, train};
use serde_json::json;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Training images that λ of a ReLU network is taken from.
const LAMBDA_IMAGES: usize = 512;

/// Pictures that are cropped at random are opened larger than the network's image by this ratio (256 for 224).
const MARGIN: [usize; 2] = [8, 7];
/// Learning rate of networks without BatchNorm.
const FOLDED_LR: f32 = 2e-3;

/// What a user may change of a recipe.
#[derive(Args, Default, Clone)]
#[command(next_help_heading = "Recipe")]
pub struct RecipeOptions {
    /// Passes over the training images [default: the data set's: 60 for digits, 20 for MNIST, 300 for CIFAR, 120 for image folders]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Images of a step [default: 128, 64 for digits]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Learning rate, falling along a cosine [default: 0.02, 0.1 for digits, 0.05 for MNIST]
    #[arg(long, value_name = "X")]
    lr: Option<f32>,
    /// Momentum of SGD [default: 0.9]
    #[arg(long, value_name = "X")]
    momentum: Option<f32>,
    /// Weight decay [default: 5e-4, 1e-3 for digits]
    #[arg(long, value_name = "X")]
    weight_decay: Option<f32>,
    /// Epochs over which the learning rate rises first [default: 0]
    #[arg(long, value_name = "N")]
    warmup: Option<usize>,
    /// Share of the target spread over all classes [default: 0]
    #[arg(long, value_name = "X")]
    label_smoothing: Option<f32>,
    /// Largest norm of a step's gradient, all parameters together; 0 for any [default: 0; 1 where the start has no BatchNorm]
    #[arg(long, value_name = "X")]
    clip: Option<f32>,
    /// Save and judge an average of the weights over the steps, of which each step keeps this share, such as 0.999 [default: none]
    #[arg(long, value_name = "X")]
    average: Option<f32>,
    /// Augmentation: none, shift, standard, auto or imagenet, and changes such as +cutout8 [default: the data set's]
    #[arg(long, value_name = "NAME")]
    augment: Option<String>,
    /// Share of the loss that comes from the teacher [default: 0.5]
    #[arg(long, value_name = "X")]
    distill: Option<f32>,
    /// Temperature of the teacher's distribution [default: 4]
    #[arg(long, value_name = "X")]
    temperature: Option<f32>,
}

impl RecipeOptions {
    /// Whether fine-tuning is asked for.
    pub fn has_epochs(&self) -> bool {
        self.epochs.is_some()
    }

    /// Defaults for a network that is trained already: no AutoAugment, and without BatchNorm, where only small steps end well, a
    /// rate of 0.002 and gradients of norm 1.
    pub fn suit(&self, recipe: &mut Recipe, network: &Network) {
        if !network.nodes.iter().any(|n| matches!(n.op, Op::BatchNorm(_))) {
            recipe.lr = self.lr.unwrap_or(FOLDED_LR);
            recipe.clip = self.clip.unwrap_or(1.0);
        }
        if self.augment.is_none() && recipe.augment == "auto" {
            recipe.augment = "standard".into();
        }
    }

    /// The data set's recipe with what was asked for.
    pub fn recipe(&self, data: &str, seed: u64) -> Recipe {
        let r = Recipe::of(data, seed);
        Recipe {
            epochs: self.epochs.unwrap_or(r.epochs),
            batch: self.batch.unwrap_or(r.batch),
            lr: self.lr.unwrap_or(r.lr),
            momentum: self.momentum.unwrap_or(r.momentum),
            weight_decay: self.weight_decay.unwrap_or(r.weight_decay),
            warmup: self.warmup.unwrap_or(r.warmup),
            label_smoothing: self.label_smoothing.unwrap_or(r.label_smoothing),
            clip: self.clip.unwrap_or(r.clip),
            average: self.average.unwrap_or(r.average),
            augment: self.augment.clone().unwrap_or(r.augment),
            distill: self.distill.unwrap_or(r.distill),
            temperature: self.temperature.unwrap_or(r.temperature),
            seed,
        }
    }
}

#[derive(Args)]
pub struct Train {
    /// Architecture (`rheobase list` names them); the start's own where there is an --init that knows it
    #[arg(long, required_unless_present = "init")]
    arch: Option<String>,
    /// Images: cifar10:DIR, cifar100:DIR, mnist:DIR, imagefolder:DIR or digits
    #[arg(long, value_name = "KIND:DIR")]
    data: String,
    /// L of the QCFS activations
    #[arg(long, value_name = "L", default_value_t = 4)]
    levels: u32,
    /// Start from this network instead of random weights; ReLUs become QCFS
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Fold BatchNorm of the start into its convolutions first: what is trained is then what runs later, to the last number
    #[arg(long, requires = "init")]
    fold: bool,
    /// Learn the answers of this network too (a ReLU network's, say)
    #[arg(long, value_name = "FILE")]
    teacher: Option<PathBuf>,
    /// Replace max-pooling of the start, which has no spiking counterpart, by average pooling of the same windows
    #[arg(long, value_name = "avg")]
    maxpool: Option<MaxPool>,
    /// Image shape: channels, height, width [default: the data set's]
    #[arg(long, value_name = "CxHxW", value_parser = shape)]
    input: Option<[usize; 3]>,
    #[command(flatten)]
    recipe: RecipeOptions,
    /// Mean per channel that images are normalised with, comma between [default: the start's, else the data set's]
    #[arg(
        long,
        value_name = "X,...",
        value_delimiter = ',',
        allow_negative_numbers = true,
        help_heading = "Images"
    )]
    mean: Vec<f32>,
    /// Standard deviation per channel
    #[arg(
        long,
        value_name = "X,...",
        value_delimiter = ',',
        allow_negative_numbers = true,
        help_heading = "Images"
    )]
    std: Vec<f32>,
    /// Where to write the network [default: ARCH-DATA-lL.safetensors]; checkpoint and metrics lie beside it
    #[arg(long, value_name = "MODEL.safetensors", help_heading = "Results")]
    out: Option<PathBuf>,
    /// Go on from the checkpoint beside --out, where there is one
    #[arg(long, help_heading = "Results")]
    resume: bool,
    /// Write the outcome as JSON to a file, or to standard output with `-`
    #[arg(long, value_name = "FILE|-", help_heading = "Results")]
    json: Option<PathBuf>,
}

impl Train {
    pub fn run(&self, seed: u64, text: &mut String) -> Result<()> {
        check_json(self.json.as_deref())?;
        let mut recipe = self.recipe.recipe(&self.data, seed);
        recipe.check()?;
        let out = self.out();
        files::check(&out)?;
        let normalisation = options::DataOptions {
            mean: self.mean.clone(),
            std: self.std.clone(),
            ..options::DataOptions::default()
        }
        .normalisation()?;
        let bar = Bar::new();
        let init = self.init.as_deref().map(|file| self.read(file)).transpose()?;
        let size = init.as_ref().map(Network::input_shape).or(self.input).map(|[_, h, w]| [h, w]);
        let open = |split| data::open(&self.data, &data::Options { split, size, resize: None });
        let (train_set, test_set) = (open(Split::Train)?, open(Split::Test)?);
        let augment = recipe.augmentation(train_set.classes().len())?;
        let mut network = match init {
            Some(network) => {
                start::check_classes(&network, train_set.classes().len())?;
                let images =
                    Prepared::new(&*train_set, &network, normalisation.clone(), Some(LAMBDA_IMAGES))?
                        .spread();
                let network = start::from_trained(&network, self.levels, &images, &bar)?;
                if self.fold { fold(&network)? } else { network }
            }
            None => {
                let arch = self.arch.as_deref().unwrap_or_default();
                let shape = self.input.unwrap_or(train_set.shape());
                start::scratch(arch, train_set.classes().len(), shape, self.levels, seed)?
            }
        };
        if self.init.is_some() {
            self.recipe.suit(&mut recipe, &network);
        }
        let teacher = self.teacher.as_deref().map(|file| self.read(file)).transpose()?;
        let normalisation = normalisation
            .or_else(|| network.normalisation.clone())
            .unwrap_or_else(|| train_set.normalisation());
        network.normalisation = Some(normalisation);
        network.classes = train_set.classes().to_vec();
        let name = |p: &Path| p.display().to_string();
        let job = Job {
            network: &network,
            teacher: teacher.as_ref(),
            init: self.init.as_deref().map(name),
            teacher_from: self.teacher.as_deref().map(name),
            recipe: &recipe,
            out: &out,
            resume: self.resume,
            command: self.command(&recipe),
        };
        let larger = match (augment.crop, network.input_shape(), self.data.starts_with("imagefolder:")) {
            (Crop::Resized, [_, h, w], true) => Some([h * MARGIN[0] / MARGIN[1], w * MARGIN[0] / MARGIN[1]]),
            _ => None,
        };
        let options = |size| data::Options { split: Split::Train, size, resize: None };
        let train_set = match larger {
            Some(_) => data::open(&self.data, &options(larger))?,
            None => train_set,
        };
        job.run(&*train_set, &*test_set, self.json.as_deref(), text)
    }

    fn out(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| {
            let stem = |p: &PathBuf| p.file_stem().map(|s| s.to_string_lossy().into_owned());
            let name = self.arch.clone().or_else(|| self.init.as_ref().and_then(stem));
            let kind = self.data.split(':').next().unwrap_or_default();
            PathBuf::from(format!("{}-{kind}-l{}.safetensors", name.unwrap_or_default(), self.levels))
        })
    }

    /// A network to start from or to learn from.
    fn read(&self, file: &Path) -> Result<Network> {
        let kind = self.data.split(':').next().unwrap_or_default();
        let classes = self.arch.as_deref().and_then(|a| zoo::find(a).ok());
        let options = import::Options {
            arch: self.arch.clone(),
            classes: classes.and(if kind == "cifar100" { Some(100) } else { None }),
            levels: None,
            input: self.input,
        };
        let mut network = import::open(file, &options)?;
        if self.maxpool == Some(MaxPool::Avg) {
            convert::average_pools(&mut network);
        }
        Ok(network)
    }

    /// The command that makes the same weights again, without where things lie on this machine.
    fn command(&self, recipe: &Recipe) -> String {
        let file = |p: &PathBuf| p.file_name().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let data = match self.data.split_once(':') {
            Some((kind, _)) => format!("{kind}:DIR"),
            None => self.data.clone(),
        };
        let mut text = String::from("rheobase train");
        let mut add = |name: &str, value: Option<String>| match value.as_deref() {
            Some("") => _ = write!(text, " --{name}"),
            Some(value) => _ = write!(text, " --{name} {value}"),
            None => {}
        };
        add("arch", self.arch.clone());
        add("init", self.init.as_ref().map(file));
        add("fold", self.fold.then(String::new));
        add("teacher", self.teacher.as_ref().map(file));
        add("data", Some(data));
        add("levels", Some(self.levels.to_string()));
        let Recipe { epochs, batch, lr, momentum, weight_decay, warmup, label_smoothing, .. } = recipe;
        add("epochs", Some(epochs.to_string()));
        add("batch", Some(batch.to_string()));
        add("lr", Some(lr.to_string()));
        add("momentum", Some(momentum.to_string()));
        add("weight-decay", Some(weight_decay.to_string()));
        add("warmup", Some(warmup.to_string()).filter(|_| *warmup > 0));
        add("label-smoothing", Some(label_smoothing.to_string()).filter(|_| *label_smoothing > 0.0));
        add("clip", Some(recipe.clip.to_string()).filter(|_| recipe.clip > 0.0));
        add("average", Some(recipe.average.to_string()).filter(|_| recipe.average > 0.0));
        add("augment", Some(recipe.augment.clone()));
        if self.teacher.is_some() {
            add("distill", Some(recipe.distill.to_string()));
            add("temperature", Some(recipe.temperature.to_string()));
        }
        add("seed", Some(recipe.seed.to_string()));
        text
    }
}

/// A training run with where its files go; `quantize --epochs` is one too.
pub struct Job<'a> {
    pub network: &'a Network,
    pub teacher: Option<&'a Network>,
    pub init: Option<String>,
    pub teacher_from: Option<String>,
    pub recipe: &'a Recipe,
    pub out: &'a Path,
    pub resume: bool,
    pub command: String,
}

impl Job<'_> {
    /// Trains, judges as `eval` does, writes the network and says so.
    pub fn run(
        &self,
        train_set: &dyn Samples,
        test_set: &dyn Samples,
        json: Option<&Path>,
        text: &mut String,
    ) -> Result<()> {
        let (checkpoint, metrics) =
            (self.out.with_extension("checkpoint"), self.out.with_extension("metrics.jsonl"));
        let normalisation = self.network.normalisation.clone().unwrap_or_else(|| train_set.normalisation());
        let training = Training {
            network: self.network,
            teacher: self.teacher,
            train: train_set,
            test: test_set,
            normalisation,
            recipe: self.recipe,
            init: self.init.clone(),
            teacher_from: self.teacher_from.clone(),
            checkpoint: checkpoint.clone(),
            metrics: metrics.clone(),
            resume: self.resume,
        };
        let watch = Epochs::new(self.resume.then_some(checkpoint.as_path()))?;
        let Trained { mut network, history, judged } = train(&training, &watch)?;
        let folded = fold(&network)?;
        let images = Prepared::new(test_set, &folded, None, None)?;
        let options = evaluate::Options {
            rules: &[],
            steps: 1,
            batch: 100,
            precision: Precision::default(),
            spread: None,
            ann: true,
            offsets: false,
            verify: false,
            kernels: env::kernel()?,
        };
        let correct = evaluate(&folded, &images, &options, &Bar::new())?.ann.map_or(0, |a| a.correct);
        let percent = |x: f64| format!("{:.2} %", 100.0 * x);
        let best = history
            .iter()
            .max_by(|a, b| a.test_accuracy.total_cmp(&b.test_accuracy).then(b.epoch.cmp(&a.epoch)));
        let best = best.ok_or_else(|| Error::new(Kind::Usage, "nothing was trained"))?;
        network.notes.push(format!(
            "{}`{}` (rheobase {}): {correct} of {judged} test images right after the last epoch ({}), best {} after epoch {}",
            jobs::TRAINED,
            self.command,
            env!("CARGO_PKG_VERSION"),
            percent(correct as f64 / judged as f64),
            percent(best.test_accuracy),
            best.epoch
        ));
        export::native::write(&network, self.out)?;
        let value = json!({
            "model": self.out.display().to_string(), "checkpoint": checkpoint.display().to_string(),
            "metrics": metrics.display().to_string(), "command": self.command, "recipe": self.recipe,
            "images": judged, "correct": correct, "accuracy": correct as f64 / judged as f64,
            "best": {"epoch": best.epoch, "accuracy": best.test_accuracy}, "epochs": history,
        });
        if write_json(json, &value, text)? {
            return Ok(());
        }
        let seconds: f64 = history.iter().map(|e| e.seconds).sum();
        let _ = writeln!(
            text,
            "{}: {} epochs in {}\n  test accuracy {} ({correct} of {judged}); best {} after epoch {}\n  metrics {}, checkpoint {}",
            self.out.display(),
            history.len(),
            crate::output::duration(seconds),
            percent(correct as f64 / judged as f64),
            percent(best.test_accuracy),
            best.epoch,
            metrics.display(),
            checkpoint.display(),
        );
        Ok(())
    }
}
