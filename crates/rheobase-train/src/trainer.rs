//! The training loop: epochs of forward, backward, step; judged, checkpointed, resumable to the same bytes.
//! In: a network, data, a recipe, where the checkpoint is. Out: the trained network and what every epoch gave.

use crate::checkpoint::{self, Epoch, Identity, State};
use crate::loader::{Batch, Loader};
use crate::loss;
use crate::net::{Mode, Net};
use crate::optimiser::{Average, Sgd, clip};
use crate::recipe::Recipe;
use crate::start;
use rheobase_core::network::{Network, shape};
use rheobase_core::prepared::Prepared;
use rheobase_core::samples::{Normalisation, Samples};
use rheobase_core::timing::Timing;
use rheobase_core::{Error, Kind, Result};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Seconds between checkpoints inside an epoch.
const CHECKPOINT_SECONDS: f64 = 600.0;
/// A mean loss beyond this has diverged.
const DIVERGED: f64 = 1e4;

/// What is to be trained, with what.
pub struct Training<'a> {
    /// The start.
    pub network: &'a Network,
    /// A network whose answers are learned too.
    pub teacher: Option<&'a Network>,
    /// Images to learn from.
    pub train: &'a dyn Samples,
    /// Images to judge by.
    pub test: &'a dyn Samples,
    /// What images are normalised with.
    pub normalisation: Normalisation,
    /// How.
    pub recipe: &'a Recipe,
    /// Where the start came from, for the checkpoint.
    pub init: Option<String>,
    /// Where the teacher came from.
    pub teacher_from: Option<String>,
    /// Where the checkpoint is.
    pub checkpoint: PathBuf,
    /// Where the metrics go, one JSON object a line and epoch.
    pub metrics: PathBuf,
    /// Whether to go on from the checkpoint, where there is one.
    pub resume: bool,
}

/// Where training is, inside an epoch.
#[derive(Debug, Clone, Copy)]
pub struct Status {
    /// From 1 on.
    pub epoch: usize,
    /// Of so many.
    pub epochs: usize,
    /// Images of this epoch so far.
    pub images: usize,
    /// Images of an epoch.
    pub of: usize,
    /// Mean loss of this epoch so far.
    pub loss: f64,
    /// Share of them that were right.
    pub accuracy: f64,
}

/// Watches training.
pub trait Watch: Sync {
    /// Before the first step: how many epochs a checkpoint holds already; `None` where training starts from the beginning.
    fn start(&self, resumed: Option<(usize, usize)>);
    /// After every step.
    fn step(&self, status: &Status);
    /// After every epoch.
    fn epoch(&self, epoch: &Epoch, of: usize);
    /// Asked after every step: should training stop? A checkpoint is written then.
    fn cancelled(&self) -> bool;
}

/// What training leaves.
pub struct Trained {
    /// With the weights of the last epoch, or their average.
    pub network: Network,
    /// What every epoch gave.
    pub history: Vec<Epoch>,
    /// Images that it was judged by.
    pub judged: usize,
}

/// Trains.
pub fn train(job: &Training<'_>, watch: &dyn Watch) -> Result<Trained> {
    job.recipe.check()?;
    let test = Prepared::new(job.test, job.network, Some(job.normalisation.clone()), None)?;
    let [_, h, w] = job.network.input_shape();
    let classes = shape::infer(job.network)?[job.network.output][0];
    start::check_classes(job.network, job.train.classes().len())?;
    let (recipe, augment) = (job.recipe, job.recipe.augmentation(classes)?);
    let loader =
        Loader::new(job.train, job.normalisation.clone(), augment, [h, w], recipe.batch, recipe.seed)?;
    let mut run = Run {
        job,
        watch,
        net: Net::new(job.network)?,
        sgd: Sgd { momentum: 0.0, decay: 0.0, velocity: vec![] },
        teacher: job.teacher.map(Net::new).transpose()?,
        identity: Identity {
            network: job.network.name.clone(),
            layout: String::new(),
            data: format!("{} ({} images)", job.train.name(), job.train.len()),
            init: job.init.clone(),
            teacher: job.teacher_from.clone(),
            recipe: recipe.clone(),
        },
        state: State::default(),
        average: Average::default(),
        gradient: vec![],
        extra: vec![],
    };
    if run.teacher.as_ref().is_some_and(|t| t.image() != run.net.image() || t.classes() != run.net.classes())
    {
        return Err(Error::new(Kind::Shape, "teacher and network do not take the same images or classes"));
    }
    run.identity.layout = Identity::layout(&run.net);
    run.sgd = Sgd::new(run.net.params(), recipe.momentum, recipe.weight_decay);
    run.average = Average::new(&mut run.net, recipe.average);
    if job.resume && job.checkpoint.exists() {
        run.state =
            checkpoint::read(&job.checkpoint, &run.identity, &mut run.net, &mut run.sgd, &mut run.average)?;
        watch.start(Some((run.state.epoch, run.state.batch)));
    } else {
        rheobase_io::files::check(&job.checkpoint)?;
        watch.start(None);
    }
    while run.state.epoch < recipe.epochs {
        run.epoch(&loader, &test)?;
    }
    run.average.swap(&mut run.net);
    Ok(Trained { network: run.net.network(), history: run.state.history, judged: test.len() })
}

