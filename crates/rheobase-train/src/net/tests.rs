//! Gradients of every operation against finite differences; the same numbers for any number of threads.

use super::*;
use rheobase_core::Tensor;
use rheobase_core::ann::Dense;
use rheobase_core::network::fold::fold;
use rheobase_core::network::{
    Activation, ActivationKind, BatchNorm, Conv2d, Linear, Pool, PoolKind, Shortcut, Start,
};
use rheobase_core::random::Stream;

fn numbers(n: usize, salt: u64, scale: f32) -> Vec<f32> {
    let mut stream = Stream::new(7, salt);
    (0..n).map(|_| (2.0 * stream.uniform() - 1.0) as f32 * scale).collect()
}

/// Convolution as it is written in a test: kernel, stride, padding, dilation, groups.
struct C([usize; 2], [usize; 2], [usize; 4], [usize; 2], usize);

struct Build(Network, u64);

impl Build {
    fn new(shape: [usize; 3]) -> Self {
        Build(Network::new("test", shape), 0)
    }
    fn shape(&self, node: usize) -> [usize; 3] {
        // unfinished networks do not end in a flat vector
        let mut ended = self.0.clone();
        ended.push("end", Op::GlobalAverage, &[node]);
        rheobase_core::network::shape::infer(&ended).unwrap()[node]
    }
    fn conv(
        &mut self,
        from: usize,
        out: usize,
        C(kernel, stride, padding, dilation, groups): C,
        bias: bool,
    ) -> usize {
        self.1 += 1;
        let shape = [out, self.shape(from)[0] / groups, kernel[0], kernel[1]];
        let n: usize = shape.iter().product();
        let scale = (3.0 / (n / out) as f32).sqrt();
        let weight = Tensor::new(shape, numbers(n, self.1, scale)).unwrap();
        let bias = bias.then(|| numbers(out, 100 + self.1, 0.3));
        let op = Op::Conv2d(Conv2d { weight, bias, stride, padding, dilation, groups });
        self.0.push("conv", op, &[from])
    }
    fn norm(&mut self, from: usize) -> usize {
        self.1 += 1;
        let c = self.shape(from)[0];
        let scale = numbers(c, 200 + self.1, 0.3).iter().map(|x| x + 1.0).collect();
        let shift = numbers(c, 300 + self.1, 0.3);
        let op = Op::BatchNorm(BatchNorm { scale, shift, mean: vec![0.1; c], var: vec![0.8; c], eps: 1e-5 });
        self.0.push("norm", op, &[from])
    }
    fn act(&mut self, from: usize, kind: ActivationKind, threshold: Option<Threshold>) -> usize {
        self.0.push("act", Op::Activation(Activation { kind, threshold, start: Start::Half }), &[from])
    }
    /// A QCFS of so many levels that its floor is no step any more: finite differences see the straight-through slope.
    fn fine(&mut self, from: usize, threshold: Threshold) -> usize {
        self.act(from, ActivationKind::Qcfs { levels: 1 << 20 }, Some(threshold))
    }
    fn pool(
        &mut self,
        from: usize,
        kind: PoolKind,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 4],
    ) -> usize {
        self.0.push("pool", Op::Pool(Pool { kind, kernel, stride, padding, ceil: false }), &[from])
    }
    fn linear(&mut self, from: usize, out: usize, bias: bool) -> usize {
        self.1 += 1;
        let k = self.shape(from)[0];
        let weight = Tensor::new([out, k], numbers(k * out, 400 + self.1, (3.0 / k as f32).sqrt())).unwrap();
        let bias = bias.then(|| numbers(out, 500 + self.1, 0.2));
        self.0.push("linear", Op::Linear(Linear { weight, bias }), &[from])
    }
    fn head(mut self, from: usize) -> Network {
        let g = self.0.push("mean", Op::GlobalAverage, &[from]);
        self.linear(g, 5, true);
        self.0
    }
}

fn k3() -> C {
    C([3, 3], [1, 1], [1; 4], [1, 1], 1)
}

