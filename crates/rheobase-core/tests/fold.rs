//! A folded network computes what the network did.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use rheobase_core::ann::Dense;
use rheobase_core::network::fold::fold;
use rheobase_core::network::op::*;
use rheobase_core::network::zoo::{self, Field};
use rheobase_core::{Network, Tensor};

/// A source of numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn float(&mut self) -> f32 {
        self.roll(2001) as f32 / 1000.0 - 1.0
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    fn tensor(&mut self, shape: &[usize]) -> Tensor {
        Tensor::new(shape, self.floats(shape.iter().product())).unwrap()
    }

    fn norm(&mut self, c: usize) -> Op {
        let var = (0..c).map(|_| self.float().abs() + 0.1).collect();
        Op::BatchNorm(BatchNorm {
            scale: self.floats(c),
            shift: self.floats(c),
            mean: self.floats(c),
            var,
            eps: 1e-3,
        })
    }

    fn conv(&mut self, c: usize) -> Op {
        let groups = if self.roll(2) == 0 { 1 } else { c };
        Op::Conv2d(Conv2d {
            weight: self.tensor(&[c, c / groups, 3, 3]),
            bias: (self.roll(2) == 0).then(|| self.floats(c)),
            stride: [1; 2],
            padding: [1; 4],
            dilation: [1; 2],
            groups,
        })
    }

    /// Nodes of one shape that read any earlier node, then a head with a norm behind it.
    fn network(&mut self) -> Network {
        let c = 1 + self.roll(4);
        let mut n = Network::new("random", [c, 4, 4]);
        for i in 0..12 {
            let from = n.nodes.len() - 1 - self.roll(n.nodes.len().min(3));
            let op = match self.roll(6) {
                0 => Op::Identity,
                1 | 2 => self.norm(c),
                3 => self.conv(c),
                4 => Op::Add,
                _ => Op::Activation(Activation {
                    kind: ActivationKind::Relu,
                    threshold: None,
                    start: Start::Half,
                }),
            };
            let other = self.roll(n.nodes.len());
            let inputs = if op == Op::Add { vec![from, other] } else { vec![from] };
            n.push(format!("node {i}"), op, &inputs);
        }
        let from = n.output;
        let head = n.push("head", Op::GlobalAverage, &[from]);
        let weight = self.tensor(&[3, c]);
        let linear = n.push("linear", Op::Linear(Linear { weight, bias: None }), &[head]);
        let norm = self.norm(3);
        let norm = n.push("norm", norm, &[linear]);
        n.push("end", Op::Identity, &[norm]);
        n
    }
}

fn same(network: &Network, folded: &Network, image: &[f32]) {
    let a = Dense::new(network).unwrap().forward(image);
    let b = Dense::new(folded).unwrap().forward(image);
    let size = a.iter().fold(1f32, |m, x| m.max(x.abs()));
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() <= 1e-4 * size, "{a} {b}");
    }
}

fn count(n: &Network, op: &str) -> usize {
    n.nodes.iter().filter(|n| n.op.name() == op).count()
}

proptest! {
    #[test]
    fn a_folded_network_computes_the_same(seed in any::<u64>()) {
        let mut dice = Dice(seed);
        let network = dice.network();
        let folded = fold(&network).unwrap();
        prop_assert_eq!(count(&folded, "BatchNorm") + count(&folded, "Identity"), 0);
        prop_assert_eq!(&fold(&folded).unwrap(), &folded);
        prop_assert!(folded.readers().iter().skip(1).all(|&n| n > 0));
        let image = dice.floats(network.input_shape().iter().product());
        same(&network, &folded, &image);
    }
}

#[test]
fn zoo_networks_fold_without_notes_and_compute_the_same() {
    for name in ["resnet20", "resnet20-pad", "cnn"] {
        let blueprint = zoo::blueprint(name, 10, None).unwrap();
        let mut network = blueprint.network;
        let mut dice = Dice(5);
        for p in &blueprint.parameters {
            let Some(numbers) = p.numbers(&mut network) else { continue };
            let fan_in = p.shape[1..].iter().product::<usize>() as f32;
            for x in numbers {
                *x = dice.float() / fan_in.sqrt();
                if p.field == Field::Var {
                    *x = x.abs() + 0.5;
                }
            }
        }
        let folded = fold(&network).unwrap();
        assert_eq!(folded.notes, network.notes);
        assert_eq!(network.nodes.len() - folded.nodes.len(), count(&network, "BatchNorm"));
        let image = dice.floats(network.input_shape().iter().product());
        same(&network, &folded, &image);
    }
}

#[test]
fn a_norm_behind_a_shared_layer_becomes_a_convolution_and_is_noted() {
    let mut dice = Dice(1);
    let mut n = Network::new("shared", [2, 4, 4]);
    let conv = dice.conv(2);
    let conv = n.push("conv", conv, &[0]);
    let same_value = n.push("dropout", Op::Identity, &[conv]);
    let norm = dice.norm(2);
    let norm = n.push("norm", norm, &[same_value]);
    n.push("unused", Op::Flatten, &[norm]);
    n.push("add", Op::Add, &[norm, conv]);
    n.push("gap", Op::GlobalAverage, &[5]);
    let folded = fold(&n).unwrap();
    let names: Vec<_> = folded.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["input", "conv", "norm", "add", "gap"]);
    assert_eq!(
        folded.notes,
        [
            "BatchNorm `norm` became a 1x1 depthwise convolution",
            "1 nodes that the output does not need dropped (`unused`, ...)"
        ]
    );
    same(&n, &folded, &dice.floats(32));
}

#[test]
fn numbers_that_fold_to_infinity_name_their_node() {
    let mut dice = Dice(1);
    let mut n = Network::new("t", [1, 4, 4]);
    let conv = dice.conv(1);
    n.push("conv", conv, &[0]);
    let huge =
        BatchNorm { scale: vec![1e30], shift: vec![0.0], mean: vec![1e30], var: vec![1e-30], eps: 0.0 };
    n.push("norm", Op::BatchNorm(huge), &[1]);
    n.push("gap", Op::GlobalAverage, &[2]);
    let e = fold(&n).unwrap_err().to_string();
    assert!(e.starts_with("node `conv`: "), "{e}");
}
