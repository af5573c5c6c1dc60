//! The engine against a naive simulation of the same integers, and the lossless theorem, with no tolerance.

use super::*;
use crate::integer::{IntegerNetwork, Precision, QcfsReading, Role};
use crate::network::*;
use crate::neuron::{self, Cell, Cos, Iterations, NeuronRule, Params, Qcfs, Rule, Spread};
use crate::outcome::Outcome;
use crate::samples::Normalisation;
use crate::tensor::Tensor;
use rheobase_kernels::{Isa, Kernels};

struct Draw(u64);

impl Draw {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }
    fn numbers(&mut self, n: usize, size: f32) -> Vec<f32> {
        (0..n).map(|_| (self.next() * 2.0 - 1.0) * size).collect()
    }
    fn tensor<const N: usize>(&mut self, shape: [usize; N]) -> Tensor {
        let fan: usize = shape[1..].iter().product();
        let data = self.numbers(shape.iter().product(), 1.6 / (fan as f32).sqrt());
        Tensor::new(shape, data).unwrap()
    }
    fn conv(&mut self, ci: usize, co: usize, k: usize, f: impl FnOnce(&mut Conv2d)) -> Op {
        let bias = Some(self.numbers(co, 0.2));
        let mut c = Conv2d {
            weight: Tensor::default(),
            bias,
            stride: [1, 1],
            padding: [k / 2; 4],
            dilation: [1, 1],
            groups: 1,
        };
        f(&mut c);
        c.weight = self.tensor([co, ci / c.groups, k, k]);
        Op::Conv2d(c)
    }
    fn linear(&mut self, n: usize, out: usize) -> Op {
        Op::Linear(Linear { weight: self.tensor([out, n]), bias: Some(self.numbers(out, 0.1)) })
    }
}

fn act(threshold: Threshold) -> Op {
    Op::Activation(Activation { kind: ActivationKind::Relu, threshold: Some(threshold), start: Start::Half })
}

fn layer(t: f32) -> Op {
    act(Threshold::Layer(t))
}

fn average(kernel: usize, stride: usize, pad: usize, count_padding: bool, ceil: bool) -> Op {
    let kind = PoolKind::Average { count_padding };
    Op::Pool(Pool { kind, kernel: [kernel; 2], stride: [stride; 2], padding: [pad; 4], ceil })
}

/// Residual blocks with both kinds of shortcut, a pooled head.
fn resnet(d: &mut Draw) -> Network {
    let mut n = Network::new("resnet", [3, 9, 8]);
    n.push("stem", d.conv(3, 20, 3, |_| {}), &[0]);
    let a =
        n.push("if1", act(Threshold::Channel(d.numbers(20, 0.2).iter().map(|x| x + 0.6).collect())), &[1]);
    n.push("c1", d.conv(20, 20, 3, |_| {}), &[a]);
    let b = n.push("if2", layer(0.5), &[a + 1]);
    let c = n.push("c2", d.conv(20, 20, 3, |_| {}), &[b]);
    let sum = n.push("add", Op::Add, &[c, a]);
    let e = n.push("if3", layer(0.8), &[sum]);
    let down = n.push("down", d.conv(20, 33, 3, |c| c.stride = [2, 2]), &[e]);
    let short = n.push("short", Op::Shortcut(Shortcut { stride: [2, 2], before: 6, after: 7 }), &[e]);
    let proj = n.push("proj", d.conv(20, 33, 1, |c| c.stride = [2, 2]), &[e]);
    let sum = n.push("add2", Op::Add, &[down, short, proj]);
    n.push("if4", layer(1.0), &[sum]);
    n.push("gap", Op::GlobalAverage, &[sum + 1]);
    n.push("fc", d.linear(33, 5), &[sum + 2]);
    n
}

/// Average pools between layers, a flattened head with hidden linear layers.
fn vgg(d: &mut Draw) -> Network {
    let mut n = Network::new("vgg", [1, 8, 8]);
    n.push("c1", d.conv(1, 16, 3, |_| {}), &[0]);
    n.push("if1", layer(0.5), &[1]);
    n.push("pool", average(2, 2, 0, true, false), &[2]);
    n.push("c2", d.conv(16, 70, 3, |c| c.dilation = [1, 2]), &[3]);
    n.push("if2", layer(0.6), &[4]);
    n.push("pool2", average(3, 1, 1, false, true), &[5]);
    n.push("c3", d.conv(70, 24, 3, |c| (c.groups, c.stride) = (2, [1, 2])), &[6]);
    n.push("if3", layer(0.4), &[7]);
    n.push("flat", Op::Flatten, &[8]);
    let [c, h, w] = [24, 4, 1];
    n.push("fc1", d.linear(c * h * w, 40), &[9]);
    n.push("if4", layer(0.5), &[10]);
    n.push("fc2", d.linear(40, 7), &[11]);
    n
}