struct Run<'a> {
    job: &'a Training<'a>,
    watch: &'a dyn Watch,
    net: Net,
    sgd: Sgd,
    teacher: Option<Net>,
    identity: Identity,
    state: State,
    average: Average,
    gradient: Vec<f32>,
    extra: Vec<f32>,
}

impl Run<'_> {
    fn epoch(&mut self, loader: &Loader<'_>, test: &Prepared<'_>) -> Result<()> {
        let recipe = self.job.recipe;
        let (epoch, steps) = (self.state.epoch, loader.batches());
        let mut since = 0.0;
        let mut time = Timing::default();
        loader.run(epoch, self.state.batch, |batch| {
            let mut lap = Timing::default();
            lap.measure(|| self.step(batch, recipe.rate(epoch * steps + batch.index, steps)))?;
            since += lap.seconds();
            self.state.seconds += lap.seconds();
            self.watch.step(&Status {
                epoch: epoch + 1,
                epochs: recipe.epochs,
                images: self.state.images,
                of: loader.images(),
                loss: self.state.loss / self.state.images as f64,
                accuracy: self.state.right as f64 / self.state.images as f64,
            });
            if self.watch.cancelled() {
                self.save()?;
                return Err(Error::new(Kind::Cancelled, "training stopped")
                    .file(&self.job.checkpoint)
                    .hint("the checkpoint is whole; go on with `--resume`"));
            }
            if since > CHECKPOINT_SECONDS && self.state.batch < steps {
                since = 0.0;
                self.save()?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.average.swap(&mut self.net);
        let right = time.measure(|| self.judge(test));
        self.average.swap(&mut self.net);
        let right = right?;
        let s = &mut self.state;
        let entry = Epoch {
            epoch: epoch + 1,
            loss: s.loss / s.images as f64,
            train_accuracy: s.right as f64 / s.images as f64,
            test_accuracy: right as f64 / test.len() as f64,
            lr: recipe.rate(epoch * steps, steps),
            images_per_second: s.images as f64 / s.seconds.max(1e-9),
            seconds: s.seconds + time.seconds(),
        };
        let mut history = std::mem::take(&mut s.history);
        history.push(entry.clone());
        *s = State { epoch: epoch + 1, history, ..State::default() };
        self.save()?;
        self.watch.epoch(&entry, recipe.epochs);
        Ok(())
    }

    fn step(&mut self, batch: &Batch, rate: f32) -> Result<()> {
        let recipe = self.job.recipe;
        let logits = self.net.forward(&batch.pixels, Mode::Train);
        let mut loss = loss::cross_entropy(logits, &batch.labels, recipe.label_smoothing, &mut self.gradient);
        let right = loss::right(logits, &batch.labels);
        if let Some(teacher) = &mut self.teacher {
            let share = recipe.distill;
            let wanted = teacher.forward(&batch.pixels, Mode::Eval);
            let classes = logits.len() / batch.labels.len();
            let soft = loss::softened(logits, wanted, classes, recipe.temperature, &mut self.extra);
            loss = loss * f64::from(1.0 - share) + soft * f64::from(share);
            for (g, e) in self.gradient.iter_mut().zip(&self.extra) {
                *g = *g * (1.0 - share) + e * share;
            }
        }
        let s = &mut self.state;
        if !loss.is_finite() || loss > DIVERGED {
            let kept = match (s.epoch, s.history.is_empty()) {
                (0, true) => "no checkpoint was written yet".to_string(),
                (n, _) => format!("the checkpoint of epoch {n} is kept at {}", self.job.checkpoint.display()),
            };
            return Err(Error::new(
                Kind::Check,
                format!("training diverged in epoch {}, batch {}", s.epoch + 1, batch.index + 1),
            )
            .expected("a finite loss")
            .found(format!("{loss}"))
            .hint(format!("lower `--lr`, or add `--warmup`; {kept}")));
        }
        self.net.backward(&self.gradient);
        if recipe.clip > 0.0 {
            clip(self.net.params_mut(), recipe.clip);
        }
        self.sgd.step(self.net.params_mut(), rate);
        self.average.step(&mut self.net);
        s.batch = batch.index + 1;
        s.loss += loss * batch.labels.len() as f64;
        s.images += batch.labels.len();
        s.right += right;
        Ok(())
    }

    /// How many test images are right.
    fn judge(&mut self, test: &Prepared<'_>) -> Result<usize> {
        let (mut pixels, mut labels, mut right) = (vec![], vec![], 0);
        for first in (0..test.len()).step_by(self.job.recipe.batch) {
            test.batch(first..(first + self.job.recipe.batch).min(test.len()), &mut pixels, &mut labels)?;
            right += loss::right(self.net.forward(&pixels, Mode::Eval), &labels);
        }
        Ok(right)
    }

    fn save(&self) -> Result<()> {
        checkpoint::write(
            &self.job.checkpoint,
            &self.identity,
            &self.state,
            &self.net,
            &self.sgd,
            &self.average,
        )?;
        write_metrics(&self.job.metrics, &self.state.history)
    }
}

/// One JSON object a line and epoch.
fn write_metrics(path: &Path, history: &[Epoch]) -> Result<()> {
    let mut text = String::new();
    for epoch in history {
        let line = serde_json::to_string(epoch);
        text.push_str(&line.map_err(|e| Error::new(Kind::Format, "metrics").found(e.to_string()))?);
        text.push('\n');
    }
    rheobase_io::files::write(path, text.as_bytes())
}
