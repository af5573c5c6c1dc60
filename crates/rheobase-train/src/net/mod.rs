//! Forward and backward passes of a network over a batch.
//! In: normalised images `[n, h, w, c]`, later the gradient of the logits. Out: logits, and the gradient of every parameter.
//!
//! All work is split by image (or a fixed group of images, or a fixed block of columns) and sums are taken in that order, so the
//! numbers do not depend on the threads. BatchNorm, sum and activation are one pass over memory; what BatchNorm passes back is
//! computed where the convolution before it needs it and never stored.

mod backward;
mod buffers;
mod conv;
mod linear;
mod plan;
mod pool;

pub use plan::{Field, Param};

use buffers::Buffers;
use conv::{Packed, Scratch};
use plan::{Curve, NormId, Plan, Step, Term, ValueId};
use rayon::prelude::*;
use rheobase_core::network::{Network, Op, Threshold};
use rheobase_core::{Isa, Result};
use rheobase_kernels::pointwise::{self, Function};

/// How the running statistics of BatchNorm follow a batch's (PyTorch's default).
const MOMENTUM: f64 = 0.1;

/// Which statistics BatchNorm uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The batch's; running ones follow.
    Train,
    /// The running ones.
    Eval,
}

/// Mean and variance of a value's channels over a batch.
#[derive(Debug, Clone, Default)]
struct Moments {
    mean: Vec<f64>,
    var: Vec<f64>,
}

/// A normalisation as the last forward pass used it: `x · scale + shift`.
#[derive(Debug, Clone, Default)]
struct Applied {
    mean: Vec<f32>,
    /// 1 / sqrt(var + eps).
    inverse: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

/// A network in training.
pub struct Net {
    isa: Isa,
    network: Network,
    plan: Plan,
    /// Values of the last forward pass, `[n, h, w, c]`.
    values: Vec<Vec<f32>>,
    /// Whether a BatchNorm reads the value.
    measured: Vec<bool>,
    moments: Vec<Moments>,
    applied: Vec<Applied>,
    packed: Vec<Packed>,
    buffers: Buffers,
    /// Images of the last forward pass.
    n: usize,
}

impl Net {
    /// Takes on a network's weights.
    pub fn new(network: &Network) -> Result<Net> {
        let plan = Plan::new(network)?;
        let mut measured = vec![false; plan.shapes.len()];
        plan.norms.iter().for_each(|n| measured[n.value] = true);
        Ok(Net {
            isa: Isa::best(),
            network: network.clone(),
            values: vec![vec![]; plan.shapes.len()],
            moments: vec![Moments::default(); plan.shapes.len()],
            applied: vec![Applied::default(); plan.norms.len()],
            packed: plan.steps.iter().map(|_| Packed::default()).collect(),
            buffers: Buffers::default(),
            measured,
            plan,
            n: 0,
        })
    }

    /// Every trained array.
    pub fn params(&self) -> &[Param] {
        &self.plan.params
    }

    /// Every trained array, to be changed.
    pub fn params_mut(&mut self) -> &mut [Param] {
        &mut self.plan.params
    }

    /// Running mean and variance of every BatchNorm with its node.
    pub fn statistics_mut(&mut self) -> impl Iterator<Item = (usize, [&mut Vec<f32>; 2])> {
        self.plan.norms.iter_mut().map(|n| (n.node, [&mut n.mean, &mut n.var]))
    }

    /// Running mean and variance of every BatchNorm with its node.
    pub fn statistics(&self) -> impl Iterator<Item = (usize, [&Vec<f32>; 2])> {
        self.plan.norms.iter().map(|n| (n.node, [&n.mean, &n.var]))
    }

    /// Numbers of one image.
    pub fn image(&self) -> usize {
        self.plan.shapes[0].iter().product()
    }

    /// Classes.
    pub fn classes(&self) -> usize {
        self.plan.shapes[self.plan.output][0]
    }