/// Depthwise convolutions and linear projections with residual sums between them: linear maps of linear maps.
fn mobilenet(d: &mut Draw) -> Network {
    let mut n = Network::new("mobilenet", [3, 10, 10]);
    n.push("stem", d.conv(3, 16, 3, |c| (c.stride, c.padding) = ([2, 2], [0, 0, 1, 1])), &[0]);
    let mut at = n.push("if0", layer(0.7), &[1]);
    at = n.push("project0", d.conv(16, 10, 1, |_| {}), &[at]);
    for i in 0..2 {
        let block = at;
        at = n.push(format!("expand{i}"), d.conv(10, 40, 1, |_| {}), &[at]);
        at = n.push("if", layer(0.6), &[at]);
        at = n.push(format!("depth{i}"), d.conv(40, 40, 3, |c| c.groups = 40), &[at]);
        at = n.push("if", layer(0.5), &[at]);
        at = n.push(format!("project{i}"), d.conv(40, 10, 1, |_| {}), &[at]);
        at = n.push("add", Op::Add, &[block, at]);
    }
    at = n.push("pool", average(3, 2, 1, true, true), &[at]);
    at = n.push("wide", d.conv(10, 30, 3, |c| c.groups = 10), &[at]);
    at = n.push("if", layer(0.6), &[at]);
    at = n.push("gap", Op::GlobalAverage, &[at]);
    n.push("fc", d.linear(30, 6), &[at]);
    n
}

/// Concatenations of currents and of spikes, an affine map between them, pools on both.
fn densenet(d: &mut Draw) -> Network {
    let mut n = Network::new("densenet", [2, 8, 8]);
    let mut stream = vec![n.push("stem", d.conv(2, 12, 3, |_| {}), &[0])];
    for i in 0..2 {
        let width = 12 + 8 * i;
        let mut at = stream[0];
        if i > 0 {
            at = n.push("cat", Op::Concat, &stream);
        }
        at = n.push("affine", d.conv(width, width, 1, |c| c.groups = width), &[at]);
        at = n.push("if", layer(0.5), &[at]);
        stream.push(n.push("conv", d.conv(width, 8, 3, |_| {}), &[at]));
    }
    let cat = n.push("cat", Op::Concat, &stream);
    let half = n.push("transition", average(2, 2, 0, true, false), &[cat]);
    let a = n.push("if a", layer(0.5), &[half]);
    let c = n.push("inner", d.conv(28, 20, 3, |_| {}), &[half]);
    let b = n.push("if b", layer(0.5), &[c]);
    let spikes = n.push("cat spikes", Op::Concat, &[a, b]);
    let deep = n.push("grouped", d.conv(48, 24, 3, |c| c.groups = 2), &[spikes]);
    let e = n.push("if c", layer(0.5), &[deep]);
    let all = n.push("cat all", Op::Concat, &[e, spikes]);
    let gap = n.push("gap", Op::GlobalAverage, &[all]);
    n.push("fc", d.linear(72, 4), &[gap]);
    n
}

/// The image read by several maps of one layer, and beside spikes; thresholds out of reach.
fn twice(d: &mut Draw) -> Network {
    let mut n = Network::new("twice", [2, 6, 6]);
    let a = n.push("a", d.conv(2, 8, 3, |_| {}), &[0]);
    let b = n.push("b", d.conv(2, 8, 1, |c| c.bias = None), &[0]);
    let sum = n.push("add", Op::Add, &[a, b]);
    let e = n.push("if1", layer(0.7), &[sum]);
    let c = n.push("c", d.conv(8, 16, 3, |_| {}), &[e]);
    let skip = n.push("skip", d.conv(2, 16, 1, |_| {}), &[0]);
    let sum = n.push("add", Op::Add, &[c, skip]);
    let high = |c: usize| [900.0, 0.6, 20.0, 0.6][c.min(3)];
    n.push("if2", act(Threshold::Channel((0..16).map(high).collect())), &[sum]);
    let far = n.push("far", d.conv(16, 16, 3, |c| (c.dilation, c.padding) = ([2, 2], [2; 4])), &[sum + 1]);
    n.push("if3", layer(0.5), &[far]);
    n.push("gap", Op::GlobalAverage, &[far + 1]);
    n.push("fc", d.linear(16, 3), &[far + 2]);
    n
}

