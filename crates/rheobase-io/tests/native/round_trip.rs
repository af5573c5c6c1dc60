//! Everything of a network survives the file.

use proptest::prelude::*;
use rheobase_core::network::op::*;
use rheobase_core::network::{shape, zoo};
use rheobase_core::samples::Normalisation;
use rheobase_core::{Network, Tensor};
use rheobase_io::{export, import};

/// A source of numbers for random networks.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    /// Any finite number, subnormals and -0 among them.
    fn float(&mut self) -> f32 {
        loop {
            let x = f32::from_bits((self.roll(1 << 16) << 16 | self.roll(1 << 16)) as u32);
            if x.is_finite() {
                return x;
            }
        }
    }

    fn positive(&mut self) -> f32 {
        self.float().abs().max(f32::MIN_POSITIVE / 4.0)
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    fn coin(&mut self) -> bool {
        self.roll(2) == 1
    }

    fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let data = self.floats(shape.iter().product());
        Tensor::new(shape, data).unwrap()
    }

    fn activation(&mut self, [c, h, w]: [usize; 3]) -> Op {
        let threshold = match self.roll(3) {
            0 => None,
            1 => Some(Threshold::Layer(self.positive())),
            _ => Some(Threshold::Channel((0..c).map(|_| self.positive()).collect())),
        };
        let kind = match self.roll(3) {
            0 if threshold.is_some() => ActivationKind::Qcfs { levels: 1 + self.roll(32) as u32 },
            1 => ActivationKind::Clip { ceiling: self.positive() },
            _ => ActivationKind::Relu,
        };
        let start = match self.roll(3) {
            0 => Start::Half,
            1 => Start::Zero,
            _ => Start::Neuron(self.floats(c * h * w).iter().map(|x| x.clamp(-1000.0, 1000.0)).collect()),
        };
        Op::Activation(Activation { kind, threshold, start })
    }

    fn op(&mut self, shape @ [c, _, _]: [usize; 3]) -> Op {
        match self.roll(10) {
            0 => Op::Identity,
            1 => Op::Shortcut(Shortcut { stride: [1, 1 + self.roll(2)], before: self.roll(3), after: 1 }),
            2 => Op::Pool(Pool {
                kind: match self.roll(3) {
                    0 => PoolKind::Max,
                    n => PoolKind::Average { count_padding: n == 1 },
                },
                kernel: [2, 3],
                stride: [1 + self.roll(2), 1],
                padding: [1, 0, 1, 2],
                ceil: self.coin(),
            }),
            3 | 4 => {
                let groups = if self.coin() { c } else { 1 };
                let out = groups * (1 + self.roll(3));
                let height = 1 + self.roll(2);
                Op::Conv2d(Conv2d {
                    weight: self.tensor(&[out, c / groups, height, 2]),
                    bias: self.coin().then(|| self.floats(out)),
                    stride: [1, 1 + self.roll(2)],
                    padding: [1, 2, self.roll(2), 3],
                    dilation: [1, 2],
                    groups,
                })
            }
            5 => Op::BatchNorm(BatchNorm {
                scale: self.floats(c),
                shift: self.floats(c),
                mean: self.floats(c),
                var: (0..c).map(|_| self.positive()).collect(),
                eps: 1e-5,
            }),
            _ => self.activation(shape),
        }
    }

    fn network(&mut self) -> Network {
        let mut n = Network::new("a \"name\"\n", [1 + self.roll(3), 3 + self.roll(4), 3 + self.roll(4)]);
        for i in 0..self.roll(8) {
            let shapes = shape::infer(&reduced(&n)).unwrap();
            let from = n.output;
            let op = self.op(shapes[from]);
            let a = n.push(format!("node {i}"), op, &[from]);
            if self.roll(4) == 0 {
                let join = if self.coin() { Op::Add } else { Op::Concat };
                n.push("join", join, &[a, a]);
            }
        }
        let shapes = shape::infer(&reduced(&n)).unwrap();
        let from = n.output;
        let head = if self.coin() { Op::GlobalAverage } else { Op::Flatten };
        let head = n.push("head", head, &[from]);
        let width = if n.nodes[head].op == Op::GlobalAverage {
            shapes[from][0]
        } else {
            shapes[from].iter().product()
        };
        let weight = self.tensor(&[3, width]);
        n.push("", Op::Linear(Linear { weight, bias: self.coin().then(|| vec![0.5; 3]) }), &[head]);
        if self.coin() {
            n.classes = vec!["ä".into(), String::new(), "c".into()];
        }
        if self.coin() {
            let c = n.input_shape()[0];
            let std = (0..c).map(|_| self.positive()).collect();
            n.normalisation = Some(Normalisation::new(self.floats(c), std).unwrap());
        }
        n.notes = (0..self.roll(3)).map(|i| format!("note {i}")).collect();
        n
    }
}

/// The network ended where its output is flat, so that shapes can be asked for.
fn reduced(n: &Network) -> Network {
    let mut n = n.clone();
    let from = n.output;
    n.push("", Op::GlobalAverage, &[from]);
    n
}

/// As text, so that -0 differs from 0.
fn exactly(n: &Network) -> String {
    format!("{n:?}")
}

proptest! {
    #[test]
    fn a_network_comes_back_to_the_bit(seed in any::<u64>()) {
        let network = Dice(seed).network();
        prop_assume!(network.check().is_ok());
        let bytes = export::native::to_bytes(&network).unwrap();
        let back = import::native::read_bytes(&bytes, "test").unwrap();
        prop_assert_eq!(exactly(&network), exactly(&back));
        prop_assert_eq!(bytes, export::native::to_bytes(&back).unwrap());
    }
}

#[test]
fn random_networks_reach_every_op() {
    let mut seen = std::collections::BTreeSet::new();
    let mut sound = 0;
    for seed in 0..500 {
        let n = Dice(seed).network();
        if n.check().is_ok() {
            sound += 1;
            seen.extend(n.nodes.iter().map(|n| n.op.name()));
        }
    }
    assert!(sound > 100, "{sound}");
    assert_eq!(seen.len(), 15, "{seen:?}");
}

#[test]
fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    std::fs::write(&path, "something older").unwrap();
    let network = zoo::random("cnn", 10, None, 4, 1).unwrap();
    export::native::write(&network, &path).unwrap();
    assert_eq!(import::native::read(&path).unwrap(), network);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);

    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    export::native::write(&network, &taken).unwrap_err();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
    let e = export::native::write(&network, folder.path().join("no/such/folder")).unwrap_err();
    assert!(e.to_string().ends_with("folder: no such file or directory"), "{e}");
}

#[test]
fn an_unsound_network_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut network = zoo::random("cnn", 10, None, 4, 1).unwrap();
    network.normalisation = Some(Normalisation { mean: vec![f32::NAN], std: vec![1.0] });
    export::native::write(&network, folder.path().join("x")).unwrap_err();
    network.normalisation = None;
    network.output = 99;
    export::native::write(&network, folder.path().join("x")).unwrap_err();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn the_models_of_the_project_are_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/digits-l4.safetensors");
    let network = import::native::read(path).unwrap();
    assert_eq!((network.name.as_str(), network.input_shape()), ("cnn", [1, 8, 8]));
    assert_eq!(network.classes, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert!(network.normalisation.is_some());
    let quantised = |op: &Op| matches!(op, Op::Activation(a) if a.kind == ActivationKind::Qcfs { levels: 4 } && a.start == Start::Half);
    assert_eq!(network.nodes.iter().filter(|n| quantised(&n.op)).count(), 6);
}
