//! Whole small networks: what is replaced, how well, and that nothing depends on the number of threads.

use super::*;
use rheobase_core::ann::Dense;
use rheobase_core::network::fold::fold;
use rheobase_core::network::{Activation, Conv2d, Linear, Pool, PoolKind, Start, Threshold};
use rheobase_core::progress::Silent;
use rheobase_core::random::Stream;
use rheobase_core::samples::{Normalisation, Samples};
use rheobase_core::tensor::Tensor;

const CLASSES: usize = 5;

/// Images of noise around one of five patterns.
struct Patterns {
    names: Vec<String>,
}

impl Patterns {
    fn new() -> Self {
        Patterns { names: (0..CLASSES).map(|c| c.to_string()).collect() }
    }
}

impl Samples for Patterns {
    fn name(&self) -> String {
        "patterns".into()
    }
    fn len(&self) -> usize {
        400
    }
    fn shape(&self) -> [usize; 3] {
        [2, 8, 8]
    }
    fn classes(&self) -> &[String] {
        &self.names
    }
    fn normalisation(&self) -> Normalisation {
        Normalisation::identity(2)
    }
    fn read(&self, index: usize, pixels: &mut [f32]) -> Result<usize> {
        let class = index % CLASSES;
        let (mut noise, mut pattern) = (Stream::new(1, index as u64), Stream::new(2, class as u64));
        pixels.iter_mut().for_each(|p| *p = (0.5 * noise.uniform() + 0.5 * pattern.uniform()) as f32);
        Ok(class)
    }
}

fn conv(random: &mut Stream, input: usize, out: usize, kernel: usize, stride: usize, groups: usize) -> Op {
    let fan = input / groups * kernel * kernel;
    let scale = (6.0 / fan as f64).sqrt();
    let mut number = || ((2.0 * random.uniform() - 1.0) * scale) as f32;
    let weight =
        Tensor::new([out, input / groups, kernel, kernel], (0..out * fan).map(|_| number()).collect());
    Op::Conv2d(Conv2d {
        weight: weight.unwrap(),
        bias: Some((0..out).map(|_| 0.2 * number()).collect()),
        stride: [stride; 2],
        padding: [kernel / 2; 4],
        dilation: [1; 2],
        groups,
    })
}

fn activation(kind: ActivationKind) -> Op {
    Op::Activation(Activation { kind, threshold: None, start: Start::Zero })
}

/// A stem, a residual block with a convolution as its shortcut, an inverted bottleneck with a linear stream, a max-pool or an
/// average pool, a head.
fn network(pool: PoolKind) -> Network {
    let mut random = Stream::new(7, 0);
    let (relu, clip) = (activation(ActivationKind::Relu), activation(ActivationKind::Clip { ceiling: 2.0 }));
    let mut n = Network::new("small", [2, 8, 8]);
    let stem = n.push("stem", conv(&mut random, 2, 8, 3, 1, 1), &[0]);
    let x = n.push("stem.act", relu.clone(), &[stem]);
    let a = n.push("a", conv(&mut random, 8, 12, 3, 2, 1), &[x]);
    let a = n.push("a.act", relu.clone(), &[a]);
    let b = n.push("b", conv(&mut random, 12, 12, 3, 1, 2), &[a]);
    let short = n.push("short", conv(&mut random, 8, 12, 1, 2, 1), &[x]);
    let sum = n.push("sum", Op::Add, &[b, short]);
    let x = n.push("block", relu, &[sum]);
    let stream = n.push("project", conv(&mut random, 12, 6, 1, 1, 1), &[x]);
    let wide = n.push("expand", conv(&mut random, 6, 24, 1, 1, 1), &[stream]);
    let wide = n.push("expand.act", clip.clone(), &[wide]);
    let deep = n.push("depthwise", conv(&mut random, 24, 24, 3, 1, 24), &[wide]);
    let deep = n.push("depthwise.act", clip.clone(), &[deep]);
    let narrow = n.push("narrow", conv(&mut random, 24, 6, 1, 1, 1), &[deep]);
    let sum = n.push("stream", Op::Add, &[narrow, stream]);
    let last = n.push("last", conv(&mut random, 6, 32, 1, 1, 1), &[sum]);
    let last = n.push("last.act", clip, &[last]);
    let pool = Pool { kind: pool, kernel: [2; 2], stride: [2; 2], padding: [0; 4], ceil: false };
    let pool = n.push("pool", Op::Pool(pool), &[last]);
    let flat = n.push("flatten", Op::GlobalAverage, &[pool]);
    let mut number = || random.uniform() as f32 - 0.5;
    let weight = Tensor::new([CLASSES, 32], (0..CLASSES * 32).map(|_| number()).collect()).unwrap();
    n.push("head", Op::Linear(Linear { weight, bias: None }), &[flat]);
    fold(&n).unwrap()
}