    /// The network with the weights as they are now.
    pub fn network(&self) -> Network {
        let mut network = self.network.clone();
        for param in &self.plan.params {
            let numbers = || param.data.clone();
            match (&mut network.nodes[param.node].op, param.field) {
                (Op::Conv2d(c), Field::Weight) => {
                    c.weight.data = plan::outward(&param.data, &c.weight.shape, c.groups);
                }
                (Op::Conv2d(c), Field::Bias) => c.bias = Some(numbers()),
                (Op::Linear(l), Field::Weight) => {
                    l.weight.data = plan::outward(&param.data, &l.weight.shape, 1);
                }
                (Op::Linear(l), Field::Bias) => l.bias = Some(numbers()),
                (Op::BatchNorm(b), Field::Scale) => b.scale = numbers(),
                (Op::BatchNorm(b), Field::Shift) => b.shift = numbers(),
                (Op::Activation(a), Field::Threshold) => match &mut a.threshold {
                    Some(Threshold::Channel(t)) => *t = numbers(),
                    other => *other = Some(Threshold::Layer(param.data[0])),
                },
                (
                    Op::Input { .. }
                    | Op::Conv2d(_)
                    | Op::Linear(_)
                    | Op::BatchNorm(_)
                    | Op::Activation(_)
                    | Op::Pool(_)
                    | Op::GlobalAverage
                    | Op::Add
                    | Op::Concat
                    | Op::Flatten
                    | Op::Shortcut(_)
                    | Op::Identity,
                    _,
                ) => unreachable!("a parameter belongs to its node"),
            }
        }
        for norm in &self.plan.norms {
            if let Op::BatchNorm(b) = &mut network.nodes[norm.node].op {
                b.mean = norm.mean.clone();
                b.var = norm.var.clone();
            }
        }
        network
    }

    /// Logits `[n, classes]` of `n` images.
    ///
    /// # Panics
    /// If `images` is not a whole number of images.
    pub fn forward(&mut self, images: &[f32], mode: Mode) -> &[f32] {
        let size = self.image();
        assert!(!images.is_empty() && images.len().is_multiple_of(size), "a whole number of images");
        self.n = images.len() / size;
        self.values[0].clear();
        self.values[0].extend_from_slice(images);
        if self.measured[0] && mode == Mode::Train {
            self.measure(0);
        }
        let mut ready = vec![false; self.plan.norms.len()];
        for index in 0..self.plan.steps.len() {
            let step = self.plan.steps[index].clone();
            if let Step::Point { terms, .. } = &step {
                for norm in terms.iter().filter_map(|t| t.norm) {
                    if !ready[norm] {
                        self.apply(norm, mode);
                        ready[norm] = true;
                    }
                }
            }
            self.step(index, &step, mode);
        }
        &self.values[self.plan.output]
    }

    /// What a norm does to its value in this pass.
    fn apply(&mut self, id: NormId, mode: Mode) {
        let count =
            (self.n * self.plan.shapes[self.plan.norms[id].value][1..].iter().product::<usize>()) as f64;
        let norm = &mut self.plan.norms[id];
        let (mean, var): (Vec<f64>, Vec<f64>) = match mode {
            Mode::Train => {
                let m = &self.moments[norm.value];
                let unbiased = if count > 1.0 { count / (count - 1.0) } else { 1.0 };
                for c in 0..m.mean.len() {
                    let follow =
                        |old: f32, new: f64| (f64::from(old) * (1.0 - MOMENTUM) + new * MOMENTUM) as f32;
                    norm.mean[c] = follow(norm.mean[c], m.mean[c]);
                    norm.var[c] = follow(norm.var[c], m.var[c] * unbiased);
                }
                (m.mean.clone(), m.var.clone())
            }
            Mode::Eval => {
                let wide = |v: &[f32]| v.iter().map(|x| f64::from(*x)).collect();
                (wide(&norm.mean), wide(&norm.var))
            }
        };
        let applied = &mut self.applied[id];
        let (gamma, beta) = (&self.plan.params[norm.scale].data, &self.plan.params[norm.shift].data);
        let inverse: Vec<f64> = var.iter().map(|v| 1.0 / (v + f64::from(norm.eps)).sqrt()).collect();
        applied.mean = mean.iter().map(|m| *m as f32).collect();
        applied.inverse = inverse.iter().map(|i| *i as f32).collect();
        applied.scale = inverse.iter().zip(gamma).map(|(i, g)| (i * f64::from(*g)) as f32).collect();
        applied.shift = (0..mean.len())
            .map(|c| (f64::from(beta[c]) - mean[c] * inverse[c] * f64::from(gamma[c])) as f32)
            .collect();
    }