fn networks() -> Vec<(&'static str, Network)> {
    let relu = ActivationKind::Relu;
    let mut all = vec![];
    for (name, channels, out, conv) in [
        ("whole registers", 16, 32, k3()),
        ("odd channels", 5, 7, k3()),
        ("wide", 48, 80, C([1, 1], [1, 1], [0; 4], [1, 1], 1)),
        ("stride", 16, 16, C([3, 3], [2, 2], [1; 4], [1, 1], 1)),
        ("uneven padding and stride", 6, 16, C([3, 2], [2, 1], [0, 2, 1, 0], [1, 1], 1)),
        ("dilation", 8, 16, C([3, 3], [1, 1], [2; 4], [2, 2], 1)),
        ("groups", 8, 12, C([3, 3], [2, 1], [1; 4], [1, 1], 4)),
        ("depthwise", 9, 9, C([3, 3], [2, 2], [1; 4], [1, 1], 9)),
        ("padding beyond the kernel", 4, 16, C([1, 2], [2, 2], [1, 2, 1, 2], [1, 1], 1)),
    ] {
        let mut b = Build::new([3, 9, 8]);
        let stem = b.conv(0, channels, k3(), true);
        let stem = b.act(stem, relu, None);
        let x = b.conv(stem, out, conv, true);
        let x = b.fine(x, Threshold::Layer(0.7));
        all.push((name, b.head(x)));
    }
    let mut b = Build::new([3, 8, 8]);
    let x = b.conv(0, 16, k3(), false);
    let x = b.norm(x);
    let x = b.fine(x, Threshold::Layer(1.5));
    let y = b.conv(x, 16, k3(), false);
    let y = b.norm(y);
    let y = b.fine(y, Threshold::Channel((0..16).map(|i| 0.5 + i as f32 / 10.0).collect()));
    let y = b.conv(y, 16, k3(), false);
    let y = b.norm(y);
    let sum = b.0.push("add", Op::Add, &[y, x]);
    let x = b.fine(sum, Threshold::Layer(1.2));
    let y = b.conv(x, 20, C([3, 3], [2, 2], [1; 4], [1, 1], 1), false);
    let y = b.norm(y);
    let z = b.conv(x, 20, C([1, 1], [2, 2], [0; 4], [1, 1], 1), false);
    let z = b.norm(z);
    let sum = b.0.push("add", Op::Add, &[y, z]);
    let x = b.fine(sum, Threshold::Layer(2.0));
    all.push(("residual blocks", b.head(x)));

    let mut b = Build::new([2, 8, 8]);
    let a = b.conv(0, 6, k3(), true);
    let n = b.norm(a);
    let r = b.act(n, relu, None);
    let c = b.conv(r, 4, k3(), false);
    let joined = b.0.push("concat", Op::Concat, &[a, c]);
    let n = b.norm(joined);
    let r = b.act(n, ActivationKind::Clip { ceiling: 0.9 }, None);
    let c = b.conv(r, 4, k3(), false);
    let joined = b.0.push("concat", Op::Concat, &[joined, c]);
    let p = b.pool(joined, PoolKind::Average { count_padding: true }, [2, 3], [2, 2], [1, 1, 0, 1]);
    let n = b.norm(p);
    let id = b.0.push("id", Op::Identity, &[n]);
    let r = b.fine(id, Threshold::Layer(1.0));
    all.push(("dense blocks", b.head(r)));

    let mut b = Build::new([2, 8, 8]);
    let a = b.conv(0, 8, k3(), true);
    let r = b.fine(a, Threshold::Layer(0.8));
    let m = b.pool(r, PoolKind::Max, [3, 3], [2, 2], [1; 4]);
    let q = b.pool(r, PoolKind::Average { count_padding: false }, [3, 3], [2, 2], [1; 4]);
    let s = Op::Shortcut(Shortcut { stride: [2, 2], before: 0, after: 0 });
    let s = b.0.push("shortcut", s, &[r]);
    let sum = b.0.push("add", Op::Add, &[m, q, s, q]);
    let s = Op::Shortcut(Shortcut { stride: [2, 1], before: 1, after: 2 });
    let s = b.0.push("shortcut", s, &[sum]);
    let f = b.0.push("flatten", Op::Flatten, &[s]);
    let l = b.linear(f, 300, false);
    let n = b.norm(l);
    let r = b.fine(n, Threshold::Layer(1.1));
    b.linear(r, 4, true);
    all.push(("pools, shortcuts, flat layers", b.0));
    all
}