fn networks() -> Vec<Network> {
    let mut d = Draw(7);
    vec![resnet(&mut d), vgg(&mut d), mobilenet(&mut d), densenet(&mut d), twice(&mut d)]
}

fn integers(n: &Network, precision: Precision) -> IntegerNetwork {
    let spiking = SpikingNetwork::new(n.clone()).unwrap();
    IntegerNetwork::new(&spiking, &Normalisation::identity(n.input_shape()[0]), precision).unwrap()
}

/// Every network at every precision.
fn all() -> impl Iterator<Item = (Network, IntegerNetwork)> {
    networks().into_iter().flat_map(|n| Precision::ALL.map(|p| (n.clone(), integers(&n, p))))
}

fn images(n: &Network, count: usize) -> Vec<f32> {
    let mut d = Draw(99);
    (0..count * n.input_shape().iter().product::<usize>()).map(|_| d.next()).collect()
}

/// Running sums of the read-out after each step, neuron by neuron in i64: cumulative currents come from the QCFS reading's
/// plain loops with t levels and the spike counts up to t.
fn naive(n: &IntegerNetwork, rule: &impl Rule, steps: usize, image: &[f32]) -> (Vec<i64>, u64) {
    let span = steps.max(rule.presim());
    let mut counts: Vec<Vec<Vec<i64>>> = vec![vec![]; span + 1]; // [t][stage][neuron], cumulative
    let (mut logits, mut spikes) = (vec![], 0);
    for stage in &n.stages {
        let sums: Vec<Vec<i64>> = (0..=span)
            .map(|t| match t {
                0 => vec![0; stage.shape.iter().product()],
                _ => QcfsReading::new(n, t as u32).totals(stage, image, &counts[t]),
            })
            .collect();
        let mut next = vec![vec![0; sums[0].len()]; span + 1];
        match &stage.role {
            Role::Spiking { theta, start } => {
                for i in 0..sums[0].len() {
                    let currents: Vec<i64> = (1..=span).map(|t| sums[t][i] - sums[t - 1][i]).collect();
                    let (theta, start) = (theta[i % theta.len()].into(), start[i % start.len()].into());
                    let mut fired = vec![false; span];
                    rule.run(&Cell::new(theta, start, &currents), &mut fired);
                    for t in 1..=span {
                        next[t][i] = next[t - 1][i] + i64::from(fired[t - 1]);
                    }
                    spikes += next[span][i] as u64;
                }
            }
            Role::Linear => next = sums,
            Role::Readout => logits = sums[1..=steps].concat(),
        }
        counts.iter_mut().zip(next).for_each(|(c, n)| c.push(n));
    }
    (logits, spikes)
}

fn run(
    n: &IntegerNetwork,
    isa: impl Into<Kernels>,
    rule: &dyn NeuronRule,
    steps: usize,
    images: &[f32],
) -> Outcome {
    run_plan(&Plan::new(n, isa), rule, steps, images)
}

fn run_plan(plan: &Plan<'_>, rule: &dyn NeuronRule, steps: usize, images: &[f32]) -> Outcome {
    plan.run(&Run { rule, steps, offsets: true, spread: None, laps: None }, images)
}

#[test]
fn the_engine_is_the_naive_simulation_to_the_bit() {
    for (network, n) in all() {
        let images = images(&network, 2);
        let pixels = images.len() / 2;
        for (steps, presim) in [(1, 4), (4, 4), (8, 4), (6, 3), (18, 2), (2, 16)] {
            let cos = |iterations| Cos { presim, iterations };
            let mut seen = vec![];
            macro_rules! check {
                ($rule:expr) => {
                    let got = run(&n, Isa::best(), &$rule, steps, &images);
                    let (mut logits, mut spikes) = naive(&n, &$rule, steps, &images[..pixels]);
                    let second = naive(&n, &$rule, steps, &images[pixels..]);
                    logits.extend(second.0);
                    spikes += second.1;
                    assert_eq!(got.logits, logits, "{} T={steps} rho={presim}", network.name);
                    let fired: u64 = got.layers.iter().flat_map(|l| &l.spikes).sum();
                    assert_eq!(fired, spikes, "{}", network.name);
                    seen.push(fired);
                    // without offsets, few steps stay in registers, in fewer bits where these hold them
                    for isa in Kernels::available() {
                        let plan = Plan::new(&n, isa);
                        let run = Run { rule: &$rule, steps, offsets: false, spread: None, laps: None };
                        let bare = plan.run(&run, &images);
                        assert_eq!(bare.logits, logits, "{isa} T={steps} rho={presim}");
                        assert_eq!(fired, bare.layers.iter().flat_map(|l| &l.spikes).sum::<u64>());
                    }
                };
            }
            check!(Qcfs);
            check!(cos(Iterations::Times(1)));
            check!(cos(Iterations::Times(3)));
            check!(cos(Iterations::Exact));
            check!(neuron::Srp { presim });
            assert!(seen.iter().all(|&s| s > 0), "spikes flow: {seen:?}");
        }
    }
}

