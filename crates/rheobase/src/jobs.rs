//! The jobs that a command line, a program or a script asks for: files and options in, results out.

use crate::options::{ConvertOptions, DEFAULT_THRESHOLD, DataOptions, EvalOptions, MaxPool, ModelOptions};
use rheobase_core::convert::{self, ThresholdOptions};
use rheobase_core::evaluate::{self, Evaluation};
use rheobase_core::network::fold::fold;
use rheobase_core::neuron::{self, Iterations};
use rheobase_core::prepared::Prepared;
use rheobase_core::progress::Progress;
use rheobase_core::samples::{Normalisation, Samples};
use rheobase_core::timing::Timing;
use rheobase_core::{Error, Kind, Network, Result, env};
use rheobase_io::data::{self, Split};
use rheobase_io::import;

/// How the note of a network that was trained here begins: where it comes from, not what was changed on the way.
pub const TRAINED: &str = "trained by ";

/// What an evaluation leaves: settings, numbers, names.
pub struct EvalReport {
    /// What was asked for.
    pub options: EvalOptions,
    /// The data set as a person names it.
    pub data: String,
    /// What was changed on the way from the file to the spiking network, a line each.
    pub notes: Vec<String>,
    /// What the images were normalised with.
    pub normalisation: Normalisation,
    /// Class names, where they are known.
    pub classes: Vec<String>,
    /// The numbers.
    pub evaluation: Evaluation,
    /// The kernels.
    pub kernel: String,
    /// Seconds of everything, reading and converting included.
    pub seconds: f64,
}

/// Reads a network and folds it: no BatchNorm, no Identity, nothing that no output reads.
pub fn open(options: &ModelOptions) -> Result<Network> {
    let network = import::open(&options.model, &options.import())?;
    fold(&network).map_err(|e| e.file(&options.model))
}

/// For errors of a network that do not say which file it came from.
pub fn blame(model: &ModelOptions) -> impl Fn(Error) -> Error {
    |e| match e.kind() {
        Kind::Unsupported | Kind::Shape | Kind::Value | Kind::Limit => e.file(&model.model),
        _ => e,
    }
}

/// Opens one part of a data set for a network.
pub fn samples(options: &DataOptions, split: Split, network: &Network) -> Result<Box<dyn Samples>> {
    let [_, h, w] = network.input_shape();
    data::open(&options.data, &data::Options { split, size: Some([h, w]), resize: options.resize })
}

/// Makes a folded network ready to spike: pools replaced where that is asked for, thresholds from training images where it has
/// none.
pub fn convert(
    network: Network,
    options: &ConvertOptions,
    data: &DataOptions,
    levels: u32,
    progress: &dyn Progress,
) -> Result<Network> {
    let mut network = network;
    if options.maxpool == Some(MaxPool::Avg) && convert::average_pools(&mut network) == 0 {
        return Err(Error::new(Kind::Usage, "the network has no max-pooling to replace")
            .hint("leave out `--maxpool`"));
    }
    if !convert::needs_thresholds(&network) {
        let unused = [(options.threshold.is_some(), "--threshold"), (options.per_channel, "--per-channel")];
        return match unused.iter().find(|(given, _)| *given) {
            Some((_, option)) => {
                Err(Error::new(Kind::Usage, "every activation of the network has its threshold already")
                    .hint(format!("leave out `{option}`")))
            }
            None => Ok(network),
        };
    }
    rheobase_core::network::spec::no_max_pools(&network)?;
    let train = samples(data, Split::Train, &network).map_err(|e| {
        e.hint("the thresholds of a ReLU network are taken from training images; bake them in once with `rheobase convert`")
    })?;
    if options.calibration_images == 0 {
        return Err(Error::new(Kind::Usage, "thresholds need 1 or more calibration images")
            .hint("`--calibration-images`"));
    }
    let images =
        Prepared::new(&*train, &network, data.normalisation()?, Some(options.calibration_images))?.spread();
    let rule = options.threshold.unwrap_or(DEFAULT_THRESHOLD);
    let how = ThresholdOptions { rule, per_channel: options.per_channel, levels };
    let mut converted = convert::thresholds(&network, &images, &how, progress)?;
    converted.notes.push(format!(
        "calibration images: {} evenly spaced over {}, normalised with {}",
        images.len(),
        train.name(),
        shown(images.normalisation())
    ));
    Ok(converted)
}

/// `mean 0.5, 0.5, 0.5, std 0.25, 0.25, 0.25`.
pub fn shown(n: &Normalisation) -> String {
    let list = |v: &[f32]| v.iter().map(f32::to_string).collect::<Vec<_>>().join(", ");
    format!("mean {}, std {}", list(&n.mean), list(&n.std))
}

/// What to tell where images are normalised with a guess.
pub fn guessed(n: &Normalisation, whose: &str) -> String {
    format!("images normalised with {whose} {}; the model's own is unknown (`--mean`, `--std`)", shown(n))
}

/// Runs ANN and SNN over images.
pub fn eval(options: &EvalOptions, progress: &dyn Progress) -> Result<EvalReport> {
    let mut time = Timing::default();
    let mut report = time.measure(|| {
        let network = open(&options.model)?;
        eval_network(network, options, progress).map_err(blame(&options.model))
    })?;
    report.seconds = time.seconds();
    Ok(report)
}

/// The same for a folded network that is already at hand.
pub fn eval_network(network: Network, options: &EvalOptions, progress: &dyn Progress) -> Result<EvalReport> {
    let rule = neuron::rule(&options.method, &options.params())?;
    if options.steps == 0 {
        return Err(Error::new(Kind::Usage, "an SNN needs 1 or more time-steps").hint("`--steps`"));
    }
    let span = options.steps.max(rule.presim());
    if options.verify && (options.iterations != Iterations::Exact || rule.presim() != options.steps) {
        return Err(Error::new(Kind::Usage, "only exact calibration with rho = T is lossless to the bit")
            .hint(
                "`--verify` goes with `--method cos --iterations exact` and equal `--presim` and `--steps`",
            ));
    }
    let test = samples(&options.data, options.data.split, &network)?;
    let images = Prepared::new(&*test, &network, options.data.normalisation()?, options.data.limit)?;
    let normalisation = images.normalisation().clone();
    let mut notes = vec![];
    if options.data.mean.is_empty() && network.normalisation.is_none() {
        notes.push(guessed(&normalisation, "the data set's usual"));
    }
    let network = convert(network, &options.convert, &options.data, span as u32, progress)?;
    let kernels = env::kernel()?;
    let run = evaluate::Options {
        rules: &[&*rule],
        steps: options.steps,
        batch: options.batch,
        precision: options.precision,
        spread: options.spread,
        ann: !options.no_ann,
        offsets: options.offsets,
        verify: options.verify,
        kernels,
    };
    let evaluation = evaluate::evaluate(&network, &images, &run, progress)?;
    let classes = if network.classes.is_empty() { test.classes().to_vec() } else { network.classes.clone() };
    Ok(EvalReport {
        options: options.clone(),
        data: test.name(),
        notes: network.notes.into_iter().chain(notes).collect(),
        normalisation,
        classes,
        evaluation,
        kernel: kernels.to_string(),
        seconds: 0.0,
    })
}