    /// Moments of a value that is there already.
    fn measure(&mut self, value: ValueId) {
        let shape = self.plan.shapes[value];
        let (isa, channels, size) = (self.isa, shape[0], shape.iter().product::<usize>());
        let parts: Vec<_> =
            self.values[value].par_chunks_exact(size).map(|image| moments(isa, image, channels)).collect();
        self.moments[value] = merge(&parts, shape[1] * shape[2]);
    }

    fn step(&mut self, index: usize, step: &Step, mode: Mode) {
        let (isa, n) = (self.isa, self.n);
        let shape = |v: ValueId| self.plan.shapes[v];
        let size = |v: ValueId| shape(v).iter().product::<usize>();
        let out = match step {
            Step::Conv { out, .. }
            | Step::Linear { out, .. }
            | Step::Point { out, .. }
            | Step::Pool { out, .. }
            | Step::GlobalAverage { out, .. }
            | Step::Concat { out, .. }
            | Step::Flatten { out, .. }
            | Step::Shortcut { out, .. } => *out,
        };
        let mut y = std::mem::take(&mut self.values[out]);
        y.resize(n * size(out), 0.0);
        let measured = self.measured[out] && mode == Mode::Train;
        let chunks = y.par_chunks_exact_mut(size(out));
        match step {
            Step::Conv { geometry, x, weight, bias, .. } => {
                let weights = &self.plan.params[*weight].data;
                geometry.pack(weights, mode == Mode::Train && *x != 0, &mut self.packed[index]);
                let packed = &self.packed[index];
                let bias = bias.map(|b| self.plan.params[b].data.as_slice());
                let channels = shape(out)[0];
                let parts: Vec<Option<[Vec<f64>; 3]>> = chunks
                    .zip(self.values[*x].par_chunks_exact(size(*x)))
                    .map_init(Scratch::default, |scratch, (y, x)| {
                        geometry.forward(isa, x, packed, bias, y, scratch);
                        measured.then(|| moments(isa, y, channels))
                    })
                    .collect();
                if measured {
                    let parts: Vec<_> = parts.into_iter().flatten().collect();
                    self.moments[out] = merge(&parts, shape(out)[1] * shape(out)[2]);
                }
            }
            Step::Linear { x, weight, bias, .. } => {
                let bias = bias.map(|b| self.plan.params[b].data.as_slice());
                linear::forward(&self.values[*x], &self.plan.params[*weight].data, bias, n, &mut y);
            }
            Step::Point { terms, curve, .. } => {
                let channels = shape(out)[0];
                let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
                let top = self.top(curve.as_ref(), channels);
                chunks.enumerate().for_each(|(i, y)| {
                    let (parts, count) = self.terms(terms, i, size(out), &ones, &zeros);
                    pointwise::forward(isa, &parts[..count], function(curve.as_ref(), &top), channels, y);
                });
            }
            Step::Pool { pool, x, .. } => chunks
                .zip(self.values[*x].par_chunks_exact(size(*x)))
                .for_each(|(y, x_)| pool::forward(pool, x_, shape(*x), shape(out), y)),
            Step::GlobalAverage { x, .. } => chunks
                .zip(self.values[*x].par_chunks_exact(size(*x)))
                .for_each(|(y, x_)| pool::global(x_, shape(*x), y)),
            Step::Concat { xs, .. } => chunks.enumerate().for_each(|(i, y)| {
                let mut first = 0;
                for &x in xs {
                    let (c, x) = (shape(x)[0], &self.values[x][i * size(x)..(i + 1) * size(x)]);
                    for (to, from) in y.chunks_exact_mut(shape(out)[0]).zip(x.chunks_exact(c)) {
                        to[first..first + c].copy_from_slice(from);
                    }
                    first += c;
                }
            }),
            Step::Flatten { x, .. } => {
                let [c, h, w] = shape(*x);
                chunks.zip(self.values[*x].par_chunks_exact(size(*x))).for_each(|(y, x)| {
                    y.iter_mut().enumerate().for_each(|(i, y)| *y = x[i % (h * w) * c + i / (h * w)]);
                });
            }
            Step::Shortcut { shortcut, x, .. } => chunks
                .zip(self.values[*x].par_chunks_exact(size(*x)))
                .for_each(|(y, x_)| pool::shortcut(shortcut, x_, shape(*x), shape(out), y)),
        }
        self.values[out] = y;
        if measured && !matches!(step, Step::Conv { .. }) {
            self.measure(out);
        }
    }

