//! Samples through the ANN and the SNN: the job that the command line, the quickstart and users call.
//! In: a network, images, rules. Out: an [`Evaluation`]: correct after every step, spikes, synaptic operations, offsets.

use crate::ann::{Dense, argmax};
use crate::engine::{Plan, Run, images_to_try};
use crate::error::{Error, Kind, Result};
use crate::integer::{IntegerNetwork, Precision, QcfsReading, Role};
use crate::network::{Network, SpikingNetwork};
use crate::neuron::{NeuronRule, Spread};
use crate::outcome::{LayerOutcome, merge_layers};
use crate::prepared::Prepared;
use crate::progress::Progress;
use crate::timing::Timing;
use rayon::prelude::*;
use rheobase_kernels::Kernels;

/// The most steps a run may have; sums of so many stay exact in 64 bits.
pub const MAX_STEPS: usize = 1024;

/// What to evaluate, beside the network and the images.
pub struct Options<'a> {
    /// Rules, each a run of its own on the same images.
    pub rules: &'a [&'a dyn NeuronRule],
    /// T.
    pub steps: usize,
    /// Images held at once.
    pub batch: usize,
    /// Integers of the engine.
    pub precision: Precision,
    /// How an exact rule spreads the last spiking layer's spikes; without it as the head asks where T < ρ.
    pub spread: Option<Spread>,
    /// Whether to run the dense f32 network beside.
    pub ann: bool,
    /// Whether to count offset spikes.
    pub offsets: bool,
    /// Whether to compare logits to the bit with the same integers read as a QCFS network with T levels (meaningful for exact
    /// calibration with ρ = T).
    pub verify: bool,
    /// Kernels to use.
    pub kernels: Kernels,
}

/// The ANN's part.
#[derive(Debug, Clone, Default)]
pub struct AnnResult {
    /// Images it is right on.
    pub correct: usize,
    /// Seconds in the forward passes.
    pub seconds: f64,
    /// Its class of each image.
    pub classes: Vec<usize>,
}

/// One rule's part.
#[derive(Debug, Clone, Default)]
pub struct SnnResult {
    /// `correct[t - 1]`: images right after t steps.
    pub correct: Vec<usize>,
    /// `agree[t - 1]`: images with the ANN's class after t steps; empty where the ANN was not run.
    pub agree: Vec<usize>,
    /// Class of each image after each step, `[images][steps]`.
    pub classes: Vec<Vec<usize>>,
    /// Counts per stage, in the order of [`Evaluation::layers`].
    pub layers: Vec<LayerOutcome>,
    /// Seconds in the engine alone.
    pub seconds: f64,
    /// How the last spiking layer's spikes were spread.
    pub spread: Spread,
    /// Images whose final logits equal the QCFS reading's to the bit, where verified.
    pub lossless: Option<usize>,
}

impl SnnResult {
    /// Spikes of all layers and steps.
    pub fn spikes(&self) -> u64 {
        self.layers.iter().flat_map(|l| &l.spikes).sum()
    }

    /// Synaptic operations of all layers and steps.
    pub fn synops(&self) -> u64 {
        self.layers.iter().map(|l| l.synops).sum()
    }
}

/// A stage as results name it.
#[derive(Debug, Clone)]
pub struct LayerInfo {
    /// Its node's name.
    pub name: String,
    /// Neurons, 0 for a stage that does not spike.
    pub neurons: usize,
}

/// What came out.
#[derive(Debug, Clone, Default)]
pub struct Evaluation {
    /// Images.
    pub images: usize,
    /// T.
    pub steps: usize,
    /// True class of each image.
    pub labels: Vec<usize>,
    /// The dense network, where it was run.
    pub ann: Option<AnnResult>,
    /// Per rule, in order.
    pub snn: Vec<SnnResult>,
    /// The integer network's stages.
    pub layers: Vec<LayerInfo>,
}

/// Refuses numbers of steps and images that make no sense.
pub fn check(steps: usize, presim: usize, batch: usize) -> Result<()> {
    let span = steps.max(presim);
    if steps == 0 || span > MAX_STEPS {
        return Err(Error::new(Kind::Usage, "number of time-steps makes no sense")
            .expected(format!("1 to {MAX_STEPS}"))
            .found(if steps == 0 { 0 } else { span }.to_string())
            .hint("`--steps` and `--presim`"));
    }
    if batch == 0 {
        return Err(Error::new(Kind::Usage, "a batch needs 1 or more images").hint("`--batch`"));
    }
    Ok(())
}