#[test]
fn exact_calibration_is_lossless_to_the_bit() {
    for (network, n) in all() {
        let images = images(&network, 3);
        for levels in [1, 2, 4, 8, 20] {
            let rule = Cos { presim: levels, iterations: Iterations::Exact };
            let got = run(&n, Isa::best(), &rule, levels, &images);
            let classes = n.classes();
            for (i, image) in images.chunks_exact(images.len() / 3).enumerate() {
                let last = ((i + 1) * levels - 1) * classes;
                assert_eq!(
                    got.logits[last..last + classes],
                    QcfsReading::new(&n, levels as u32).logits(image),
                    "{} L={levels}",
                    network.name
                );
            }
            for layer in got.layers.iter().filter_map(|l| l.offsets.as_ref()) {
                assert_eq!(layer.after.iter().sum::<u64>(), layer.after[levels], "every neuron is exact");
            }
        }
    }
}

#[test]
fn spreading_moves_spikes_between_steps_and_changes_no_count() {
    let (levels, exact) = (4, |presim| Cos { presim, iterations: Iterations::Exact });
    for (network, n) in all() {
        let images = images(&network, 2);
        for kind in [Spread::Aligned, Spread::Diffusion, Spread::Weights] {
            let mut seen = None;
            for isa in Kernels::available() {
                let (plan, rule) = (Plan::new(&n, isa), exact(levels));
                let Ok(Some(spreading)) = plan.spreading(Some(kind), &rule, levels) else {
                    assert_eq!(kind, Spread::Weights, "only this one asks something of the head");
                    continue;
                };
                let run = |spread| {
                    plan.run(&Run { rule: &rule, steps: levels, offsets: true, spread, laps: None }, &images)
                };
                let (got, plain) = (run(Some(&spreading)), run(None));
                let classes = n.classes();
                let last = |o: &Outcome| -> Vec<i64> {
                    o.logits
                        .chunks_exact(levels * classes)
                        .flat_map(|l| l[(levels - 1) * classes..].to_vec())
                        .collect()
                };
                assert_eq!(last(&got), last(&plain), "{} {kind}", network.name);
                for (a, b) in got.layers.iter().zip(&plain.layers) {
                    assert_eq!(a.spikes.iter().sum::<u64>(), b.spikes.iter().sum::<u64>());
                    assert_eq!(a.offsets, b.offsets);
                }
                assert_eq!(seen.get_or_insert(got.clone()), &got, "{isa}");
            }
        }
    }
}

#[test]
fn instruction_sets_threads_and_batches_do_not_change_a_byte() {
    for (network, n) in all() {
        let images = images(&network, 6);
        let rule = neuron::rule("cos", &Params::default()).unwrap();
        let whole = run(&n, Isa::scalar(), &*rule, 5, &images);
        for isa in Kernels::available() {
            for threads in [1, 2, 3, 7] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                // as little work as there is goes over all threads, too
                for (batch, split) in [(1, None), (1, Some(0)), (2, Some(0)), (3, None), (6, None)] {
                    let mut plan = Plan::new(&n, isa);
                    plan.split = split.unwrap_or(plan.split);
                    let mut outcome = Outcome::default();
                    for part in images.chunks(images.len() / 6 * batch) {
                        outcome.append(pool.install(|| run_plan(&plan, &*rule, 5, part)));
                    }
                    assert_eq!(outcome, whole, "{} {} threads {threads} batch {batch}", network.name, isa);
                }
            }
        }
    }
}