const AVERAGE: PoolKind = PoolKind::Average { count_padding: false };

fn options(levels: u32, method: Method) -> Options {
    Options { levels, method, per_layer: false, average_pools: false, seed: 0 }
}

fn converted(network: &Network, options: &Options) -> Network {
    let patterns = Patterns::new();
    let images = Prepared::unlabelled(&patterns, network, None, Some(200)).unwrap().spread();
    quantize(network, &images, options, &Silent).unwrap()
}

/// Mean squared difference of the logits, in units of the first network's variance.
fn distance(a: &Network, b: &Network) -> f64 {
    let patterns = Patterns::new();
    let (a, b) = (Dense::new(a).unwrap(), Dense::new(b).unwrap());
    let mut pixels = vec![0.0; 128];
    let (mut error, mut square, mut sum) = (0.0, 0.0, [0.0; CLASSES]);
    for i in 0..400 {
        patterns.read(i, &mut pixels).unwrap();
        let (x, y) = (a.forward(&pixels), b.forward(&pixels));
        for c in 0..CLASSES {
            let (x, y) = (f64::from(x[c]), f64::from(y[c]));
            error += (x - y).powi(2);
            square += x * x;
            sum[c] += x;
        }
    }
    error / (square - sum.iter().map(|s| s * s / 400.0).sum::<f64>())
}

#[test]
fn every_step_brings_the_network_nearer_and_more_levels_too() {
    let relu = network(AVERAGE);
    let mut before = f64::INFINITY;
    for levels in [2, 4, 8, 16] {
        let [mse, fitted] =
            [Method::Mse, Method::LeastSquares].map(|m| converted(&relu, &options(levels, m)));
        let (plain, error) = (distance(&relu, &mse), distance(&relu, &fitted));
        assert!(error < plain && error < before, "L = {levels}: mse {plain}, least squares {error}");
        before = error;
    }
    assert!(before < 0.1, "{before}");
}

#[test]
fn the_result_is_a_qcfs_network_that_says_so() {
    let mut relu = network(AVERAGE);
    relu.classes = (0..CLASSES).map(|c| format!("class {c}")).collect();
    relu.normalisation = Some(Normalisation::identity(2));
    for (per_layer, method) in [(false, Method::LeastSquares), (true, Method::Mse)] {
        let new = converted(&relu, &Options { per_layer, ..options(4, method) });
        for (new, old) in new.nodes.iter().zip(&relu.nodes) {
            assert_eq!((&new.name, &new.inputs), (&old.name, &old.inputs));
            let Op::Activation(a) = &new.op else { continue };
            assert_eq!((a.kind, &a.start), (ActivationKind::Qcfs { levels: 4 }, &Start::Half));
            assert_eq!(matches!(a.threshold, Some(Threshold::Layer(_))), per_layer);
        }
        assert_eq!((&new.classes, &new.normalisation), (&relu.classes, &relu.normalisation));
        let note = new.notes.last().unwrap();
        assert!(
            note.starts_with("activations replaced by QCFS (6): L = 4") && note.ends_with("200 images"),
            "{note}"
        );
        // what sees the image itself keeps its weights
        let weights = |n: &Network| match &n.nodes[1].op {
            Op::Conv2d(c) => c.weight.clone(),
            _ => unreachable!(),
        };
        assert_eq!(weights(&new), weights(&relu));
    }
}