/// A fixed linear functional of the logits: its gradient is exact.
fn functional(logits: &[f32]) -> (f64, Vec<f32>) {
    let weights = numbers(logits.len(), 999, 1.0);
    (logits.iter().zip(&weights).map(|(l, w)| f64::from(*l) * f64::from(*w)).sum(), weights)
}

#[test]
fn gradients_of_every_operation_are_finite_differences() {
    for (name, network) in networks() {
        let mut net = Net::new(&network).unwrap_or_else(|e| panic!("{name}: {e}"));
        let images = numbers(6 * net.image(), 50, 1.0);
        let gradient = functional(net.forward(&images, Mode::Train)).1;
        net.backward(&gradient);
        for index in 0..net.params().len() {
            let param = &net.params()[index];
            let (label, gradient) =
                (format!("{name}: {}.{}", param.node, param.field.name()), param.gradient.clone());
            let before = param.data.clone();
            // along the gradient's signs: no cancellation; and along a random direction
            let signs: Vec<f32> = gradient.iter().map(|g| g.signum()).collect();
            for (way, direction) in
                [("signs", signs), ("random", numbers(before.len(), 60 + index as u64, 1.0))]
            {
                let slope: f64 =
                    gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
                let scale: f64 = gradient.iter().map(|g| f64::from(g.abs())).sum();
                let size = (before.len() as f32).sqrt();
                let mut seen = vec![];
                for step in [1e-2f32, 4e-3, 1e-3, 3e-4].map(|s| s / size) {
                    let mut at = |sign: f32| {
                        let moved = before.iter().zip(&direction).map(|(w, d)| w + sign * step * d).collect();
                        net.params_mut()[index].data = moved;
                        functional(net.forward(&images, Mode::Train)).0
                    };
                    seen.push((at(1.0) - at(-1.0)) / f64::from(2.0 * step));
                }
                net.params_mut()[index].data = before.clone();
                let close =
                    |d: &f64| (d - slope).abs() < 0.03 * (slope.abs() + scale / f64::from(size)) + 2e-3;
                assert!(
                    seen.iter().any(close),
                    "{label} ({way}): {slope}, differences {seen:?}, scale {scale}"
                );
            }
        }
    }
}

#[test]
fn judged_with_running_statistics_it_is_the_network_that_it_gives_back() {
    for (name, network) in networks() {
        let mut net = Net::new(&network).unwrap();
        let images = numbers(3 * net.image(), 51, 1.0);
        net.forward(&images, Mode::Train);
        let size = net.image();
        let logits = net.forward(&images, Mode::Eval).to_vec();
        let folded = fold(&net.network()).unwrap();
        let dense = Dense::new(&folded).unwrap();
        for (image, got) in images.chunks_exact(size).zip(logits.chunks_exact(net.classes())) {
            for (a, b) in dense.forward(image).iter().zip(got) {
                assert!((a - b).abs() < 1e-4 * (1.0 + a.abs()), "{name}: {a} {b}");
            }
        }
    }
}

#[test]
fn numbers_do_not_depend_on_threads() {
    for (name, network) in networks() {
        let mut seen: Vec<Vec<u32>> = vec![];
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut net = Net::new(&network).unwrap();
                let images = numbers(21 * net.image(), 52, 1.0);
                let gradient = functional(net.forward(&images, Mode::Train)).1;
                net.backward(&gradient);
                seen.push(net.params().iter().flat_map(|p| &p.gradient).map(|g| g.to_bits()).collect());
            });
        }
        assert!(seen[0] == seen[1] && seen[0] == seen[2], "{name}");
    }
}