/// More weights than near caches hold: block by block, over a group of images and where threads share one; swept, and gathered.
#[test]
fn wide_layers_are_the_naive_simulation_to_the_bit() {
    let d = &mut Draw(5);
    let mut network = Network::new("wide", [3, 4, 4]);
    network.push("c1", d.conv(3, 160, 1, |_| {}), &[0]);
    network.push("if1", layer(0.4), &[1]);
    network.push("c2", d.conv(160, 192, 3, |_| {}), &[2]);
    network.push("if2", layer(0.4), &[3]);
    network.push("c3", d.conv(192, 96, 4, |c| c.padding = [0; 4]), &[4]);
    network.push("if3", layer(0.4), &[5]);
    network.push("fc", d.linear(96, 4), &[6]);
    let images = images(&network, 5);
    let (rule, steps) = (Cos { presim: 4, iterations: Iterations::Times(1) }, 5);
    for precision in [Precision::Int32, Precision::Int16] {
        let n = integers(&network, precision);
        let each = images.chunks_exact(images.len() / 5).map(|image| naive(&n, &rule, steps, image));
        let (logits, spikes): (Vec<_>, Vec<_>) = each.unzip();
        let mut synops = None;
        for isa in Kernels::available() {
            for threads in [1, 11] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let got = pool.install(|| run(&n, isa, &rule, steps, &images));
                assert_eq!(got.logits, logits.concat(), "{isa} {threads} threads");
                let fired: u64 = got.layers.iter().flat_map(|l| &l.spikes).sum();
                assert_eq!(fired, spikes.iter().sum::<u64>());
                let many = got.layers.iter().map(|l| l.synops).sum::<u64>();
                assert_eq!(*synops.get_or_insert(many), many, "{isa} {threads} threads");
            }
        }
    }
}

/// Some output channels of convolutions get next to no weights, and a bias that is not positive.
fn silence(n: &mut Network, channels: &[(&str, &[usize])]) {
    for node in &mut n.nodes {
        let (Op::Conv2d(conv), Some((_, channels))) =
            (&mut node.op, channels.iter().find(|(name, _)| *name == node.name))
        else {
            continue;
        };
        let each: usize = conv.weight.shape[1..].iter().product();
        for &c in *channels {
            conv.weight.data[c * each..][..each].iter_mut().for_each(|w| *w *= 1e-6);
            if let Some(bias) = &mut conv.bias {
                bias[c] = -1e-4 * (c % 2) as f32;
            }
        }
    }
}

/// Two residual blocks, then pooled layers.
fn stream(d: &mut Draw) -> Network {
    let mut n = Network::new("stream", [3, 7, 8]);
    n.push("stem", d.conv(3, 20, 3, |_| {}), &[0]);
    let a = n.push("if1", layer(0.6), &[1]);
    n.push("c1", d.conv(20, 20, 3, |_| {}), &[a]);
    let b = n.push("if2", layer(0.5), &[a + 1]);
    let c = n.push("c2", d.conv(20, 20, 3, |_| {}), &[b]);
    let sum = n.push("add", Op::Add, &[c, a]);
    let e = n.push("if3", layer(0.8), &[sum]);
    let c = n.push("c3", d.conv(20, 20, 1, |_| {}), &[e]);
    let sum = n.push("add2", Op::Add, &[c, e]);
    n.push("if4", layer(0.8), &[sum]);
    n.push("pool", average(2, 2, 0, true, false), &[sum + 1]);
    n.push("c4", d.conv(20, 70, 3, |_| {}), &[sum + 2]);
    n.push("if5", layer(0.5), &[sum + 3]);
    n.push("c5", d.conv(70, 12, 3, |_| {}), &[sum + 4]);
    n.push("if6", layer(0.5), &[sum + 5]);
    n.push("gap", Op::GlobalAverage, &[sum + 6]);
    n.push("fc", d.linear(12, 5), &[sum + 7]);
    n
}

/// The same rule, of which nothing is known.
#[derive(Clone)]
struct Unknown(Cos);

impl Rule for Unknown {
    fn presim(&self) -> usize {
        Rule::presim(&self.0)
    }
    fn place<L: neuron::Lane>(&self, cell: &Cell<'_, L>) -> neuron::Placed<L> {
        self.0.place(cell)
    }
}

