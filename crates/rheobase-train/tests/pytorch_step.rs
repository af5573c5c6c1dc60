//! One training step of ResNet-20 against PyTorch's on the same weights and images (golden/pytorch_step.py).
#![allow(clippy::unwrap_used)]

use rheobase_core::network::{Op, Threshold, zoo};
use rheobase_core::random::Stream;
use rheobase_train::loss;
use rheobase_train::net::{Mode, Net};
use rheobase_train::optimiser::Sgd;

const BATCH: usize = 32;

/// FNV-1a.
fn purpose(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

fn signed(name: &str, n: usize) -> Vec<f64> {
    let mut stream = Stream::new(20, purpose(name));
    (0..n).map(|_| 2.0 * stream.uniform() - 1.0).collect()
}

fn scaled(name: &str, n: usize, offset: f64, scale: f64) -> Vec<f32> {
    signed(name, n).iter().map(|u| (offset + scale * u) as f32).collect()
}

#[test]
fn a_step_of_resnet20_is_pytorchs() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("golden/pytorch_step.json")).unwrap();
    let mut network = zoo::random("resnet20", 10, None, 4, 0).unwrap();
    for node in &mut network.nodes {
        let name = |field: &str| format!("{}.{field}", node.name);
        match &mut node.op {
            Op::Conv2d(c) => {
                let fan_in: usize = c.weight.shape[1..].iter().product();
                let scale = (6.0 / fan_in as f64).sqrt();
                c.weight.data = scaled(&name("weight"), c.weight.data.len(), 0.0, scale);
            }
            Op::Linear(l) => {
                let scale = (6.0 / l.weight.shape[1] as f64).sqrt();
                l.weight.data = scaled(&name("weight"), l.weight.data.len(), 0.0, scale);
                l.bias = Some(scaled(&name("bias"), 10, 0.0, 0.1));
            }
            Op::BatchNorm(b) => {
                b.scale = scaled(&name("weight"), b.scale.len(), 1.0, 0.2);
                b.shift = scaled(&name("bias"), b.shift.len(), 0.0, 0.1);
            }
            Op::Activation(a) => a.threshold = Some(Threshold::Layer(1.5)),
            _ => {}
        }
    }
    let images = scaled("images", BATCH * 32 * 32 * 3, 0.0, 2.0);
    let labels: Vec<usize> = (0..BATCH).map(|i| i % 10).collect();
    let mut net = Net::new(&network).unwrap();
    let mut gradient = vec![];
    let loss = loss::cross_entropy(net.forward(&images, Mode::Train), &labels, 0.0, &mut gradient);
    let want = golden["loss"].as_f64().unwrap();
    assert!((loss / want - 1.0).abs() < 1e-4, "loss {loss}, PyTorch {want}");
    net.backward(&gradient);
    let mut sgd = Sgd::new(net.params(), 0.9, 5e-4);
    sgd.step(net.params_mut(), 0.1);
    let after = net.network();
    let mut checked = 0;
    for node in &after.nodes {
        let fields: Vec<(&str, &[f32])> = match &node.op {
            Op::Conv2d(c) => vec![("weight", &c.weight.data)],
            Op::Linear(l) => vec![("weight", &l.weight.data), ("bias", l.bias.as_deref().unwrap())],
            Op::BatchNorm(b) => vec![("weight", &b.scale), ("bias", &b.shift)],
            Op::Activation(a) => match &a.threshold {
                Some(Threshold::Layer(t)) => vec![("up", std::slice::from_ref(t))],
                _ => unreachable!(),
            },
            _ => vec![],
        };
        for (field, numbers) in fields {
            let name = format!("{}.{field}", node.name);
            let want = &golden["params"][&name];
            let norm = numbers.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let wanted = want["norm"].as_f64().unwrap_or_else(|| panic!("PyTorch has no {name}"));
            assert!((norm / wanted - 1.0).abs() < 1e-4, "{name}: norm {norm}, PyTorch {wanted}");
            let typical = wanted / (numbers.len() as f64).sqrt();
            for (index, value) in want["values"].as_object().unwrap() {
                let (got, value) =
                    (f64::from(numbers[index.parse::<usize>().unwrap()]), value.as_f64().unwrap());
                assert!(
                    (got - value).abs() < 1e-4 * value.abs().max(typical),
                    "{name}[{index}]: {got}, PyTorch {value}"
                );
                checked += 1;
            }
        }
    }
    assert_eq!(
        golden["params"].as_object().unwrap().len(),
        22 + 2 + 2 * 21 + 19 - 1,
        "every parameter was compared"
    );
    assert!(checked > 500, "{checked}");
}