#[test]
fn max_pools_are_replaced_where_that_is_asked_for_and_made_up_for() {
    let relu = network(PoolKind::Max);
    let asked = Options { average_pools: true, ..options(8, Method::LeastSquares) };
    let new = converted(&relu, &asked);
    assert!(new.notes[0].starts_with("max-pooling replaced by average pooling: pool"), "{:?}", new.notes);
    let mut pooled = relu.clone();
    average_pools(&mut pooled);
    let (without, with) = (distance(&relu, &pooled), distance(&relu, &new));
    assert!(with < without / 2.0, "{without} {with}");
}

#[test]
fn threads_change_nothing() {
    let relu = network(AVERAGE);
    for method in [Method::Mse, Method::LeastSquares] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| converted(&relu, &options(4, method)))
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(3));
    }
}

#[test]
fn a_layer_keeps_its_output_s_mean() {
    let relu = network(AVERAGE);
    let new = converted(&relu, &options(2, Method::LeastSquares));
    let patterns = Patterns::new();
    let images = Prepared::unlabelled(&patterns, &relu, None, Some(200)).unwrap().spread();
    let (mut pixels, mut labels) = (vec![], vec![]);
    images.batch(0..200, &mut pixels, &mut labels).unwrap();
    let mean = |n: &Network, class: usize| {
        let dense = Dense::new(n).unwrap();
        pixels.chunks_exact(128).map(|x| f64::from(dense.forward(x)[class])).sum::<f64>() / 200.0
    };
    for class in 0..CLASSES {
        assert!((mean(&relu, class) - mean(&new, class)).abs() < 1e-4, "class {class}");
    }
}

#[test]
fn values_that_are_alive_at_once_are_counted() {
    let n = network(AVERAGE);
    let shapes = shape::infer(&n).unwrap();
    // depthwise: 24 channels of 4x4 in and out, beside the stream of 6: (24 + 24 + 6) · 16 = 864; the stem: (2 + 8) · 64 = 640;
    // a: 8 · 64 in, 12 · 16 out twice over with the shortcut's: 512 + 192 + 192 = 896
    assert_eq!(Order::new(&n).peak(&n, &shapes), 896);
    assert_eq!(most_images(&n).unwrap(), MEMORY / (2 * 4 * 896));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (average, max) = (network(AVERAGE), network(PoolKind::Max));
    let refused = |n: &Network, o: Options| o.check(n).unwrap_err().to_string();
    let plain = options(4, Method::default());
    assert!(refused(&average, options(0, Method::Mse)).contains("1 to 2^20 levels"));
    assert!(
        refused(&average, Options { average_pools: true, ..plain }).contains("no max-pooling to replace")
    );
    assert!(refused(&max, plain).contains("`--maxpool avg`"));
    let new = converted(&average, &plain);
    assert!(refused(&new, plain).contains("nothing to quantize"));
    for text in ["mse", "least-squares", "distill"] {
        assert_eq!(text.parse::<Method>().unwrap().to_string(), text);
    }
    assert!("kl".parse::<Method>().unwrap_err().to_string().contains("known: mse, least-squares, distill"));
}

#[test]
fn work_stops_where_its_caller_wants() {
    struct Stop;
    impl Progress for Stop {
        fn tick(&self, _: &str, _: usize, _: usize) {}
        fn cancelled(&self) -> bool {
            true
        }
    }
    let (relu, patterns) = (network(AVERAGE), Patterns::new());
    let images = Prepared::unlabelled(&patterns, &relu, None, Some(10)).unwrap();
    let stopped = quantize(&relu, &images, &options(4, Method::Mse), &Stop).unwrap_err();
    assert_eq!(stopped.kind(), Kind::Cancelled);
}