/// Runs everything, batch by batch; memory is bounded by the batch.
pub fn evaluate(
    network: &Network,
    images: &Prepared<'_>,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Evaluation> {
    let presim = options.rules.iter().map(|r| r.presim()).max().unwrap_or(0);
    check(options.steps, presim, options.batch)?;
    let dense = if options.ann { Some(Dense::new(network)?) } else { None };
    let spiking = SpikingNetwork::new(network.clone())?;
    let integers = IntegerNetwork::new(&spiking, images.normalisation(), options.precision)?;
    drop(spiking);
    let mut plan = Plan::new(&integers, options.kernels);
    let (mut pixels, mut labels) = (vec![], vec![]);
    let (few, steps) = (images_to_try(images.len()), options.steps);
    if let (Some(&rule), true) = (options.rules.first(), few > 0) {
        images.batch(0..few, &mut pixels, &mut labels)?;
        plan = plan.tried(&Run { rule, steps, offsets: false, spread: None, laps: None }, &pixels);
    }
    let spreads: Vec<_> = options
        .rules
        .iter()
        .map(|rule| plan.spreading(options.spread, *rule, options.steps))
        .collect::<Result<_>>()?;
    let mut out = Evaluation { steps: options.steps, layers: infos(&integers), ..Evaluation::default() };
    out.ann = options.ann.then(AnnResult::default);
    out.snn = vec![
        SnnResult {
            correct: vec![0; options.steps],
            agree: vec![0; if options.ann { options.steps } else { 0 }],
            lossless: options.verify.then_some(0),
            ..SnnResult::default()
        };
        options.rules.len()
    ];
    for (result, spread) in out.snn.iter_mut().zip(&spreads) {
        result.spread = spread.as_ref().map_or(Spread::None, |s| s.kind);
    }
    let size: usize = integers.input.iter().product();
    let mut ann_time = Timing::default();
    let mut snn_times = vec![Timing::default(); options.rules.len()];
    progress.tick("images", 0, images.len());
    for first in (0..images.len()).step_by(options.batch) {
        let range = first..(first + options.batch).min(images.len());
        images.batch(range.clone(), &mut pixels, &mut labels)?;
        let ann: Vec<usize> = match &dense {
            Some(dense) => ann_time.measure(|| {
                pixels.par_chunks_exact(size).map(|image| argmax(&dense.forward(image))).collect()
            }),
            None => vec![],
        };
        let runs = out.snn.iter_mut().zip(options.rules).zip(&spreads).zip(&mut snn_times);
        for (((result, rule), spread), time) in runs {
            let (steps, offsets, spread) = (options.steps, options.offsets, spread.as_ref());
            let run = Run { rule: *rule, steps, offsets, spread, laps: None };
            let outcome = time.measure(|| plan.run(&run, &pixels));
            let by_step: Vec<Vec<usize>> = (1..=options.steps).map(|t| outcome.classes_after(t)).collect();
            for (t, classes) in by_step.iter().enumerate() {
                result.correct[t] += same(classes, &labels);
                if options.ann {
                    result.agree[t] += same(classes, &ann);
                }
            }
            result.classes.extend((0..range.len()).map(|i| by_step.iter().map(|c| c[i]).collect()));
            merge_layers(&mut result.layers, &outcome.layers);
            if let Some(lossless) = &mut result.lossless {
                *lossless += verify(&integers, &pixels, size, &outcome.logits, options.steps);
            }
        }
        if let Some(result) = &mut out.ann {
            result.correct += same(&ann, &labels);
            result.classes.extend(ann);
        }
        out.labels.append(&mut labels);
        out.images = range.end;
        progress.tick("images", range.end, images.len());
        if progress.cancelled() {
            return Err(Error::new(Kind::Cancelled, "stopped"));
        }
    }
    if let Some(result) = &mut out.ann {
        result.seconds = ann_time.seconds();
    }
    out.snn.iter_mut().zip(&snn_times).for_each(|(r, t)| r.seconds = t.seconds());
    Ok(out)
}

fn same(a: &[usize], b: &[usize]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a == b).count()
}

fn infos(network: &IntegerNetwork) -> Vec<LayerInfo> {
    network
        .stages
        .iter()
        .map(|s| {
            let neurons = if matches!(s.role, Role::Spiking { .. }) { s.shape.iter().product() } else { 0 };
            LayerInfo { name: s.name.clone(), neurons }
        })
        .collect()
}

/// Images whose logits after the last step are those of the QCFS reading, to the bit.
fn verify(network: &IntegerNetwork, pixels: &[f32], size: usize, logits: &[i64], steps: usize) -> usize {
    let (reading, classes) = (QcfsReading::new(network, steps as u32), network.classes());
    pixels
        .par_chunks_exact(size)
        .zip(logits.par_chunks_exact(steps * classes))
        .filter(|(image, logits)| reading.logits(image) == logits[(steps - 1) * classes..])
        .count()
}