    /// λ or the ceiling per channel.
    fn top(&self, curve: Option<&Curve>, channels: usize) -> Vec<f32> {
        match curve {
            Some(Curve::Qcfs(_, id)) if self.plan.params[*id].data.len() == channels => {
                self.plan.params[*id].data.clone()
            }
            Some(Curve::Qcfs(_, id)) => vec![self.plan.params[*id].data[0]; channels],
            Some(Curve::Clip(ceiling)) => vec![*ceiling; channels],
            Some(Curve::Relu) | None => vec![],
        }
    }

    /// The summands of image `i`.
    fn terms<'a>(
        &'a self,
        terms: &[Term],
        i: usize,
        size: usize,
        ones: &'a [f32],
        zeros: &'a [f32],
    ) -> ([pointwise::Term<'a>; 2], usize) {
        let one = |t: &Term| {
            let x = &self.values[t.value][i * size..(i + 1) * size];
            match t.norm {
                Some(n) => {
                    pointwise::Term { x, scale: &self.applied[n].scale, shift: &self.applied[n].shift }
                }
                None => pointwise::Term { x, scale: ones, shift: zeros },
            }
        };
        ([one(&terms[0]), one(terms.last().unwrap_or(&terms[0]))], terms.len())
    }
}

fn function<'a>(curve: Option<&Curve>, top: &'a [f32]) -> Function<'a> {
    match curve {
        None => Function::None,
        Some(Curve::Relu) => Function::Relu,
        Some(Curve::Clip(_)) => Function::Clip(top),
        Some(Curve::Qcfs(levels, _)) => Function::Qcfs(*levels, top),
    }
}

/// Of one image: its first position (as a centre), Σ (x - centre), Σ (x - centre)².
fn moments(isa: Isa, image: &[f32], channels: usize) -> [Vec<f64>; 3] {
    let centre = &image[..channels];
    let (mut sum, mut square) = (vec![0.0; channels], vec![0.0; channels]);
    pointwise::moments(isa, image, centre, [&mut sum, &mut square]);
    [centre.iter().map(|c| f64::from(*c)).collect(), sum, square]
}

/// Mean and (biased) variance over all images.
fn merge(parts: &[[Vec<f64>; 3]], positions: usize) -> Moments {
    let channels = parts[0][0].len();
    let (each, count) = (positions as f64, (positions * parts.len()) as f64);
    let mut all = Moments { mean: vec![0.0; channels], var: vec![0.0; channels] };
    for c in 0..channels {
        let means = || parts.iter().map(|[centre, sum, _]| centre[c] + sum[c] / each);
        let mean = means().sum::<f64>() * each / count;
        let inside: f64 = parts.iter().map(|[_, sum, square]| square[c] - sum[c] * sum[c] / each).sum();
        let between: f64 = means().map(|m| (m - mean) * (m - mean)).sum::<f64>() * each;
        all.mean[c] = mean;
        all.var[c] = ((inside + between) / count).max(0.0);
    }
    all
}

#[cfg(test)]
mod tests;