#[test]
fn channels_that_never_fire_are_left_out_and_change_nothing() {
    let d = &mut Draw(11);
    let (mut padded, mut residual, mut chained) = (resnet(d), stream(d), mobilenet(d));
    // a shortcut to the middle of more channels, which keep their order
    silence(&mut padded, &[("stem", &[2, 3, 17]), ("c1", &[0, 9, 10, 11, 19]), ("c2", &[3, 5, 17])]);
    // a stream whose second part can be silent where the first is
    silence(&mut residual, &[("stem", &[2, 3, 17]), ("c1", &[0, 9, 10, 11, 19]), ("c2", &[3, 5, 17])]);
    silence(&mut chained, &[("stem", &[1, 15]), ("expand0", &[7]), ("depth0", &[7, 20]), ("depth1", &[0])]);
    // wider than a word, and hardly anything left
    let (mut wide, mut empty) = (stream(d), stream(d));
    silence(&mut wide, &[("stem", &[19]), ("c3", &[4]), ("c4", &[5, 6, 31, 64, 68, 69])]);
    let most = (0..70).filter(|c| c % 7 != 0).collect::<Vec<_>>();
    silence(
        &mut empty,
        &[
            ("stem", &most[..17]),
            ("c2", &most[..17]),
            ("c1", &most[..17]),
            ("c3", &most[..17]),
            ("c4", &most),
        ],
    );
    // of every stage, in order, with images of known size in 16 bits
    let shapes: [&[usize]; 5] = [
        &[20, 15, 20, 33, 5],
        &[17, 15, 18, 20, 70, 12, 5],
        &[14, 10, 40, 40, 10, 40, 40, 10, 10, 30, 6],
        &[19, 20, 20, 20, 64, 12, 5],
        &[3, 3, 3, 3, 10, 12, 5],
    ];
    for (network, shapes) in [padded, residual, chained, wide, empty].iter().zip(shapes) {
        for precision in Precision::ALL {
            let n = integers(network, precision);
            if precision != Precision::Int32 {
                let cut = live::without_silent(&n).unwrap();
                let got: Vec<usize> = cut.stages.iter().map(|s| s.shape[0]).collect();
                assert_eq!(got, shapes, "{} {precision}", network.name);
            }
            let images = images(network, 3);
            for (steps, presim) in [(4, 4), (6, 2), (live::STEPS + 1, 4)] {
                for iterations in [Iterations::Times(1), Iterations::Exact] {
                    let rule = Cos { presim, iterations };
                    let run = |plan: &Plan<'_>, rule: &dyn NeuronRule, offsets: bool| {
                        plan.run(&Run { rule, steps, offsets, spread: None, laps: None }, &images)
                    };
                    for kernels in Kernels::available() {
                        let plan = Plan::new(&n, kernels);
                        for offsets in [false, true] {
                            let (got, want) =
                                (run(&plan, &rule, offsets), run(&plan, &Unknown(rule), offsets));
                            assert_eq!(got, want, "{} {precision} {kernels} T={steps}", network.name);
                        }
                    }
                    let plan = Plan::new(&n, Isa::best());
                    let image = &images[..images.len() / 3];
                    let got = plan
                        .run(&Run { rule: &rule, steps, offsets: false, spread: None, laps: None }, image);
                    assert_eq!(got.logits, naive(&n, &rule, steps, image).0, "{}", network.name);
                }
            }
        }
    }
}

#[test]
fn plans_that_were_tried_run_alike() {
    let rule = Cos { presim: 4, iterations: Iterations::Times(1) };
    for (network, n) in all() {
        let images = images(&network, 3);
        let run = Run { rule: &rule, steps: 5, offsets: false, spread: None, laps: None };
        for isa in Isa::available() {
            let plan = Plan::new(&n, isa);
            let want = plan.run(&run, &images);
            let got = plan.tried(&run, &images).run(&run, &images);
            assert_eq!(
                (got.logits, got.layers),
                (want.logits, want.layers),
                "{} {}",
                network.name,
                isa.name()
            );
        }
    }
}

#[test]
fn the_integers_are_the_real_network() {
    // T = 64 without calibration approaches the clipped ReLU network; here: the QCFS reading with many levels does.
    for network in networks() {
        let mut clipped = network.clone();
        for node in &mut clipped.nodes {
            if let Op::Activation(a) = &mut node.op {
                a.kind = ActivationKind::Qcfs { levels: 1 << 16 };
            }
        }
        let n = integers(&network, Precision::Int32);
        let image = images(&network, 1);
        let want = crate::ann::Dense::new(&clipped).unwrap().forward(&image);
        let got = QcfsReading::new(&n, 1 << 16).logits(&image);
        for (g, w) in got.iter().zip(&want) {
            let g = *g as f64 * n.logit_unit() / 65536.0;
            assert!((g - f64::from(*w)).abs() < 2e-3, "{}: {g} {w}", network.name);
        }
    }
}
