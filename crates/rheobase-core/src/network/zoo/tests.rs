use super::*;
use crate::network::shape;

/// Parameters without thresholds, as PyTorch counts them, buffers apart.
fn trainable(b: &Blueprint) -> usize {
    b.parameters
        .iter()
        .filter(|p| !matches!(p.field, Field::Mean | Field::Var | Field::Threshold))
        .map(|p| p.shape.iter().product::<usize>())
        .sum()
}

#[test]
fn every_network_is_sound_at_every_usual_image_shape() {
    for arch in ZOO {
        for &input in arch.inputs {
            let b = blueprint(arch.name, arch.classes, Some(input)).unwrap();
            let shapes = shape::infer(&b.network).unwrap();
            assert_eq!(shapes[b.network.output], [arch.classes, 1, 1], "{}", arch.name);
        }
    }
}

#[test]
fn parameters_cover_their_nodes_and_no_name_is_used_twice() {
    for arch in ZOO {
        let b = blueprint(arch.name, arch.classes, None).unwrap();
        let mut network = b.network.clone();
        let mut seen = std::collections::BTreeSet::new();
        for p in &b.parameters {
            for name in &p.names {
                assert!(seen.insert(name.clone()), "{}: {name}", arch.name);
            }
            if p.field == Field::Threshold {
                assert!(matches!(network.nodes[p.node].op, Op::Activation(_)));
            } else {
                let n = p.shape.iter().product::<usize>();
                assert_eq!(p.numbers(&mut network).unwrap().len(), n, "{:?}", p.names);
            }
        }
    }
}

// Counts from PyTorch definitions of the same networks (sum of numel over `parameters()`).
#[test]
fn sizes_are_those_of_the_pytorch_networks() {
    let size = |name, classes, input| trainable(&blueprint(name, classes, input).unwrap());
    assert_eq!(size("resnet20-pad", 10, None), 269_722);
    assert_eq!(size("resnet56-pad", 10, None), 853_018);
    assert_eq!(size("resnet20", 100, None), 278_324);
    assert_eq!(size("resnet18", 10, None), 11_173_962);
    assert_eq!(size("resnet34", 1000, Some([3, 224, 224])), 21_789_992);
    assert_eq!(size("vgg16", 100, None), 34_015_396);
    assert_eq!(size("vgg16", 1000, Some([3, 224, 224])), 138_365_992);
    assert_eq!(size("cnn", 10, None), 51_706);
}

#[test]
fn an_unknown_network_names_the_known_ones() {
    let e = build("resnet21", 10, None).unwrap_err().to_string();
    assert!(e.starts_with("unknown network: `resnet21` (known: `vgg16`, `resnet18`"), "{e}");
}

#[test]
fn a_billion_classes_and_images_too_small_are_refused() {
    assert_eq!(build("vgg16", 1_000_000_000, None).unwrap_err().kind(), Kind::Limit);
    assert_eq!(build("vgg16", 10, Some([3, 1 << 40, 32])).unwrap_err().kind(), Kind::Limit);
    let e = build("vgg16", 10, Some([3, 8, 8])).unwrap_err();
    assert_eq!(
        e.to_string(),
        "node `layer4.12`: the image does not suit `vgg16`: a value of 512x0x0 (the image is 3x8x8)"
    );
}

#[test]
fn random_weights_depend_on_the_seed_alone() {
    let a = random("cnn", 10, None, 4, 7).unwrap();
    assert_eq!(a, random("cnn", 10, None, 4, 7).unwrap());
    let b = random("cnn", 10, None, 4, 8).unwrap();
    let weights = |n: &Network| match &n.nodes[1].op {
        Op::Conv2d(conv) => conv.weight.data.clone(),
        _ => unreachable!(),
    };
    assert_ne!(weights(&a), weights(&b));
    let bound = (6.0f32 / 9.0).sqrt();
    assert!(weights(&a).iter().all(|w| w.abs() <= bound));
    assert!(weights(&a).iter().any(|w| w.abs() > bound / 2.0));
}
