//! Distillation without labels: a QCFS network learns the logits of the ReLU network it was made from.
//! In: both networks, images. Out: the QCFS network with all its weights, biases and λ trained for a few hundred steps.

use crate::augment::Augment;
use crate::loader::Loader;
use crate::loss;
use crate::net::{Field, Mode, Net};
use crate::optimiser::Adam;
use rheobase_core::network::Network;
use rheobase_core::progress::Progress;
use rheobase_core::samples::{Normalisation, Samples};
use rheobase_core::{Error, Kind, Result};
use std::ops::ControlFlow;

/// Images of a step.
const BATCH: usize = 64;
/// Steps over which the rates rise.
const WARMUP: usize = 10;

/// How to distil.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// L of the QCFS network: from 8 on, fewer and smaller steps are enough.
    pub levels: u32,
    /// Images that are used, evenly spread over the set.
    pub images: usize,
    /// Steps; 400, or 300 from L = 8 on, where none are asked for.
    pub steps: Option<usize>,
    /// Seed of order and flips.
    pub seed: u64,
}

/// Trains `student` on the squared error of class-centred logits against `teacher`'s: Adam (0.9, 0.99), rates of 0.02 times the
/// weights' root mean square, 0.01 times the mean λ for biases and 0.01 for log λ (half of each from L = 8 on), cosine to 0.
pub fn distill(
    student: &Network,
    teacher: &Network,
    samples: &dyn Samples,
    normalisation: &Normalisation,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Network> {
    let (mut net, mut teacher) = (Net::new(student)?, Net::new(teacher)?);
    let [_, h, w] = student.input_shape();
    let flips = Augment { flip: true, ..Augment::default() };
    let loader = Loader::new(samples, normalisation.clone(), flips, [h, w], BATCH, options.seed)?
        .limited(options.images)?;
    let many = options.levels < 8;
    let steps = options.steps.unwrap_or(if many { 400 } else { 300 });
    let share = if many { 1.0 } else { 0.5 };
    let bases = rates(&net);
    let mut adam = Adam::new(net.params(), [0.9, 0.99]);
    let (mut gradient, mut done) = (vec![], 0);
    for epoch in 0.. {
        if done >= steps {
            break;
        }
        loader.run(epoch, 0, |batch| {
            let wanted = teacher.forward(&batch.pixels, Mode::Eval).to_vec();
            let classes = wanted.len() / batch.labels.len();
            let logits = net.forward(&batch.pixels, Mode::Train);
            let loss = loss::centred_squares(logits, &wanted, classes, &mut gradient);
            if !loss.is_finite() {
                return Err(Error::new(Kind::Check, format!("distillation diverged in step {}", done + 1))
                    .expected("a finite loss")
                    .found(loss.to_string()));
            }
            net.backward(&gradient);
            let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done as f64 / steps as f64).cos());
            let rate = share * (cosine as f32) * ((done + 1) as f32 / WARMUP as f32).min(1.0);
            adam.step(net.params_mut(), &bases.iter().map(|b| b * rate).collect::<Vec<_>>());
            done += 1;
            progress.tick("steps", done, steps);
            if progress.cancelled() {
                return Err(Error::new(Kind::Cancelled, "stopped"));
            }
            Ok(if done < steps { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
    }
    let mut network = net.network();
    network.notes.push(format!(
        "distilled from its ReLU network: {steps} steps of {BATCH} of {} images, flipped at random, seed {}",
        loader.images(),
        options.seed
    ));
    Ok(network)
}

/// The rate of each parameter before warm-up and cosine.
fn rates(net: &Net) -> Vec<f32> {
    let mean = |data: &[f32]| data.iter().sum::<f32>() / data.len().max(1) as f32;
    let lambdas: Vec<f32> =
        net.params().iter().filter(|p| p.field == Field::Threshold).map(|p| mean(&p.data)).collect();
    let lambda = mean(&lambdas);
    net.params()
        .iter()
        .map(|p| match p.field {
            Field::Weight => {
                let square =
                    p.data.iter().map(|w| f64::from(w * w)).sum::<f64>() / p.data.len().max(1) as f64;
                0.02 * square.sqrt() as f32
            }
            Field::Bias | Field::Shift => 0.01 * lambda,
            Field::Scale | Field::Threshold => 0.01,
        })
        .collect()
}
